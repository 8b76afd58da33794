"""A prototxt as a PyTorch module: the same layers, the same weights, run in the same order.

A layer type is one function, registered with its name, from a layer and its weights to a module. BatchNorm and the
Scale after it become one module, as people write it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from blobnet.passes import sharing
from blobnet.proto import blobnet_pb2 as pb

Weights = Sequence[np.ndarray]

_translators: dict[str, Callable[[pb.LayerParameter, Weights], nn.Module]] = {}


def translates(type_name: str):
    def add(function):
        _translators[type_name] = function
        return function

    return add


class Step(NamedTuple):
    """A module, and the blobs that it reads and writes; ``rates`` has (lr_mult, decay_mult) of each parameter."""

    module: nn.Module
    bottoms: list[str]
    top: str
    rates: list[tuple[float, float]]


class TorchNet(nn.Module):
    """The net of a NetParameter whose data come through Input layers. Blobs have the names of the prototxt."""

    def __init__(self, param: pb.NetParameter, weights: dict[str, list[np.ndarray]]):
        super().__init__()
        self.steps = [_step(group, weights) for group in _grouped(param)]
        self.inputs = [layer.top[0] for layer in param.layer if layer.type == "Input"]
        self._modules_of_steps = nn.ModuleList(step.module for step in self.steps)

    def forward(self, *arrays: torch.Tensor) -> torch.Tensor:
        """The top of the last layer."""
        blobs = dict(zip(self.inputs, arrays, strict=True))
        for step in self.steps:
            blobs[step.top] = step.module(*(blobs[name] for name in step.bottoms))
        return blobs[self.steps[-1].top]

    def parameter_groups(self, rate: float, decay: float) -> list[dict]:
        """Parameters by their multipliers, as torch.optim takes them."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for step in self.steps:
            for parameter, multipliers in zip(step.module.parameters(), step.rates, strict=True):
                groups.setdefault(multipliers, []).append(parameter)
        return [
            {"params": parameters, "lr": rate * lr_mult, "weight_decay": decay * decay_mult}
            for (lr_mult, decay_mult), parameters in groups.items()
        ]


def _grouped(param: pb.NetParameter) -> list[list[pb.LayerParameter]]:
    """The layers but the Input ones, each alone but for BatchNorm and the Scale that follows it."""
    groups: list[list[pb.LayerParameter]] = []
    for layer in param.layer:
        if layer.type == "Scale" and len(layer.bottom) == 1 and groups and groups[-1][-1].type == "BatchNorm":
            groups[-1].append(layer)
        elif layer.type != "Input":
            groups.append([layer])
    return groups


def _step(group: list[pb.LayerParameter], weights: dict[str, list[np.ndarray]]) -> Step:
    first, last = group[0], group[-1]
    if first.type == "BatchNorm":
        module = _batch_norm(first, weights[first.name], weights[last.name] if len(group) > 1 else [])
    elif first.type in _translators:
        module = _translators[first.type](first, weights.get(first.name, []))
    else:
        raise NotImplementedError(f"{first.name}: no translation of {first.type}; there are: {sorted(_translators)}")
    specs = [sharing.param_spec(last, index) for index, _ in enumerate(module.parameters())]
    return Step(module, list(first.bottom), last.top[0], [(spec.lr_mult, spec.decay_mult) for spec in specs])


def _load(module: nn.Module, weights: Weights) -> nn.Module:
    for parameter, array in zip(module.parameters(), weights, strict=True):
        parameter.data = torch.from_numpy(np.array(array, np.float32).reshape(parameter.shape))
    return module


def _batch_norm(layer: pb.LayerParameter, statistics: Weights, scale: Weights) -> nn.Module:
    mean, variance, factor = statistics
    param = layer.batch_norm_param
    module = nn.BatchNorm2d(len(mean), eps=param.eps, momentum=1 - param.moving_average_fraction, affine=bool(scale))
    module.running_mean.copy_(torch.from_numpy(mean / factor))
    module.running_var.copy_(torch.from_numpy(variance / factor))
    return _load(module, scale)


