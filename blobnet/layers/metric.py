"""Measures of a trained net: Accuracy."""

from collections.abc import Sequence

import numpy as np

from blobnet.blob import Blob
from blobnet.layers import labels
from blobnet.layers.base import Layer
from blobnet.layers.registry import register
from blobnet.layers.softmax import around_axis


@register("Accuracy")
class Accuracy(Layer):
    """The share of items whose class is among the ``top_k`` best scores.

    scores [N, C, ...] and labels, one for each item (all axes but the class axis)
    ->  accuracy, a scalar; a second top [C] gives the accuracy of each class, 0 for one that has no items

    An item counts when fewer than top_k other classes score at least as high as its own: a tie counts against
    it, and so does a NaN score of its class. No item left to count gives 0. There is no gradient.

    accuracy_param (proto defaults in parentheses)
        top_k (1), axis (1): of the classes; ignore_label (none): items with it are left out
    Source: Caffe, accuracy_layer.cpp.
    """

    bottoms = (2, 2)
    tops = (1, 2)

    def has_backward(self, bottom_index: int) -> bool:
        return False

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        param = self.param.accuracy_param
        self.class_axis = self.axis(bottom[0], param.axis, "accuracy_param.axis")
        self.ignore_label = param.ignore_label if param.HasField("ignore_label") else None
        self.require(param.top_k > 0, "top_k must be 1 or more; got 0", "accuracy_param.top_k")

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        param = self.param.accuracy_param
        classes = bottom[0].shape[self.class_axis]
        self.require(
            param.top_k <= classes,
            f"top_k must not exceed the number of classes; got top_k {param.top_k}, {classes} classes",
            "accuracy_param.top_k",
        )
        labels.check_label_count(self, bottom[0], bottom[1], bottom[0].count // classes)
        top[0].reshape()
        if len(top) == 2:
            top[1].reshape(classes)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        scores = around_axis(bottom[0].data, self.class_axis)
        outer, classes, inner = scores.shape
        numbers = labels.class_numbers(self, bottom[1], classes, self.ignore_label).reshape(outer, 1, inner)
        own = np.take_along_axis(scores, np.maximum(numbers, 0), axis=1)
        as_good = (scores >= own).sum(axis=1, keepdims=True) - 1
        right = (as_good < self.param.accuracy_param.top_k) & (own == own) & (numbers >= 0)
        top[0].data[...] = right.sum() / max(1, (numbers >= 0).sum())
        if len(top) == 2:
            counts = np.bincount(numbers[numbers >= 0], minlength=classes)
            top[1].data[...] = np.bincount(numbers[right], minlength=classes) / np.maximum(counts, 1)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self.require(not any(propagate_down), "an accuracy has no gradient; leave propagate_down and loss_weight out")
