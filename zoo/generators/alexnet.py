"""AlexNet and CaffeNet (Krizhevsky, Sutskever and Hinton 2012), with the layer names of BVLC's models."""

from blobnet.zoo.generators.imagenet import CLASSES, MEAN_COLOR, MEAN_IMAGE, imagenet_model
from blobnet.zoo.generators.netspec import Model, NetSpec, rates, solver


def alexnet() -> Model:
    """Normalises the responses before it pools them."""

    def shrink(net: NetSpec, stage: int, bottom: str) -> str:
        return _pool(net, stage, _normalize(net, stage, bottom))

    return _model("AlexNet", shrink, bias=0.1)


def caffenet() -> Model:
    """Pools the responses before it normalises them."""

    def shrink(net: NetSpec, stage: int, bottom: str) -> str:
        return _normalize(net, stage, _pool(net, stage, bottom))

    return _model("CaffeNet", shrink, bias=1)


def _normalize(net: NetSpec, stage: int, bottom: str) -> str:
    return net.add("LRN", f"norm{stage}", bottom, lrn_param={"local_size": 5, "alpha": 0.0001, "beta": 0.75})


def _pool(net: NetSpec, stage: int, bottom: str) -> str:
    return net.pool(f"pool{stage}", bottom, "MAX", 3, 2)


def _model(name: str, shrink, bias: float) -> Model:
    biased = {"bias_filler": {"type": "constant", "value": bias}}
    wide = {**biased, "weight_filler": {"type": "gaussian", "std": 0.005}}

    def body(net: NetSpec, data: str) -> str:
        def convolution(stage: int, bottom: str, num_output: int, kernel_size: int, **options) -> str:
            return net.relu(f"relu{stage}", net.convolution(f"conv{stage}", bottom, num_output, kernel_size, **options))

        x = shrink(net, 1, convolution(1, data, 96, 11, stride=4))
        x = shrink(net, 2, convolution(2, x, 256, 5, pad=2, group=2, **biased))
        x = convolution(3, x, 384, 3, pad=1)
        x = convolution(4, x, 384, 3, pad=1, group=2, **biased)
        x = _pool(net, 5, convolution(5, x, 256, 3, pad=1, group=2, **biased))
        for stage in (6, 7):
            x = net.relu(f"relu{stage}", net.inner_product(f"fc{stage}", x, 4096, **wide))
            x = net.dropout(f"drop{stage}", x, 0.5)
        return net.inner_product("fc8", x, CLASSES)

    def head(net: NetSpec, scores: str) -> None:
        net.accuracy("accuracy", scores)
        net.softmax_loss("loss", scores)

    recipe = solver(
        "90 epochs of 1,281,167 images; a test pass covers the 50,000 images of the validation set.",
        test_iter=[1000],
        test_interval=1000,
        base_lr=0.01,
        lr_policy="step",
        gamma=0.1,
        stepsize=100000,
        display=20,
        max_iter=450000,
        momentum=0.9,
        weight_decay=0.0005,
        snapshot=10000,
        snapshot_prefix=name.lower(),
    )
    return imagenet_model(
        name,
        body,
        recipe,
        size=227,
        batch_sizes=(256, 50),
        transform=MEAN_IMAGE,
        deploy_transform=MEAN_COLOR,
        head=head,
        param=rates((1, 1), (2, 0)),
        weight_filler={"type": "gaussian", "std": 0.01},
        bias_filler={"type": "constant"},
    )


MODELS = {"alexnet": alexnet, "caffenet": caffenet}