@translates("Convolution")
def _convolution(layer: pb.LayerParameter, weights: Weights) -> nn.Module:
    param = layer.convolution_param
    filters, channels, *kernel = weights[0].shape
    module = nn.Conv2d(
        channels * param.group,
        filters,
        kernel,
        stride=_pair(param, "stride", 1),
        padding=_pair(param, "pad", 0),
        dilation=tuple(param.dilation) * 2 if len(param.dilation) == 1 else tuple(param.dilation) or 1,
        groups=param.group,
        bias=param.bias_term,
    )
    return _load(module, weights)


def _pair(param, field: str, default: int) -> tuple[int, int]:
    """(height, width) of a field that is given once, twice, or in its _h and _w forms."""
    given = list(getattr(param, field)) or [default]
    height, width = (given * 2)[:2]
    return getattr(param, f"{field}_h") or height, getattr(param, f"{field}_w") or width


@translates("InnerProduct")
def _inner_product(layer: pb.LayerParameter, weights: Weights) -> nn.Module:
    filters, size = weights[0].shape
    linear = nn.Linear(size, filters, bias=layer.inner_product_param.bias_term)
    return nn.Sequential(nn.Flatten(), _load(linear, weights))


@translates("Pooling")
def _pooling(layer: pb.LayerParameter, weights: Weights) -> nn.Module:
    param = layer.pooling_param
    largest = param.pool == pb.PoolingParameter.MAX
    if param.global_pooling:
        return nn.AdaptiveMaxPool2d(1) if largest else nn.AdaptiveAvgPool2d(1)
    kind = nn.MaxPool2d if largest else nn.AvgPool2d
    floor = param.round_mode == pb.PoolingParameter.FLOOR
    return kind(param.kernel_size, stride=param.stride, padding=param.pad, ceil_mode=not floor)


@translates("ReLU")
def _relu(layer: pb.LayerParameter, weights: Weights) -> nn.Module:
    in_place = layer.bottom[0] == layer.top[0]
    slope = layer.relu_param.negative_slope
    return nn.LeakyReLU(slope, inplace=in_place) if slope else nn.ReLU(inplace=in_place)


@translates("LRN")
def _lrn(layer: pb.LayerParameter, weights: Weights) -> nn.Module:
    param = layer.lrn_param
    return nn.LocalResponseNorm(param.local_size, alpha=param.alpha, beta=param.beta, k=param.k)


@translates("Dropout")
def _dropout(layer: pb.LayerParameter, weights: Weights) -> nn.Module:
    return nn.Dropout(layer.dropout_param.dropout_ratio)


@translates("Softmax")
def _softmax(layer: pb.LayerParameter, weights: Weights) -> nn.Module:
    return nn.Softmax(dim=layer.softmax_param.axis)


class _Concat(nn.Module):
    def __init__(self, axis: int):
        super().__init__()
        self.axis = axis

    def forward(self, *bottoms):
        return torch.cat(bottoms, self.axis)


@translates("Concat")
def _concat(layer: pb.LayerParameter, weights: Weights) -> nn.Module:
    return _Concat(layer.concat_param.axis)


class _Sum(nn.Module):
    def forward(self, first, *others):
        for other in others:
            first = first + other
        return first


@translates("Eltwise")
def _eltwise(layer: pb.LayerParameter, weights: Weights) -> nn.Module:
    param = layer.eltwise_param
    if param.operation != pb.EltwiseParameter.SUM or param.coeff:
        raise NotImplementedError(f"{layer.name}: only plain sums are translated")
    return _Sum()


class _SoftmaxLoss(nn.Module):
    def forward(self, scores, labels):
        return nn.functional.cross_entropy(scores.flatten(1), labels)


@translates("SoftmaxWithLoss")
def _softmax_loss(layer: pb.LayerParameter, weights: Weights) -> nn.Module:
    return _SoftmaxLoss()
