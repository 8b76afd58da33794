"""Fillers: the initial values of learnable blobs. Registered by their prototxt name."""

import math
from collections.abc import Callable

import numpy as np
from google.protobuf.message import Message

from blobnet.blob import Blob
from blobnet.errors import did_you_mean, error_at
from blobnet.proto import blobnet_pb2 as pb
from blobnet.streams import Stream

Filler = Callable[[tuple[int, ...], pb.FillerParameter, np.random.Generator], np.ndarray | float]

_fillers: dict[str, Filler] = {}


def register(name: str) -> Callable[[Filler], Filler]:
    """Decorator: ``filler { type: name }`` calls the function with (shape, FillerParameter, generator)."""

    def add(filler: Filler) -> Filler:
        _fillers[name] = filler
        return filler

    return add


def fill(blob: Blob, param: pb.FillerParameter, stream: Stream, layer: pb.LayerParameter) -> None:
    """Fill a blob as its FillerParameter says. ``layer`` places an error."""
    filler = _fillers.get(param.type)
    if filler is None:
        known = ", ".join(sorted(_fillers))
        raise error_at(layer, f'unknown filler type "{param.type}"{did_you_mean(param.type, _fillers)}; known: {known}')
    if blob.count == 0:
        return
    try:
        blob.data[...] = filler(blob.shape, param, stream.generator())
    except (ValueError, OverflowError) as error:
        raise error_at(layer, f'filler "{param.type}": {error}') from error


def is_zero(param: pb.FillerParameter) -> bool:
    """Whether the filler leaves a new blob as it is, in memory that is not touched yet."""
    return param.type == "constant" and param.value == 0


def clear_fillers(message: Message) -> None:
    """Leave the blobs that a message fills to their defaults, which are mostly zeros in memory not touched yet."""
    for field, value in message.ListFields():
        if field.message_type is pb.FillerParameter.DESCRIPTOR:
            message.ClearField(field.name)
        elif isinstance(value, Message):
            clear_fillers(value)


@register("constant")
def constant(shape, param, generator):
    """Every element is ``value`` (default 0)."""
    return param.value


@register("uniform")
def uniform(shape, param, generator):
    """Uniform between ``min`` (default 0) and ``max`` (default 1)."""
    if param.min > param.max:
        raise ValueError(f"min must not exceed max; got min {param.min:g}, max {param.max:g}")
    return generator.uniform(param.min, param.max, shape)


@register("gaussian")
def gaussian(shape, param, generator):
    """Normal with ``mean`` (0) and ``std`` (1).

    With ``sparse: k`` a weight is kept with probability k / shape[0], else 0: k inputs an output on average.
    """
    if param.std < 0:
        raise ValueError(f"std must not be negative; got {param.std:g}")
    values = generator.normal(param.mean, param.std, shape)
    if param.sparse >= 0:
        if not shape:
            raise ValueError("sparse needs a blob of one axis or more")
        values *= generator.random(shape) < param.sparse / shape[0]
    return values


@register("positive_unitball")
def positive_unitball(shape, param, generator):
    """Uniform in (0, 1), then each row (first axis) divided by its sum."""
    values = generator.random(shape)
    rows = values.reshape(shape[0] if shape else 1, -1)
    rows /= rows.sum(axis=1, keepdims=True)
    return values


@register("xavier")
def xavier(shape, param, generator):
    """Uniform within sqrt(3 / n), n by ``variance_norm`` (Glorot and Bengio 2010, section 4.2)."""
    bound = math.sqrt(3 / _fan(shape, param))
    return generator.uniform(-bound, bound, shape)


@register("msra")
def msra(shape, param, generator):
    """Normal with standard deviation sqrt(2 / n), n by ``variance_norm`` (He et al. 2015, section 2.2)."""
    return generator.normal(0, math.sqrt(2 / _fan(shape, param)), shape)


@register("bilinear")
def bilinear(shape, param, generator):
    """The kernel of bilinear upsampling, in every filter of a square N x C x K x K blob (for Deconvolution)."""
    if len(shape) != 4 or shape[2] != shape[3]:
        raise ValueError(f"it fills blobs of four axes with square filters; got {' x '.join(map(str, shape))}")
    factor = math.ceil(shape[3] / 2)
    centre = (2 * factor - 1 - factor % 2) / (2 * factor)
    profile = 1 - np.abs(np.arange(shape[3]) / factor - centre)
    return np.broadcast_to(np.outer(profile, profile), shape)


def _fan(shape: tuple[int, ...], param: pb.FillerParameter) -> float:
    """Fan-in (count / shape[0], the default), fan-out (count / shape[1]) or their average."""
    count = math.prod(shape)
    fan_in = count / shape[0] if shape else 1
    fan_out = count / shape[1] if len(shape) > 1 else count
    return {
        pb.FillerParameter.FAN_IN: fan_in,
        pb.FillerParameter.FAN_OUT: fan_out,
        pb.FillerParameter.AVERAGE: (fan_in + fan_out) / 2,
    }[param.variance_norm]
