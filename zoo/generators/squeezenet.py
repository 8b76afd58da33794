"""SqueezeNet 1.0 and 1.1 (Iandola et al. 2016, arXiv:1602.07360), with the layer names of the authors' models."""

from collections.abc import Sequence

from blobnet.zoo.generators.imagenet import CLASSES, MEAN_COLOR, imagenet_model
from blobnet.zoo.generators.netspec import Model, NetSpec, solver

SQUEEZED = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}


def squeezenet1_0() -> Model:
    train, test = ({"include": [{"phase": phase}]} for phase in ("TRAIN", "TEST"))
    return _model("SqueezeNet 1.0", (96, 7), (1, 4, 8), pad=1, loss_rule=train, accuracy_rule=test)


def squeezenet1_1() -> Model:
    """2.4 times fewer multiply-adds: a smaller first convolution, and pooling earlier."""
    return _model("SqueezeNet 1.1", (64, 3), (1, 3, 5), pad=0, loss_rule={}, accuracy_rule={"include": []})


def _model(
    name: str, first: tuple[int, int], pooled: Sequence[int], pad: int, loss_rule: dict, accuracy_rule: dict
) -> Model:
    """
    first   outputs and kernel of the first convolution
    pooled  stages that end in pooling
    pad     of the last convolution
    """

    def body(net: NetSpec, data: str) -> str:
        x = net.relu("relu_conv1", net.convolution("conv1", data, *first, stride=2))
        x = net.pool("pool1", x, "MAX", 3, 2)
        for stage, squeezed in SQUEEZED.items():
            x = _fire(net, f"fire{stage}", x, squeezed)
            if stage in pooled:
                x = net.pool(f"pool{stage}", x, "MAX", 3, 2)
        x = net.dropout("drop9", x, 0.5)
        classifier = {"weight_filler": {"type": "gaussian", "std": 0.01}}
        x = net.relu("relu_conv10", net.convolution("conv10", x, CLASSES, 1, pad=pad, **classifier))
        return net.global_average("pool10", x)

    def head(net: NetSpec, scores: str) -> None:
        net.softmax_loss("loss", scores, **loss_rule)
        net.accuracy("accuracy", scores, **accuracy_rule)
        net.accuracy("accuracy_top5", scores, top_k=5, **accuracy_rule)

    recipe = solver(
        "Gradients of 16 batches of 32 images are summed before an update. A test pass covers 50,000 images.",
        test_iter=[2000],
        test_interval=1000,
        test_initialization=False,
        base_lr=0.04,
        lr_policy="poly",
        power=1,
        iter_size=16,
        display=40,
        average_loss=40,
        max_iter=170000,
        momentum=0.9,
        weight_decay=0.0002,
        snapshot=1000,
        snapshot_prefix=name.lower().replace(" ", "").replace(".", "_"),
    )
    return imagenet_model(
        name,
        body,
        recipe,
        size=227,
        batch_sizes=(32, 25),
        transform=MEAN_COLOR,
        mirror=False,
        head=head,
        weight_filler={"type": "xavier"},
    )


def _fire(net: NetSpec, name: str, bottom: str, squeezed: int) -> str:
    """Squeeze to few channels, then expand each four times, by kernels of 1 and of 3."""

    def convolution(part: str, bottom: str, num_output: int, kernel_size: int, **options) -> str:
        top = net.convolution(f"{name}/{part}", bottom, num_output, kernel_size, **options)
        return net.relu(f"{name}/relu_{part}", top)

    x = convolution("squeeze1x1", bottom, squeezed, 1)
    expanded = [convolution("expand1x1", x, 4 * squeezed, 1), convolution("expand3x3", x, 4 * squeezed, 3, pad=1)]
    return net.add("Concat", f"{name}/concat", *expanded)


MODELS = {"squeezenet1_0": squeezenet1_0, "squeezenet1_1": squeezenet1_1}
