"""ResNet (He et al. 2015, arXiv:1512.03385) and its pre-activation form (2016, arXiv:1603.05027).

Those for ImageNet have the layer names of KaimingHe/deep-residual-networks; those for CIFAR-10 follow suit.
Every change of shape is a projection (option B of section 3.3).
"""

from collections.abc import Iterator
from functools import partial

from blobnet.zoo.generators import cifar10, imagenet
from blobnet.zoo.generators.cifar10 import batch_normalized
from blobnet.zoo.generators.netspec import Model, NetSpec, solver

IMAGENET_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
CIFAR_DEPTHS = (20, 32, 44, 56, 110)


class Residual:
    """Stages of residual blocks: x + F(x), or a projection of x + F(x) where the shape changes.

    bottleneck   F is 1 x 1, 3 x 3, 1 x 1 with four times as many outputs, instead of 3 x 3 twice
    preactivate  F begins with BatchNorm and ReLU, and nothing stands behind the sum
    """

    def __init__(self, net: NetSpec, *, bottleneck: bool, preactivate: bool):
        self.net = net
        self.bottleneck = bottleneck
        self.preactivate = preactivate

    def stage(self, names: Iterator[str], x: str, width: int, stride: int, projects: bool) -> str:
        """A block for each name; the first has the stride, and projects where it or the channels ask for it."""
        for name in names:
            x = (self._preactivated if self.preactivate else self._activated)(name, x, width, stride, projects)
            stride, projects = 1, False
        return x

    def _branch(self, width: int, stride: int) -> list[tuple[int, int, int]]:
        """Outputs, kernel and stride of the convolutions of F."""
        if self.bottleneck:
            return [(width, 1, stride), (width, 3, 1), (4 * width, 1, 1)]
        return [(width, 3, stride), (width, 3, 1)]

    def _convolution(self, name: str, x: str, num_output: int, kernel_size: int, stride: int) -> str:
        pad = kernel_size // 2
        return self.net.convolution(f"res{name}", x, num_output, kernel_size, pad=pad, stride=stride, bias_term=False)

    def _normalized(self, name: str, x: str, top: str | None = None) -> str:
        return batch_normalized(self.net, f"bn{name}", f"scale{name}", x, top)

    def _activated(self, name: str, x: str, width: int, stride: int, projects: bool) -> str:
        shortcut, branch = x, self._branch(width, stride)
        if projects:
            projected = self._convolution(f"{name}_branch1", x, branch[-1][0], 1, stride)
            shortcut = self._normalized(f"{name}_branch1", projected)
        for part, convolution in zip("abc", branch, strict=False):
            place = f"{name}_branch2{part}"
            x = self._normalized(place, self._convolution(place, x, *convolution))
            if convolution is not branch[-1]:
                self.net.relu(f"res{place}_relu", x)
        return self.net.relu(f"res{name}_relu", self.net.add("Eltwise", f"res{name}", shortcut, x))

    def _preactivated(self, name: str, x: str, width: int, stride: int, projects: bool) -> str:
        shortcut, branch = x, self._branch(width, stride)
        for part, convolution in zip("abc", branch, strict=False):
            place = f"{name}_branch2{part}"
            x = self.net.relu(f"res{place}_relu", self._normalized(place, x, top=f"bn{place}"))
            if part == "a" and projects:
                shortcut = self._convolution(f"{name}_branch1", x, branch[-1][0], 1, stride)
            x = self._convolution(place, x, *convolution)
        return self.net.add("Eltwise", f"res{name}", shortcut, x)


def imagenet_resnet(layers: int, preactivate: bool = False) -> Model:
    """7 x 7 convolution, max pooling, four stages of blocks, global average, classifier."""
    bottleneck = layers >= 50

    def body(net: NetSpec, data: str) -> str:
        residual = Residual(net, bottleneck=bottleneck, preactivate=preactivate)
        biased = layers == 50 and not preactivate  # as published
        x = net.convolution("conv1", data, 64, 7, pad=3, stride=2, bias_term=biased)
        x = net.relu("conv1_relu", batch_normalized(net, "bn_conv1", "scale_conv1", x))
        x = net.pool("pool1", x, "MAX", 3, 2)
        for stage, blocks in enumerate(IMAGENET_DEPTHS[layers], start=2):
            numbered = layers > 100 and stage in (3, 4)
            x = residual.stage(
                _block_names(stage, blocks, numbered),
                x,
                width=64 << (stage - 2),
                stride=1 if stage == 2 else 2,
                projects=bottleneck or stage > 2,
            )
        return _classify(net, x, preactivate, "pool5", imagenet.CLASSES)

    name = f"{'PreResNet' if preactivate else 'ResNet'}-{layers}"
    recipe = solver(
        "120 epochs of 1,281,167 images in batches of 256: gradients of 8 batches of 32 are summed.",
        test_iter=[2000],
        test_interval=5000,
        test_initialization=False,
        base_lr=0.1,
        lr_policy="multistep",
        gamma=0.1,
        stepvalue=[150000, 300000, 450000],
        iter_size=8,
        display=20,
        average_loss=20,
        max_iter=600000,
        momentum=0.9,
        weight_decay=0.0001,
        snapshot=10000,
        snapshot_prefix=name.lower().replace("-", ""),
    )
    return imagenet.imagenet_model(
        name,
        body,
        recipe,
        size=224,
        batch_sizes=(32, 25),
        transform=imagenet.MEAN_COLOR,
        deploy_batch=1,
        weight_filler={"type": "msra"},
    )


