"""Losses: a scalar that says how far predictions are from targets, and its gradient.

Those whose targets are class labels stand in label_loss.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from blobnet.blob import Blob
from blobnet.kernels import elements
from blobnet.kernels import loss as kernels
from blobnet.layers import labels
from blobnet.layers.base import Layer, describe
from blobnet.layers.registry import register
from blobnet.proto import blobnet_pb2 as pb

FULL, VALID = pb.LossParameter.FULL, pb.LossParameter.VALID
BATCH_SIZE, NONE = pb.LossParameter.BATCH_SIZE, pb.LossParameter.NONE


class Loss(Layer):
    """Base of losses of predictions and targets, both [N, ...]; the top is a scalar of loss weight 1.

    Subclasses give ``value`` and ``gradient``. Asking for the gradient of a target is an error.
    """

    bottoms = (2, 2)
    loss = True
    automatic_tops = True

    def has_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.require(
            bottom[0].num_axes > 0 and bottom[0].shape[:1] == bottom[1].shape[:1],
            f"{describe(bottom[0])} and {describe(bottom[1])} must have the same first axis, the batch",
        )
        top[0].reshape()

    @np.errstate(all="ignore")
    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        top[0].data[...] = self.value(bottom)

    @np.errstate(all="ignore")
    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self.check_wanted(propagate_down, bottom)
        for index, wanted in enumerate(propagate_down):
            if wanted:
                self.gradient(bottom, index, float(top[0].diff))

    def check_wanted(self, propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """An error where the gradient of a target is asked for."""
        for index, (blob, wanted) in enumerate(zip(bottom, propagate_down, strict=True)):
            self.require(
                not wanted or self.has_backward(index),
                f"{describe(blob)} gets no gradient from this loss, which takes it as given; "
                "make it where nothing learns, or set propagate_down: false for it",
            )

    def value(self, bottom: Sequence[Blob]) -> float:
        raise NotImplementedError

    def gradient(self, bottom: Sequence[Blob], index: int, weight: float) -> None:
        """Write ``weight`` times the gradient into the diff of a bottom."""
        raise NotImplementedError


class NormalizedLoss(Loss):
    """Base of losses that are sums over items, with an ``ignore_label`` and a choice of divisor.

    loss_param (proto defaults in parentheses)
        ignore_label (none): items with this label count nothing
        normalization: FULL divides by all items, VALID by those not ignored, BATCH_SIZE by the extent before the
            class axis, NONE by 1; never by less than 1
        normalize: deprecated, read where normalization is absent: true means VALID, false BATCH_SIZE
    """

    default_normalization: ClassVar[int] = VALID

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        param = self.param.loss_param
        self.ignore_label = param.ignore_label if param.HasField("ignore_label") else None
        if param.HasField("normalization"):
            self.normalization = param.normalization
        elif param.HasField("normalize"):
            self.normalization = VALID if param.normalize else BATCH_SIZE
        else:
            self.normalization = self.default_normalization

    def divisor(self, items: int, valid: int, batch: int) -> int:
        return max(1, {FULL: items, VALID: valid, BATCH_SIZE: batch, NONE: 1}[self.normalization])


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(NormalizedLoss):
    """The cross entropy of independent probabilities s(x) = 1 / (1 + exp(-x)) and targets t in [0, 1].

    x [N, ...] and t of the same count  ->  loss, a scalar

    loss = -sum (t log s(x) + (1 - t) log(1 - s(x))) / divisor;  dx = (s(x) - t) / divisor, 0 where ignored

    loss_param: as in NormalizedLoss, each number being an item; normalization is BATCH_SIZE by default. A target
        is ignored when it equals ``ignore_label`` once its fraction is cut off.
    Source: Caffe, sigmoid_cross_entropy_loss_layer.cpp.
    """

    default_normalization = BATCH_SIZE

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        self.require(
            bottom[0].count == bottom[1].count,
            f"{describe(bottom[0])} and {describe(bottom[1])} must have the same count; "
            f"got {bottom[0].count} and {bottom[1].count}",
        )

    def value(self, bottom: Sequence[Blob]) -> float:
        x, target = (rows(blob.data) for blob in bottom)
        self.used = np.trunc(target) != self.ignore_label if self.ignore_label is not None else np.ones(x.shape, bool)
        self.scale = 1 / self.divisor(x.size, int(self.used.sum()), len(x))
        losses = np.empty(len(x))
        for_items(kernels.sigmoid_cross_entropy, x, target, self.used, losses)
        return losses.sum() * self.scale

    def gradient(self, bottom: Sequence[Blob], index: int, weight: float) -> None:
        x, target = (rows(blob.data) for blob in bottom)
        scale = x.dtype.type(weight * self.scale)
        dx = rows(bottom[0].diff)
        for_items(kernels.sigmoid_cross_entropy_backward, x, target, self.used, scale, dx)


@register("EuclideanLoss")
class EuclideanLoss(Loss):
    """Half the mean squared distance of two blobs; both get a gradient.

    a [N, ...] and b [N, ...] of the same count  ->  loss, a scalar

    loss = sum (a - b)^2 / (2 N);  da = (a - b) / N, db = -da
    Source: Caffe, euclidean_loss_layer.cpp.
    """

    def has_backward(self, bottom_index: int) -> bool:
        return True

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        sizes = [blob.count_between(1) for blob in bottom]
        self.require(
            sizes[0] == sizes[1],
            f"{describe(bottom[0])} and {describe(bottom[1])} must have the same count from axis 1 on; "
            f"got {sizes[0]} and {sizes[1]}",
        )

    def value(self, bottom: Sequence[Blob]) -> float:
        a, b = (rows(blob.data) for blob in bottom)
        losses = np.empty(len(a))
        for_items(kernels.squared_distance, a, b, losses)
        return losses.sum() / (2 * len(a))

    def gradient(self, bottom: Sequence[Blob], index: int, weight: float) -> None:
        a, b = (rows(blob.data) for blob in bottom)
        scale = a.dtype.type((weight if index == 0 else -weight) / len(a))
        for_items(kernels.squared_distance_backward, a, b, scale, rows(bottom[index].diff))


@register("ContrastiveLoss")
class ContrastiveLoss(Loss):
    """Draws pairs that are alike together and pushes the others apart, up to a margin.

    a [N, C], b [N, C] (axes of 1 may follow) and y [N], nonzero (fraction cut off) where a pair is alike
    ->  loss, a scalar

    With d = |a - b|: loss = sum l / (2 N), l = d^2 where alike, max(margin - d, 0)^2 elsewhere, or
    max(margin - d^2, 0) with ``legacy_version``.
    da = (a - b) / N where alike; elsewhere, within the margin, -(margin - d) / (d + 1e-4) (a - b) / N, or
    -(a - b) / N with ``legacy_version``; db = -da.

    contrastive_loss_param (proto defaults in parentheses)
        margin (1), legacy_version (false)
    Sources: Caffe, contrastive_loss_layer.cpp; Hadsell et al. 2006, "Dimensionality Reduction by Learning an
    Invariant Mapping", section 2.1.
    """

    bottoms = (3, 3)

    def has_backward(self, bottom_index: int) -> bool:
        return bottom_index < 2

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        for blob in bottom[:2]:
            self.require(
                blob.num_axes >= 2 and blob.count_between(2) == 1,
                f"{describe(blob)} must hold one vector an item: N x C, or N x C x 1 x 1",
            )
        self.require(
            bottom[0].shape[1] == bottom[1].shape[1],
            f"{describe(bottom[0])} and {describe(bottom[1])} must hold vectors of the same length",
        )
        labels.check_label_count(self, bottom[0], bottom[2], bottom[0].shape[0])

    def value(self, bottom: Sequence[Blob]) -> float:
        squared = self._squared_distance(bottom)
        margin, legacy = self._settings()
        gap = np.maximum(margin - squared, 0) if legacy else np.maximum(margin - np.sqrt(squared), 0) ** 2
        return np.where(self._alike(bottom), squared, gap).sum() / (2 * len(squared))

    def gradient(self, bottom: Sequence[Blob], index: int, weight: float) -> None:
        squared = self._squared_distance(bottom)
        margin, legacy = self._settings()
        distance = squared if legacy else np.sqrt(squared)
        push = 1 if legacy else (margin - distance) / (distance + 1e-4)
        slope = np.where(self._alike(bottom), 1, np.where(margin - distance > 0, -push, 0))
        scale = slope * (weight if index == 0 else -weight) / len(squared)
        dx = rows(bottom[index].diff)
        np.multiply(self._difference(bottom), scale[:, None].astype(self.dtype), out=dx)

    def _settings(self) -> tuple[float, bool]:
        param = self.param.contrastive_loss_param
        return param.margin, param.legacy_version

    def _alike(self, bottom: Sequence[Blob]) -> np.ndarray:
        return np.trunc(bottom[2].data.reshape(-1)) != 0

    def _difference(self, bottom: Sequence[Blob]) -> np.ndarray:
        return rows(bottom[0].data) - rows(bottom[1].data)

    def _squared_distance(self, bottom: Sequence[Blob]) -> np.ndarray:
        return np.square(self._difference(bottom), dtype=np.float64).sum(axis=1)


def rows(array: np.ndarray) -> np.ndarray:
    """[N, ...] as [N, the rest]; of one axis, as [N, 1]."""
    return array.reshape(len(array), -1)


def for_items(kernel, items: np.ndarray, *args) -> None:
    """Run a kernel over the first axis."""
    elements.run_rows(kernel, len(items), items[0].size, items, *args)
