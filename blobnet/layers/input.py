"""The ends of a net: Input, DummyData and Parameter, which have no bottoms, and Silence, which has no tops."""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from blobnet import fillers
from blobnet.blob import Blob
from blobnet.layers.base import Arity, Layer
from blobnet.layers.registry import register
from blobnet.proto import blobnet_pb2 as pb


class Source(Layer):
    """Base of layers without bottoms. Tops get their shapes in ``setup``, so that a caller may change them later."""

    bottoms = (0, 0)
    tops: ClassVar[Arity] = (1, None)

    def reshape(self, bottom, top):
        """The shapes stand since ``setup``."""

    def give_shape(self, blob: Blob, shape: Sequence[int], field: str) -> None:
        self.require(min(shape, default=1) >= 0, f"extents must be 0 or more; got {list(shape)}", field)
        self.charge(blob.name, math.prod(shape))
        blob.reshape(*shape)


@register("Input")
class Input(Source):
    """Tops that the caller fills. input_param: ``shape``, once for all tops or once a top; without it no axes."""

    steady = True

    def setup(self, bottom, top):
        shapes = self.param.input_param.shape
        self.require(
            len(shapes) in (0, 1, len(top)),
            f"shape must be left out, given once, or once for each of the {len(top)} tops; got {len(shapes)}",
            "input_param.shape",
        )
        for index, blob in enumerate(top if shapes else ()):
            position = index % len(shapes)
            self.give_shape(blob, shapes[position].dim, f"input_param.shape[{position}]")

    def forward(self, bottom, top):
        """The caller has filled the tops."""


@register("DummyData")
class DummyData(Source):
    """Tops filled by fillers (dummy_data_param): by a constant one once, by any other anew in each forward pass.

    data_filler  left out (constant 0), once for all tops, or once a top
    shape        once for all tops or once a top; in old files num, channels, height and width, likewise
    """

    def setup(self, bottom, top):
        dummy, count = self.param.dummy_data_param, len(top)
        self._check_given("data_filler", (0, 1, count))
        self._fillers = [_of_top(dummy.data_filler, index) or pb.FillerParameter() for index in range(count)]
        if any(getattr(dummy, field) for field in _OLD_SHAPE):
            self.require(
                not dummy.shape, "give shape or num, channels, height and width, not both", "dummy_data_param.shape"
            )
            for field in _OLD_SHAPE:
                self._check_given(field, (1, count))
            shapes = [[_of_top(getattr(dummy, field), index) for field in _OLD_SHAPE] for index in range(count)]
        else:
            self._check_given("shape", (1, count))
            shapes = [_of_top(dummy.shape, index).dim for index in range(count)]
        for blob, shape, filler in zip(top, shapes, self._fillers, strict=True):
            self.give_shape(blob, shape, "dummy_data_param.shape")
            if filler.type == "constant":
                fillers.fill(blob, filler, self.stream, self.param)

    def _check_given(self, field: str, allowed: tuple[int, ...]) -> None:
        given = len(getattr(self.param.dummy_data_param, field))
        self.require(
            given in allowed,
            f"{field} must be given {' or '.join(map(str, dict.fromkeys(allowed)))} times for {allowed[-1]} tops; "
            f"got {given}",
            f"dummy_data_param.{field}",
        )

    def forward(self, bottom, top):
        for blob, filler in zip(top, self._fillers, strict=True):
            if filler.type != "constant":
                fillers.fill(blob, filler, self.stream, self.param)


_OLD_SHAPE = ("num", "channels", "height", "width")


def _of_top(values: Sequence, index: int):
    """The value of a top: its own, or the one given for all; None where there is none."""
    return values[index if len(values) > 1 else 0] if values else None


@register("Parameter")
class Parameter(Source):
    """The top is a learned blob of a given ``shape`` (parameter_param), at first 0; its gradient is dy.

    The top is a copy, so that no layer after it can change the blob.
    """

    tops = (1, 1)

    def setup(self, bottom, top):
        self.give_shape(top[0], self.param.parameter_param.shape.dim, "parameter_param.shape")
        self.add_blob(top[0].shape)

    def forward(self, bottom, top):
        np.copyto(top[0].data, self.blobs[0].data)

    def backward(self, top, propagate_down, bottom):
        if self.param_propagate_down[0]:
            self.blobs[0].add_to_diff(top[0].diff)


@register("Silence")
class Silence(Layer):
    """Reads its bottoms and makes nothing, so that they are no outputs of the net; dx = 0."""

    bottoms = (1, None)
    tops = (0, 0)

    def reshape(self, bottom, top):
        """There is no top."""

    def forward(self, bottom, top):
        """There is nothing to do."""

    def backward(self, top, propagate_down, bottom):
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            if wanted:
                blob.diff[...] = 0
