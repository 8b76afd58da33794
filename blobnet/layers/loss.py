"""Losses: a scalar that says how far predictions are from targets, and its gradient."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from blobnet.blob import Blob
from blobnet.errors import BlobnetError
from blobnet.io import blob_proto, files
from blobnet.kernels import elements, softmax
from blobnet.kernels import loss as kernels
from blobnet.layers import labels
from blobnet.layers.base import Layer, describe
from blobnet.layers.registry import register
from blobnet.layers.softmax import around_axis
from blobnet.proto import blobnet_pb2 as pb

FULL, VALID = pb.LossParameter.FULL, pb.LossParameter.VALID
BATCH_SIZE, NONE = pb.LossParameter.BATCH_SIZE, pb.LossParameter.NONE

_SMALLEST = 1e-20  # probabilities below it count as it in MultinomialLogisticLoss and InfogainLoss


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
        for index, (blob, wanted) in enumerate(zip(bottom, propagate_down, strict=True)):
            self.require(
                not wanted or self.has_backward(index),
                f"{describe(blob)} gets no gradient from this loss, which takes it as given; "
                "make it where nothing learns, or set propagate_down: false for it",
            )
            if wanted:
                self.gradient(bottom, index, float(top[0].diff))

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


class SoftmaxLoss(NormalizedLoss):
    """Base of losses of scores that a softmax makes probabilities first; they are a second top if there is one."""

    tops = (1, 2)
    axis_message: ClassVar[str]  # the message whose ``axis`` is that of the classes

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().setup(bottom, top)
        axis = getattr(self.param, self.axis_message).axis
        self.class_axis = self.axis(bottom[0], axis, f"{self.axis_message}.axis")

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        self.probability = np.empty_like(around_axis(bottom[0].data, self.class_axis))
        outer, classes, inner = self.probability.shape
        labels.check_label_count(self, bottom[0], bottom[1], outer * inner)
        if len(top) == 2:
            top[1].reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        outer, classes, inner = self.probability.shape
        softmax.forward(around_axis(bottom[0].data, self.class_axis), self.probability)
        self.classes = labels.class_numbers(self, bottom[1], classes, self.ignore_label).reshape(outer, inner)
        self.scale = 1 / self.divisor(outer * inner, int((self.classes >= 0).sum()), outer)
        super().forward(bottom, top)
        if len(top) == 2:
            top[1].data[...] = self.probability.reshape(top[1].shape)


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(SoftmaxLoss):
    """The multinomial logistic loss of the softmax of scores.

    scores x [N, C, ...] and labels t, one for each item (all axes but the class axis)
    ->  loss, a scalar; a second top, if there is one, gets p = softmax(x)

    loss = -sum log max(p_t, FLT_MIN) / divisor;  dx = (p - [1 at t]) / divisor, 0 for ignored items

    softmax_param: axis (1)
    loss_param: as in NormalizedLoss; normalization is VALID by default
    Source: Caffe, softmax_loss_layer.cpp.
    """

    axis_message = "softmax_param"

    def value(self, bottom: Sequence[Blob]) -> float:
        losses = np.empty(len(self.probability))
        _for_items(kernels.softmax_loss, self.probability, self.classes, losses)
        return losses.sum() * self.scale

    def gradient(self, bottom: Sequence[Blob], index: int, weight: float) -> None:
        dx = around_axis(bottom[0].diff, self.class_axis)
        scale = self.dtype.type(weight * self.scale)
        _for_items(kernels.softmax_loss_backward, self.probability, self.classes, scale, dx)


@register("InfogainLoss")
class InfogainLoss(SoftmaxLoss):
    """A softmax loss in which a matrix H [C, C] says how much each confusion of classes weighs.

    scores x [N, C, ...], labels t, one for each item, and H, a third bottom of C C numbers or a file
    ->  loss, a scalar; a second top, if there is one, gets p = softmax(x)

    loss = -sum over items and classes c of H[t, c] log max(p_c, 1e-20) / divisor
    dx_c = (p_c sum_j H[t, j] - H[t, c]) / divisor, 0 for ignored items

    infogain_loss_param (proto defaults in parentheses)
        source: a BlobProto file with H, needed where there is no third bottom; axis (1)
    loss_param: as in NormalizedLoss; normalization is VALID by default
    Source: Caffe, infogain_loss_layer.cpp.
    """

    bottoms = (2, 3)
    axis_message = "infogain_loss_param"

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().setup(bottom, top)
        if len(bottom) == 2:
            source = self.param.infogain_loss_param.source
            self.require(
                bool(source),
                "the matrix is missing: name its file as infogain_loss_param.source, or give it as a third bottom",
                "infogain_loss_param",
            )
            self.infogain = self._read(source).astype(self.dtype)

    def _read(self, source: str) -> np.ndarray:
        try:
            return blob_proto.to_array(files.read_message(self.context.find(source), pb.BlobProto()))
        except BlobnetError as error:
            self.fail(f"the matrix cannot be had: {error}", "infogain_loss_param.source")

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        classes = bottom[0].shape[self.class_axis]
        count = bottom[2].count if len(bottom) == 3 else self.infogain.size
        self.require(
            count == classes * classes,
            f"the matrix must have one row and one column for each of {classes} classes, {classes * classes} numbers; "
            f"got {count}",
            "infogain_loss_param.source",
        )

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if len(bottom) == 3:
            self.infogain = bottom[2].data
        super().forward(bottom, top)

    def value(self, bottom: Sequence[Blob]) -> float:
        logarithms = np.log(np.maximum(self.probability, self.dtype.type(_SMALLEST)))
        return -(self._rows() * logarithms).sum(dtype=np.float64) * self.scale

    def gradient(self, bottom: Sequence[Blob], index: int, weight: float) -> None:
        rows = self._rows()
        around_axis(bottom[0].diff, self.class_axis)[...] = (
            self.probability * rows.sum(axis=1, keepdims=True) - rows
        ) * self.dtype.type(weight * self.scale)

    def _rows(self) -> np.ndarray:
        """The row of H of each item's label, [outer, C, inner]; zeros where it is ignored."""
        classes = self.probability.shape[1]
        rows = self.infogain.reshape(classes, classes)[self.classes]  # [outer, inner, C]
        return np.where(self.classes[:, None] >= 0, np.moveaxis(rows, 2, 1), 0)


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(Loss):
    """The logistic loss of probabilities, as a Softmax gives them; SoftmaxWithLoss is the stabler pair.

    p [N, ...], C numbers an item, and labels t [N]  ->  loss, a scalar

    loss = -sum log max(p_t, 1e-20) / N;  dp_t = -1 / max(p_t, 1e-20) / N, the others 0
    Source: Caffe, multinomial_logistic_loss_layer.cpp.
    """

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        labels.check_label_count(self, bottom[0], bottom[1], bottom[0].shape[0])

    def value(self, bottom: Sequence[Blob]) -> float:
        p = _rows(bottom[0].data)
        self.classes = labels.class_numbers(self, bottom[1], p.shape[1])
        return -np.log(self._likelihood(p)).sum(dtype=np.float64) / len(p)

    def gradient(self, bottom: Sequence[Blob], index: int, weight: float) -> None:
        p, dp = _rows(bottom[0].data), _rows(bottom[0].diff)
        dp[...] = 0
        dp[np.arange(len(p)), self.classes] = -weight / len(p) / self._likelihood(p)

    def _likelihood(self, p: np.ndarray) -> np.ndarray:
        return np.maximum(p[np.arange(len(p)), self.classes], p.dtype.type(_SMALLEST))


