"""CIFAR-10 nets: Caffe's quick and full examples, and a small VGG with batch normalisation."""

from collections.abc import Callable
from typing import Any

from blobnet.zoo.generators.netspec import Model, NetSpec, rates, solver

CLASSES = 10
MEAN = {"mean_file": "cifar10_mean.binaryproto"}


def cifar10_model(
    name: str,
    body: Callable[[NetSpec, str], str],
    solver: str,
    *,
    batch_size: int = 100,
    transform: dict = MEAN,
    augment: dict | None = None,
    **defaults,
) -> Model:
    """The nets of ``body``, which adds the layers between 32 x 32 images and the scores of the classes.

    transform  what happens to every image; augment: what happens to those for training besides
    defaults   of NetSpec
    """
    train_val = NetSpec(name, training=True, **defaults)
    sources = {
        "TRAIN": ("cifar10_train_lmdb", batch_size, {**(augment or {}), **transform}),
        "TEST": ("cifar10_test_lmdb", 100, transform),
    }
    scores = body(train_val, train_val.databases("cifar", sources, ["data", "label"]))
    train_val.accuracy("accuracy", scores)
    train_val.softmax_loss("loss", scores)

    deploy = NetSpec(name, training=False, **defaults)
    scores = body(deploy, deploy.image_input(1, 3, 32, transform))
    deploy.add("Softmax", "prob", scores)
    return Model(train_val.param, deploy.param, solver)


def quick() -> Model:
    """Caffe's quick example: three convolutions, two fully connected layers."""

    def body(net: NetSpec, data: str) -> str:
        x = net.convolution("conv1", data, 32, 5, pad=2, weight_filler=_gaussian(0.0001))
        x = net.relu("relu1", net.pool("pool1", x, "MAX", 3, 2))
        for stage, channels in ((2, 32), (3, 64)):
            x = net.convolution(f"conv{stage}", x, channels, 5, pad=2, weight_filler=_gaussian(0.01))
            x = net.pool(f"pool{stage}", net.relu(f"relu{stage}", x), "AVE", 3, 2)
        x = net.inner_product("ip1", x, 64, weight_filler=_gaussian(0.1))
        return net.inner_product("ip2", x, CLASSES, weight_filler=_gaussian(0.1))

    recipe = _recipe(
        "4,000 iterations at a rate of 0.001, then 1,000 at a tenth of it.",
        test_interval=500,
        display=100,
        stepvalue=[4000],
        max_iter=5000,
        snapshot=1000,
        snapshot_prefix="cifar10_quick",
    )
    return cifar10_model("CIFAR10_quick", body, recipe, param=[{"lr_mult": 1}, {"lr_mult": 2}], **_BIASED)


def full() -> Model:
    """Caffe's full example: three convolutions with local response normalisation, one fully connected layer."""

    def body(net: NetSpec, data: str) -> str:
        x = net.convolution("conv1", data, 32, 5, pad=2, weight_filler=_gaussian(0.0001))
        x = _normalize(net, "norm1", net.relu("relu1", net.pool("pool1", x, "MAX", 3, 2)))
        x = net.relu("relu2", net.convolution("conv2", x, 32, 5, pad=2))
        x = _normalize(net, "norm2", net.pool("pool2", x, "AVE", 3, 2))
        x = net.relu("relu3", net.convolution("conv3", x, 64, 5, pad=2, param=[]))
        x = net.pool("pool3", x, "AVE", 3, 2)
        return net.inner_product("ip1", x, CLASSES, param=rates((1, 250), (2, 0)))

    recipe = _recipe(
        "60,000 iterations at a rate of 0.001, then 5,000 at a tenth and 5,000 at a hundredth of it.",
        test_interval=1000,
        display=200,
        stepvalue=[60000, 65000],
        max_iter=70000,
        snapshot=5000,
        snapshot_prefix="cifar10_full",
    )
    defaults: dict[str, Any] = {**_BIASED, "param": [{"lr_mult": 1}, {"lr_mult": 2}], "weight_filler": _gaussian(0.01)}
    return cifar10_model("CIFAR10_full", body, recipe, **defaults)


def vgg() -> Model:
    """VGG's stages of 3 x 3 convolutions in small, each convolution batch-normalised."""

    def body(net: NetSpec, x: str) -> str:
        for stage, channels in enumerate((64, 128, 256), start=1):
            for place in (1, 2):
                x = net.convolution(f"conv{stage}_{place}", x, channels, 3, pad=1, bias_term=False)
                x = batch_normalized(net, f"bn{stage}_{place}", f"scale{stage}_{place}", x)
                x = net.relu(f"relu{stage}_{place}", x)
            x = net.pool(f"pool{stage}", x, "MAX", 2, 2)
        x = net.relu("relu4", net.inner_product("fc4", x, 256))
        return net.inner_product("fc5", net.dropout("drop4", x, 0.5), CLASSES)

    recipe = solver(
        "Our recipe: 50 epochs of 50,000 images with a rate that falls linearly.",
        test_iter=[100],
        test_interval=1000,
        test_initialization=False,
        base_lr=0.05,
        lr_policy="poly",
        power=1,
        display=100,
        average_loss=100,
        max_iter=25000,
        momentum=0.9,
        weight_decay=0.0005,
        snapshot=5000,
        snapshot_prefix="cifar10_vgg",
        random_seed=1,
    )
    return cifar10_model("CIFAR10_VGG", body, recipe, **CENTRED, weight_filler={"type": "msra"})


# For nets with batch normalisation: values of about unit variance, mirrored and moved by up to four pixels.
CENTRED: dict[str, Any] = {
    "transform": {"scale": 1 / 64, **MEAN},
    "augment": {"mirror": True, "pad": 4, "crop_size": 32},
}


def batch_normalized(net: NetSpec, name: str, scale_name: str, bottom: str, top: str | None = None) -> str:
    """BatchNorm and the Scale that learns its gain and offset, in place unless a top is named."""
    top = net.add("BatchNorm", name, bottom, top=top or bottom, batch_norm_param={"moving_average_fraction": 0.95})
    return net.add("Scale", scale_name, top, top=top, scale_param={"bias_term": True})


_BIASED: dict[str, Any] = {"bias_filler": {"type": "constant"}}


def _gaussian(std: float) -> dict:
    return {"type": "gaussian", "std": std}


def _normalize(net: NetSpec, name: str, bottom: str) -> str:
    within = {"local_size": 3, "alpha": 5e-5, "beta": 0.75, "norm_region": "WITHIN_CHANNEL"}
    return net.add("LRN", name, bottom, lrn_param=within)


def _recipe(comment: str, **fields) -> str:
    """What the solvers of Caffe's two examples share."""
    stated = {"base_lr": 0.001, "lr_policy": "multistep", "gamma": 0.1, "momentum": 0.9, "weight_decay": 0.004}
    return solver(comment, test_iter=[100], **stated, **fields, random_seed=1)


MODELS = {"cifar10_quick": quick, "cifar10_full": full, "cifar10_vgg": vgg}