def cifar_resnet(layers: int, preactivate: bool = False, short: bool = False) -> Model:
    """3 x 3 convolution, three stages of n blocks, global average, classifier: 6 n + 2 layers (section 4.2).

    short  train by our recipe, which takes an eighth of the paper's iterations
    """
    blocks = (layers - 2) // 6

    def body(net: NetSpec, data: str) -> str:
        residual = Residual(net, bottleneck=False, preactivate=preactivate)
        x = net.convolution("conv1", data, 16, 3, pad=1, bias_term=False)
        if not preactivate:
            x = net.relu("conv1_relu", batch_normalized(net, "bn_conv1", "scale_conv1", x))
        for stage in (2, 3, 4):
            changes = stage > 2
            names = _block_names(stage, blocks)
            x = residual.stage(names, x, width=16 << (stage - 2), stride=1 + changes, projects=changes)
        return _classify(net, x, preactivate, "pool4", cifar10.CLASSES)

    name = f"{'PreResNet' if preactivate else 'ResNet'}-{layers}"
    filler = {"weight_filler": {"type": "msra"}}
    recipe = (_short_recipe if short else _papers_recipe)(name.lower().replace("-", ""))
    return cifar10.cifar10_model(name, body, recipe, batch_size=128, **cifar10.CENTRED, **filler)


def _papers_recipe(prefix: str) -> str:
    return solver(
        "164 epochs of 50,000 images in batches of 128 (section 4.2).",
        test_iter=[100],
        test_interval=1000,
        test_initialization=False,
        base_lr=0.1,
        lr_policy="multistep",
        gamma=0.1,
        stepvalue=[32000, 48000],
        display=100,
        average_loss=100,
        max_iter=64000,
        momentum=0.9,
        weight_decay=0.0001,
        snapshot=4000,
        snapshot_prefix=prefix,
        random_seed=1,
    )


def _short_recipe(prefix: str) -> str:
    return solver(
        "Our short recipe: 19 epochs of 50,000 images in batches of 128, at a rate that is halved ever sooner.\n"
        "solver_second.prototxt goes on from there. The paper's recipe, of 164 epochs, is that of zoo/resnet32.",
        test_iter=[100],
        test_interval=760,
        test_initialization=False,
        type="Nesterov",
        base_lr=0.1,
        warmup_iter=400,
        warmup_start_lr=0.01,
        lr_policy="multistep",
        gamma=0.5,
        stepvalue=[2450, 5700, 6950, 7260, 7420, 7530],
        display=100,
        average_loss=100,
        max_iter=7600,
        momentum=0.9,
        weight_decay=0.0005,
        snapshot=760,
        snapshot_prefix=prefix,
        random_seed=1,
    )


def _block_names(stage: int, blocks: int, numbered: bool = False) -> Iterator[str]:
    """2a, 2b, 2c ... or, in the long stages of the deepest nets, 3a, 3b1, 3b2 ..."""
    for index in range(blocks):
        yield f"{stage}{f'b{index}' if numbered and index else chr(ord('a') + index)}"


def _classify(net: NetSpec, x: str, preactivate: bool, pool: str, classes: int) -> str:
    if preactivate:
        x = net.relu(f"{x}_relu", batch_normalized(net, f"bn_{x}", f"scale_{x}", x))
    return net.inner_product(f"fc{classes}", net.global_average(pool, x), classes)


MODELS = {f"resnet{layers}": partial(imagenet_resnet, layers) for layers in IMAGENET_DEPTHS}
MODELS |= {f"resnet{layers}": partial(cifar_resnet, layers) for layers in CIFAR_DEPTHS}
MODELS["resnet20"] = partial(cifar_resnet, 20, short=True)
MODELS |= {f"preresnet{layers}": partial(imagenet_resnet, layers, preactivate=True) for layers in (18, 50)}
MODELS |= {f"preresnet{layers}": partial(cifar_resnet, layers, preactivate=True) for layers in (20, 110)}