@register("HingeLoss")
class HingeLoss(Loss):
    """One-against-all large margins.

    x [N, ...], C scores an item, and labels t [N]  ->  loss, a scalar

    m_c = max(0, 1 - x_c) where c = t, max(0, 1 + x_c) elsewhere
    L1: loss = sum m / N, dx = +-[m > 0] / N;  L2: loss = sum m^2 / N, dx = +-2 m / N; minus where c = t

    hinge_loss_param (proto defaults in parentheses)
        norm (L1)
    Source: Caffe, hinge_loss_layer.cpp.
    """

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        labels.check_label_count(self, bottom[0], bottom[1], bottom[0].shape[0])

    def value(self, bottom: Sequence[Blob]) -> float:
        x = _rows(bottom[0].data)
        sign = np.ones_like(x)
        sign[np.arange(len(x)), labels.class_numbers(self, bottom[1], x.shape[1])] = -1
        self.sign = sign
        margins = self._margins(x)
        squared = self.param.hinge_loss_param.norm == pb.HingeLossParameter.L2
        return (margins * margins if squared else margins).sum(dtype=np.float64) / len(x)

    def gradient(self, bottom: Sequence[Blob], index: int, weight: float) -> None:
        x = _rows(bottom[0].data)
        margins = self._margins(x)
        squared = self.param.hinge_loss_param.norm == pb.HingeLossParameter.L2
        slope = 2 * margins if squared else np.sign(margins)
        np.multiply(self.sign * slope, x.dtype.type(weight / len(x)), out=_rows(bottom[0].diff))

    def _margins(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(1 + self.sign * x, 0)


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(NormalizedLoss):
    """The cross entropy of independent probabilities s(x) = 1 / (1 + exp(-x)) and targets t in [0, 1].

    x [N, ...] and t of the same count  ->  loss, a scalar; a second top is not made

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
        x, target = (_rows(blob.data) for blob in bottom)
        self.used = np.trunc(target) != self.ignore_label if self.ignore_label is not None else np.ones(x.shape, bool)
        self.scale = 1 / self.divisor(x.size, int(self.used.sum()), len(x))
        losses = np.empty(len(x))
        _for_items(kernels.sigmoid_cross_entropy, x, target, self.used, losses)
        return losses.sum() * self.scale

    def gradient(self, bottom: Sequence[Blob], index: int, weight: float) -> None:
        x, target = (_rows(blob.data) for blob in bottom)
        scale = x.dtype.type(weight * self.scale)
        dx = _rows(bottom[0].diff)
        _for_items(kernels.sigmoid_cross_entropy_backward, x, target, self.used, scale, dx)


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
        a, b = (_rows(blob.data) for blob in bottom)
        losses = np.empty(len(a))
        _for_items(kernels.squared_distance, a, b, losses)
        return losses.sum() / (2 * len(a))

    def gradient(self, bottom: Sequence[Blob], index: int, weight: float) -> None:
        a, b = (_rows(blob.data) for blob in bottom)
        scale = a.dtype.type((weight if index == 0 else -weight) / len(a))
        _for_items(kernels.squared_distance_backward, a, b, scale, _rows(bottom[index].diff))


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
        dx = _rows(bottom[index].diff)
        np.multiply(self._difference(bottom), scale[:, None].astype(self.dtype), out=dx)

    def _settings(self) -> tuple[float, bool]:
        param = self.param.contrastive_loss_param
        return param.margin, param.legacy_version

    def _alike(self, bottom: Sequence[Blob]) -> np.ndarray:
        return np.trunc(bottom[2].data.reshape(-1)) != 0

    def _difference(self, bottom: Sequence[Blob]) -> np.ndarray:
        return _rows(bottom[0].data) - _rows(bottom[1].data)

    def _squared_distance(self, bottom: Sequence[Blob]) -> np.ndarray:
        return np.square(self._difference(bottom), dtype=np.float64).sum(axis=1)


def _rows(array: np.ndarray) -> np.ndarray:
    """[N, ...] as [N, the rest]; of one axis, as [N, 1]."""
    return array.reshape(len(array), -1)


def _for_items(kernel, items: np.ndarray, *args) -> None:
    """Run a kernel over the first axis."""
    elements.run_rows(kernel, len(items), items[0].size, items, *args)
