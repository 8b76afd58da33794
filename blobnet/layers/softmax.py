"""Scores to probabilities: Softmax."""

import math
from collections.abc import Sequence

import numpy as np

from blobnet.blob import Blob
from blobnet.kernels import softmax as kernels
from blobnet.layers.base import Layer
from blobnet.layers.registry import register


@register("Softmax")
class Softmax(Layer):
    """Positive numbers with the sum 1 along an axis.

    x  ->  y of the same shape: y_i = exp(x_i - m) / sum_j exp(x_j - m), m = max x, along ``axis``

    dx_i = y_i (dy_i - sum_j y_j dy_j)

    softmax_param (proto defaults in parentheses)
        axis (1)
    Source: Caffe, softmax_layer.cpp.
    """

    in_place = True
    steady = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.class_axis = self.axis(bottom[0], self.param.softmax_param.axis, "softmax_param.axis")

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        y = None if bottom[0] is top[0] else around_axis(top[0].data, self.class_axis)
        kernels.forward(around_axis(bottom[0].data, self.class_axis), y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            dx = None if bottom[0] is top[0] else around_axis(bottom[0].diff, self.class_axis)
            kernels.backward(around_axis(top[0].data, self.class_axis), around_axis(top[0].diff, self.class_axis), dx)


def around_axis(array: np.ndarray, axis: int) -> np.ndarray:
    """A view of three axes: those before ``axis``, it, those after it."""
    outer = math.prod(array.shape[:axis])
    return array.reshape(outer, array.shape[axis], -1)
