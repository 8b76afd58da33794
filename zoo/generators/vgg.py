"""VGG (Simonyan and Zisserman 2014, arXiv:1409.1556): configurations A, B, D, E, with the authors' layer names."""

from functools import partial

from blobnet.zoo.generators.imagenet import CLASSES, imagenet_model
from blobnet.zoo.generators.netspec import Model, NetSpec, rates, solver

CHANNELS = (64, 128, 256, 512, 512)
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
MEAN = {"mean_value": [103.939, 116.779, 123.68]}


def vgg(layers: int) -> Model:
    """Five stages of 3 x 3 convolutions with pooling after each, and three fully connected layers.

    The weights start by He's rule, with which the deep configurations train without being grown from A.
    """

    def body(net: NetSpec, x: str) -> str:
        for stage, (depth, channels) in enumerate(zip(DEPTHS[layers], CHANNELS, strict=True), start=1):
            for place in range(1, depth + 1):
                x = net.convolution(f"conv{stage}_{place}", x, channels, 3, pad=1)
                x = net.relu(f"relu{stage}_{place}", x)
            x = net.pool(f"pool{stage}", x, "MAX", 2, 2)
        for stage in (6, 7):
            x = net.relu(f"relu{stage}", net.inner_product(f"fc{stage}", x, 4096))
            x = net.dropout(f"drop{stage}", x, 0.5)
        return net.inner_product("fc8", x, CLASSES)

    recipe = solver(
        "74 epochs of 1,281,167 images in batches of 256 (section 3.1): gradients of 8 batches of 32 are summed.",
        test_iter=[2000],
        test_interval=5000,
        test_initialization=False,
        base_lr=0.01,
        lr_policy="step",
        gamma=0.1,
        stepsize=100000,
        iter_size=8,
        display=20,
        average_loss=20,
        max_iter=370000,
        momentum=0.9,
        weight_decay=0.0005,
        snapshot=10000,
        snapshot_prefix=f"vgg{layers}",
    )
    return imagenet_model(
        f"VGG-{layers}",
        body,
        recipe,
        size=224,
        batch_sizes=(32, 25),
        transform=MEAN,
        param=rates((1, 1), (2, 0)),
        weight_filler={"type": "msra"},
        bias_filler={"type": "constant"},
    )


MODELS = {f"vgg{layers}": partial(vgg, layers) for layers in DEPTHS}
