"""Losses of scores or probabilities, one a class, and class labels."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from blobnet.blob import Blob
from blobnet.errors import BlobnetError
from blobnet.io import blob_proto, files
from blobnet.kernels import elements, parallel, softmax
from blobnet.kernels import loss as kernels
from blobnet.layers import labels, loss
from blobnet.layers.registry import register
from blobnet.layers.softmax import around_axis
from blobnet.proto import blobnet_pb2 as pb

_SMALLEST = 1e-20  # probabilities below it count as it in MultinomialLogisticLoss and InfogainLoss


class SoftmaxLoss(loss.NormalizedLoss):
    """Base of losses of scores that a softmax makes probabilities first; a second top, if there is one, gets those."""

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

    def show_probability(self, top: Sequence[Blob]) -> None:
        """Into the second top, if there is one."""
        if len(top) == 2:
            parallel.repeated(np.copyto, top[1].data, self.probability.reshape(top[1].shape))


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
    steady = True

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        outer, _, inner = self.probability.shape
        self.classes = np.empty((outer, inner), np.int64)
        self.parts = np.empty((outer, 2))
        self.scale = np.empty(1)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x, (outer, classes, inner) = around_axis(bottom[0].data, self.class_axis), self.probability.shape
        if inner == 1:
            kernel, scores = kernels.softmax_and_loss, [x[:, :, 0], self.probability[:, :, 0]]
        else:
            softmax.forward(x, self.probability)
            kernel, scores = kernels.softmax_loss, [self.probability]
        ignored = np.nan if self.ignore_label is None else float(self.ignore_label)
        args = *scores, bottom[1].data.reshape(outer, inner), ignored, self.classes, self.parts
        if not elements.rows_succeed(kernel, outer, classes * inner, *args):
            labels.class_numbers(self, bottom[1], classes, self.ignore_label)
        divisor = 0 if self.normalization == loss.VALID else self.divisor(outer * inner, 0, outer)
        parallel.parallel_for(kernels.add_parts, 1, self.parts, divisor, self.scale, top[0].data.reshape(1))
        self.show_probability(top)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self.check_wanted(propagate_down, bottom)
        if propagate_down[0]:
            dx, weight = around_axis(bottom[0].diff, self.class_axis), top[0].diff.reshape(1)
            args = self.probability, self.classes, self.scale, weight, dx
            elements.run_rows(kernels.softmax_loss_backward, len(dx), dx[0].size, *args)


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
        outer, classes, inner = self.probability.shape
        self.classes = labels.class_numbers(self, bottom[1], classes, self.ignore_label).reshape(outer, inner)
        self.scale = 1 / self.divisor(outer * inner, int(np.count_nonzero(self.classes >= 0)), outer)
        super().forward(bottom, top)
        self.show_probability(top)

    def value(self, bottom: Sequence[Blob]) -> float:
        softmax.forward(around_axis(bottom[0].data, self.class_axis), self.probability)
        logarithms = np.log(np.maximum(self.probability, self.dtype.type(_SMALLEST)))
        return -(self._weights() * logarithms).sum(dtype=np.float64) * self.scale

    def gradient(self, bottom: Sequence[Blob], index: int, weight: float) -> None:
        weights = self._weights()
        gradient = self.probability * weights.sum(axis=1, keepdims=True) - weights
        around_axis(bottom[0].diff, self.class_axis)[...] = gradient * self.dtype.type(weight * self.scale)

    def _weights(self) -> np.ndarray:
        """The row of H of each item's label, [outer, C, inner]; zeros where it is ignored."""
        classes = self.probability.shape[1]
        rows = self.infogain.reshape(classes, classes)[self.classes]  # [outer, inner, C]
        return np.where(self.classes[:, None] >= 0, np.moveaxis(rows, 2, 1), 0)


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(loss.Loss):
    """The logistic loss of probabilities, as a Softmax gives them; SoftmaxWithLoss is the stabler pair.

    p [N, ...], C numbers an item, and labels t [N]  ->  loss, a scalar

    loss = -sum log max(p_t, 1e-20) / N;  dp_t = -1 / max(p_t, 1e-20) / N, the others 0
    Source: Caffe, multinomial_logistic_loss_layer.cpp.
    """

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        labels.check_label_count(self, bottom[0], bottom[1], bottom[0].shape[0])

    def value(self, bottom: Sequence[Blob]) -> float:
        p = loss.rows(bottom[0].data)
        self.classes = labels.class_numbers(self, bottom[1], p.shape[1])
        return -np.log(self._likelihood(p)).sum(dtype=np.float64) / len(p)

    def gradient(self, bottom: Sequence[Blob], index: int, weight: float) -> None:
        p, dp = loss.rows(bottom[0].data), loss.rows(bottom[0].diff)
        dp[...] = 0
        dp[np.arange(len(p)), self.classes] = -weight / len(p) / self._likelihood(p)

    def _likelihood(self, p: np.ndarray) -> np.ndarray:
        return np.maximum(p[np.arange(len(p)), self.classes], p.dtype.type(_SMALLEST))


@register("HingeLoss")
class HingeLoss(loss.Loss):
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
        x = loss.rows(bottom[0].data)
        sign = np.ones_like(x)
        sign[np.arange(len(x)), labels.class_numbers(self, bottom[1], x.shape[1])] = -1
        self.sign = sign
        margins = self._margins(x)
        squared = self.param.hinge_loss_param.norm == pb.HingeLossParameter.L2
        return (margins * margins if squared else margins).sum(dtype=np.float64) / len(x)

    def gradient(self, bottom: Sequence[Blob], index: int, weight: float) -> None:
        x = loss.rows(bottom[0].data)
        margins = self._margins(x)
        squared = self.param.hinge_loss_param.norm == pb.HingeLossParameter.L2
        slope = 2 * margins if squared else np.sign(margins)
        np.multiply(self.sign * slope, x.dtype.type(weight / len(x)), out=loss.rows(bottom[0].diff))

    def _margins(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(1 + self.sign * x, 0)
