"""Layers that reduce: Reduction to one number, ArgMax to the largest."""

import numpy as np

from blobnet.layers.base import Layer, describe
from blobnet.layers.registry import register
from blobnet.proto import blobnet_pb2 as pb

_SUM, _ASUM, _SUMSQ, _MEAN = (
    pb.ReductionParameter.SUM,
    pb.ReductionParameter.ASUM,
    pb.ReductionParameter.SUMSQ,
    pb.ReductionParameter.MEAN,
)


@register("Reduction")
class Reduction(Layer):
    """All axes from ``axis`` on (reduction_param, default 0) become one number; the top has the axes before it.

    operation  SUM (default): y = c sum x, dx = c dy;  ASUM: y = c sum |x|, dx = c dy sign(x)
               SUMSQ: y = c sum x^2, dx = 2 c dy x;    MEAN: y = c mean x, dx = c dy / number
    coeff      c (default 1)
    """

    def reshape(self, bottom, top):
        axis = self.axis(bottom[0], self.param.reduction_param.axis, "reduction_param.axis")
        top[0].reshape(*bottom[0].shape[:axis])
        self._rows = (top[0].count, bottom[0].count_between(axis))
        self._coeff = self.param.reduction_param.coeff
        if self.param.reduction_param.operation == _MEAN:
            self._coeff /= self._rows[1]

    def forward(self, bottom, top):
        x, operation = bottom[0].data.reshape(self._rows), self.param.reduction_param.operation
        if operation == _ASUM:
            x = np.abs(x)
        elif operation == _SUMSQ:
            x = np.square(x, dtype=np.float64)
        top[0].data[...] = (self._coeff * x.sum(axis=1, dtype=np.float64)).reshape(top[0].shape)

    def backward(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        x, operation = bottom[0].data.reshape(self._rows), self.param.reduction_param.operation
        dy = self._coeff * top[0].diff.reshape(-1, 1)
        dx = bottom[0].diff.reshape(self._rows)
        if operation == _ASUM:
            np.multiply(dy, np.sign(x), out=dx)
        elif operation == _SUMSQ:
            np.multiply(2 * dy, x, out=dx)
        else:
            dx[...] = dy


@register("ArgMax")
class ArgMax(Layer):
    """The indices of the ``top_k`` (argmax_param, default 1) largest elements, largest first; has no gradient.

    Of equal elements the one of higher index comes first.

    axis         left out: of each item over all its elements, top N x 1 x top_k (more axes of 1 for a bottom of
                 more than three); with ``out_max_val`` (default false) N x 2 x top_k: indices, then values
    axis given:  along that axis, whose extent becomes top_k; with ``out_max_val`` the values alone
    """

    def setup(self, bottom, top):
        argmax = self.param.argmax_param
        self._along_axis = argmax.HasField("axis")
        axis = self.axis(bottom[0], argmax.axis, "argmax_param.axis") if self._along_axis else 0
        available = bottom[0].shape[axis] if self._along_axis else bottom[0].count_between(1)
        self.require(
            1 <= argmax.top_k <= available,
            f"top_k must be at least 1 and at most the {available} elements to choose from in {describe(bottom[0])}; "
            f"got {argmax.top_k}",
            "argmax_param.top_k",
        )

    def reshape(self, bottom, top):
        argmax = self.param.argmax_param
        if self._along_axis:
            shape = list(bottom[0].shape)
            shape[bottom[0].canonical_axis(argmax.axis)] = argmax.top_k
        else:
            shape = [1] * max(3, bottom[0].num_axes)
            shape[0] = bottom[0].shape[0]
            shape[1] = 2 if argmax.out_max_val else 1
            shape[2] = argmax.top_k
        top[0].reshape(*shape)

    def forward(self, bottom, top):
        argmax = self.param.argmax_param
        if self._along_axis:
            indices, values = largest(bottom[0].data, argmax.top_k, argmax.axis)
            top[0].data[...] = values if argmax.out_max_val else indices
        else:
            items = bottom[0].data.reshape(bottom[0].shape[0], -1)
            found = largest(items, argmax.top_k, 1)
            chosen = found if argmax.out_max_val else found[:1]
            top[0].data[...] = np.stack(chosen, axis=1).reshape(top[0].shape)


def largest(array: np.ndarray, count: int, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and values of the largest elements along an axis, largest first, later before earlier equals."""
    order = np.flip(np.argsort(array, axis=axis, kind="stable"), axis=axis)
    indices = np.take(order, range(count), axis=axis)
    return indices, np.take_along_axis(array, indices, axis=axis)
