"""Receptive fields: which cells of the input a cell of a blob sees, from the shapes of a net alone.

Stands beside the flow: ``summary`` asks here; nothing that runs a net does.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import zip_longest
from typing import NamedTuple

from blobnet.blob import Blob
from blobnet.layers.base import Layer
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb


class Axis(NamedTuple):
    """Along one axis, cell i sees the input's cells from offset + i * stride on, ``size`` of them.

    Cells of padding count, so that the offset may be negative.
    """

    size: int | Fraction = 1
    stride: int | Fraction = 1
    offset: int | Fraction = 0

    def window(self, extent: int, stride: int = 1, pad: int = 0) -> "Axis":
        """What a cell sees through a window: R_n = R_(n-1) + (K - 1) S_(n-1), S_n = S_(n-1) stride.

        Source: Araujo, Norris and Sim 2019, Computing Receptive Fields of Convolutional Neural Networks.
        """
        size = self.size + (extent - 1) * self.stride
        return Axis(size, self.stride * stride, self.offset - pad * self.stride)

    def spread(self, extent: int, stride: int, pad: int) -> "Axis":
        """What a cell sees of inputs that are each spread over a window; the offset is that of cell 0."""
        first = -((extent - 1 - pad) // stride)
        size = self.size + (extent - 1) // stride * self.stride
        return Axis(size, Fraction(self.stride, stride), self.offset + first * self.stride)


Field = tuple[Axis, ...]


def fields(net: Net) -> dict[str, Field]:
    """The receptive field of each blob, one Axis for each spatial axis of the input it comes from.

    Blobs that come from no image (labels, indices) have none; those behind a layer that looks at whole images
    (InnerProduct, global pooling) see them whole.
    """
    found: dict[str, Field] = {}
    for layer, bottoms, tops in zip(net.layers, net.bottoms, net.tops, strict=True):
        seen = [(blob, found[blob.name]) for blob in bottoms if blob.name in found]
        for top in tops:
            if seen:
                found[top.name] = _field(layer, seen, top)
            elif not bottoms and top.num_axes > 2:
                found[top.name] = (Axis(),) * (top.num_axes - 2)
    return found


def _field(layer: Layer, seen: Sequence[tuple[Blob, Field]], top: Blob) -> Field:
    bottom, field = seen[0]
    if layer.type in _RULES:
        return _RULES[layer.type](layer, bottom, field)
    if any(_extents(blob, field) != _extents(top, field) for blob, _ in seen):
        return _whole(bottom, field)
    return tuple(map(_union, *(each for _, each in seen)))


def _whole(bottom: Blob, field: Field) -> Field:
    extents = _extents(bottom, field)
    return tuple(axis.window(extent, extent) for axis, extent in zip(field, extents, strict=True))


def _extents(blob: Blob, field: Field) -> list[int]:
    """The extents of the axes that the field has; a blob without them has 1 there."""
    return [extent for extent, _ in zip_longest(blob.shape[2 : 2 + len(field)], field, fillvalue=1)]


def _union(*axes: Axis) -> Axis:
    first = min(axis.offset for axis in axes)
    last = max(axis.offset + axis.size for axis in axes)
    return Axis(last - first, axes[0].stride, first)


# Layers that look through a window


def _sliding(layer, bottom: Blob, field: Field) -> Field:
    extents = [dilation * (kernel - 1) + 1 for kernel, dilation in zip(layer.kernel, layer.dilation, strict=True)]
    return tuple(map(Axis.window, field, extents, layer.stride, layer.pad))


def _spreading(layer, bottom: Blob, field: Field) -> Field:
    extents = [dilation * (kernel - 1) + 1 for kernel, dilation in zip(layer.kernel, layer.dilation, strict=True)]
    return tuple(map(Axis.spread, field, extents, layer.stride, layer.pad))


def _pooling(layer, bottom: Blob, field: Field) -> Field:
    if layer.param.pooling_param.global_pooling:
        return _whole(bottom, field)
    window = layer.window
    kernel, stride, pad = (window.kh, window.kw), (window.sh, window.sw), (window.ph, window.pw)
    return tuple(map(Axis.window, field, kernel, stride, pad))


def _neighbourhood(layer, bottom: Blob, field: Field) -> Field:
    param = layer.param.lrn_param
    if param.norm_region == pb.LRNParameter.ACROSS_CHANNELS:
        return field
    return tuple(axis.window(param.local_size, 1, param.local_size // 2) for axis in field)


def _cropped(layer, bottom: Blob, field: Field) -> Field:
    param = layer.param.crop_param
    axis = bottom.canonical_axis(param.axis)
    begins = list(param.offset) or [0]
    begins = [0] * axis + (begins if len(begins) > 1 else begins * (bottom.num_axes - axis))
    moved = zip(field, begins[2:], strict=True)
    return tuple(each._replace(offset=each.offset + begin * each.stride) for each, begin in moved)


_RULES: dict[str, Callable[[Layer, Blob, Field], Field]] = {
    "Convolution": _sliding,
    "Crop": _cropped,
    "Deconvolution": _spreading,
    "Im2col": _sliding,
    "InnerProduct": lambda layer, bottom, field: _whole(bottom, field),
    "LRN": _neighbourhood,
    "Pooling": _pooling,
}
