"""GoogLeNet (Szegedy et al. 2014, arXiv:1409.4842), with the layer names of BVLC's model."""

from blobnet.zoo.generators.imagenet import CLASSES, MEAN_COLOR, imagenet_model
from blobnet.zoo.generators.netspec import Model, NetSpec, rates, solver

# 1x1, 3x3 reduced and expanded, 5x5 reduced and expanded, projection of the pooling branch (table 1)
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
AUXILIARY = {"4a": "loss1", "4d": "loss2"}
POOLED = {"3b": "pool3/3x3_s2", "4e": "pool4/3x3_s2"}
_UNBIASED = {"bias_filler": {"type": "constant"}}


def googlenet() -> Model:
    def body(net: NetSpec, data: str) -> str:
        x = _convolution(net, "conv1", "7x7_s2", data, 64, 7, pad=3, stride=2, relu="relu_7x7")
        x = _normalize(net, "pool1/norm1", net.pool("pool1/3x3_s2", x, "MAX", 3, 2))
        x = _convolution(net, "conv2", "3x3_reduce", x, 64, 1)
        x = _normalize(net, "conv2/norm2", _convolution(net, "conv2", "3x3", x, 192, 3, pad=1))
        x = net.pool("pool2/3x3_s2", x, "MAX", 3, 2)
        for name, widths in INCEPTIONS.items():
            x = _inception(net, f"inception_{name}", x, *widths)
            if name in AUXILIARY and net.training:
                _auxiliary_classifier(net, AUXILIARY[name], x)
            if name in POOLED:
                x = net.pool(POOLED[name], x, "MAX", 3, 2)
        x = net.dropout("pool5/drop_7x7_s1", net.pool("pool5/7x7_s1", x, "AVE", 7, 1), 0.4)
        return net.inner_product("loss3/classifier", x, CLASSES, **_UNBIASED)

    def head(net: NetSpec, scores: str) -> None:
        _losses(net, "loss3", "loss3/loss3", scores, weight=1)

    recipe = solver(
        "60 epochs of 1,281,167 images. A test pass covers the 50,000 images of the validation set.",
        test_iter=[1000],
        test_interval=4000,
        test_initialization=False,
        base_lr=0.01,
        lr_policy="poly",
        power=0.5,
        display=40,
        average_loss=40,
        max_iter=2400000,
        momentum=0.9,
        weight_decay=0.0002,
        snapshot=40000,
        snapshot_prefix="googlenet",
    )
    return imagenet_model(
        "GoogleNet",
        body,
        recipe,
        size=224,
        batch_sizes=(32, 50),
        transform=MEAN_COLOR,
        head=head,
        param=rates((1, 1), (2, 0)),
        weight_filler={"type": "xavier"},
        bias_filler={"type": "constant", "value": 0.2},
    )


def _convolution(net: NetSpec, group: str, part: str, bottom: str, *shape: int, relu: str = "", **options) -> str:
    top = net.convolution(f"{group}/{part}", bottom, *shape, **options)
    return net.relu(f"{group}/{relu or f'relu_{part}'}", top)


def _normalize(net: NetSpec, name: str, bottom: str) -> str:
    return net.add("LRN", name, bottom, lrn_param={"local_size": 5, "alpha": 0.0001, "beta": 0.75})


def _inception(
    net: NetSpec, name: str, x: str, one: int, reduce3: int, three: int, reduce5: int, five: int, projected: int
) -> str:
    """Kernels of 1, 3 and 5 and a pooling side by side, the larger ones behind a reduction of channels."""
    branches = [_convolution(net, name, "1x1", x, one, 1)]
    y = _convolution(net, name, "3x3_reduce", x, reduce3, 1)
    branches.append(_convolution(net, name, "3x3", y, three, 3, pad=1))
    y = _convolution(net, name, "5x5_reduce", x, reduce5, 1)
    branches.append(_convolution(net, name, "5x5", y, five, 5, pad=2))
    y = net.pool(f"{name}/pool", x, "MAX", 3, 1, pad=1)
    branches.append(_convolution(net, name, "pool_proj", y, projected, 1))
    return net.add("Concat", f"{name}/output", *branches)


def _auxiliary_classifier(net: NetSpec, name: str, x: str) -> None:
    """Feeds gradient into the middle of the net, in training only (section 5)."""
    x = _convolution(net, name, "conv", net.pool(f"{name}/ave_pool", x, "AVE", 5, 3), 128, 1)
    x = net.relu(f"{name}/relu_fc", net.inner_product(f"{name}/fc", x, 1024))
    x = net.dropout(f"{name}/drop_fc", x, 0.7)
    scores = net.inner_product(f"{name}/classifier", x, CLASSES, **_UNBIASED)
    _losses(net, name, f"{name}/loss", scores, weight=0.3)


def _losses(net: NetSpec, group: str, loss: str, scores: str, weight: float) -> None:
    net.softmax_loss(loss, scores, top=f"{group}/loss{group[-1]}", loss_weight=[weight])
    net.accuracy(f"{group}/top-1", scores)
    net.accuracy(f"{group}/top-5", scores, top_k=5)


MODELS = {"googlenet": googlenet}
