"""One layer by itself, fed and read directly."""

import numpy as np

from blobnet.blob import Blob
from blobnet.context import Context
from blobnet.layers import registry
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text


class Alone:
    """A layer built from its text around the values of its bottoms. ``in_place``: bottom 0 is top 0."""

    def __init__(self, prototxt, *bottoms, tops=1, phase=pb.TEST, dtype=np.float32, seed=1, in_place=False):
        param = text.parse(prototxt, pb.NetParameter(), "net.prototxt").layer[0]
        self.layer = registry.create_layer(param, Context(phase, np.dtype(dtype), seed))
        self.bottoms = [Blob(np.shape(value), dtype, f"bottom{i}") for i, value in enumerate(bottoms)]
        self.tops = [Blob((), dtype, f"top{i}") for i in range(tops)]
        if in_place:
            self.tops[0] = self.bottoms[0]
        self.layer.setup(self.bottoms, self.tops)
        self.reshape(*bottoms)

    def reshape(self, *bottoms):
        """Feed other values, of other shapes if need be."""
        for blob, value in zip(self.bottoms, bottoms, strict=True):
            blob.reshape(*np.shape(value))
            blob.data[...] = value
        self.layer.reshape(self.bottoms, self.tops)

    def forward(self, *bottoms):
        """The values of the tops, copied; for other values of the bottoms where they are given."""
        if bottoms:
            self.reshape(*bottoms)
        self.layer.forward(self.bottoms, self.tops)
        return [top.data.copy() for top in self.tops]

    def backward(self, *top_diffs, wanted=(0,)):
        """The gradients of the wanted bottoms for those of the first tops, copied."""
        for top, diff in zip(self.tops, top_diffs, strict=False):
            top.diff[...] = diff
        propagate_down = [index in wanted for index in range(len(self.bottoms))]
        self.layer.backward(self.tops, propagate_down, self.bottoms)
        return [self.bottoms[index].diff.copy() for index in wanted]


def around_zeros(fields, *shapes, dtype=np.float64, **options):
    """The layer of some fields around bottoms of some shapes."""
    return Alone(f'layer {{ name: "l" {fields} }}', *(np.zeros(shape) for shape in shapes), dtype=dtype, **options)


def check_closed_form(layer, x, dy, function, derivative, dtype, tolerance, in_place):
    """Hold a layer y = function(x) and its gradient dy derivative(x) against NumPy."""
    alone = around_zeros(layer, x.shape, dtype=dtype, in_place=in_place)
    [y] = alone.forward(x)
    np.testing.assert_allclose(y, function(x), rtol=tolerance, atol=tolerance)
    [dx] = alone.backward(dy)
    np.testing.assert_allclose(dx, dy * derivative(x), rtol=5 * tolerance, atol=5 * tolerance)
