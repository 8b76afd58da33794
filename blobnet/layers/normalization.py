"""Normalisation by statistics of the activations: BatchNorm, MVN, LRN."""

from collections.abc import Sequence

import numpy as np

from blobnet.blob import Blob
from blobnet.kernels import elements
from blobnet.kernels import normalization as kernels
from blobnet.layers.base import Layer, describe
from blobnet.layers.registry import register
from blobnet.proto import blobnet_pb2 as pb


class _Normalization(Layer):
    """Base of layers that subtract a mean and multiply by a factor: y = (x - mean) factor, row by row.

    Subclasses set ``rows`` in reshape and ``mean`` and ``factor`` in forward: float64, one number a channel,
    row r being of channel r % channels.
    """

    in_place = True
    rows: int
    mean: np.ndarray
    factor: np.ndarray

    def _row_moments(self, x: np.ndarray, bottom: Blob, top: Blob) -> tuple[np.ndarray, np.ndarray]:
        """Means and sums of squared distances of the rows. The input is kept for the backward pass."""
        self.input = x.copy() if bottom is top else x
        mean, squares = np.empty(self.rows), np.empty(self.rows)
        elements.run_rows(kernels.row_moments, *x.shape, x, mean, squares)
        return mean, squares

    def _normalize(self, x: np.ndarray, bottom: Blob, top: Blob) -> None:
        y = None if bottom is top else self._as_rows(top.data)
        elements.run_rows(kernels.normalize, *x.shape, x, self.mean, self.factor, y)

    def _backward(self, top: Blob, bottom: Blob) -> None:
        """dx = (dy - mean dy - y (mean of y dy)) factor, the means over the channel."""
        x, dy = self.input, self._as_rows(top.diff)
        row_dy, row_product = np.empty(self.rows), np.empty(self.rows)
        elements.run_rows(kernels.row_gradients, *x.shape, x, self.mean, self.factor, dy, row_dy, row_product)
        mean_dy, mean_product = np.empty_like(self.mean), np.empty_like(self.mean)
        kernels.channel_means(row_dy, mean_dy)
        kernels.channel_means(row_product, mean_product)
        dx = None if bottom is top else self._as_rows(bottom.diff)
        elements.run_rows(
            kernels.normalize_backward, *x.shape, x, self.mean, self.factor, mean_dy, mean_product, dy, dx
        )

    def _as_rows(self, array: np.ndarray) -> np.ndarray:
        return array.reshape(self.rows, -1)


@register("BatchNorm")
class BatchNorm(_Normalization):
    """Each channel with mean 0 and variance 1 over the batch, or by remembered statistics.

    x [N, C, ...]  ->  y of the same shape: y = (x - mean) / sqrt(var + eps), mean and (biased) variance of the
    channel over the m = count / C numbers of the batch. No scale and shift are learned here: a Scale layer
    with a bias term does that.

    dx = (dy - mean(dy) - y mean(y dy)) / sqrt(var + eps)

    blobs: sums of means [C], of variances [C] and of weights [1]. A pass on batch statistics multiplies them by
    moving_average_fraction and adds mean, var m / (m - 1) and 1. With ``use_global_stats`` mean and var are the
    first two divided by the third (0 where that is 0), and dx = dy / sqrt(var + eps).
    They are no parameters for a solver: each ``param`` must have lr_mult 0.

    batch_norm_param (proto defaults in parentheses)
        use_global_stats (false in TRAIN, true in TEST), moving_average_fraction (0.999), eps (1e-5)
    Sources: Caffe, batch_norm_layer.cpp; Ioffe and Szegedy 2015, "Batch Normalization", algorithm 1.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        param = self.param.batch_norm_param
        self.use_global_stats = param.use_global_stats if param.HasField("use_global_stats") else self.phase == pb.TEST
        self.require(bottom[0].num_axes >= 2, f"{describe(bottom[0])} must have a channel axis: two axes (N C) or more")
        self.channels = bottom[0].shape[1]
        for shape in ((self.channels,), (self.channels,), (1,)):
            self.add_blob(shape)
        for index, spec in enumerate(self.param.param):
            self.require(
                spec.lr_mult == 0,
                "the statistics of BatchNorm are not learned by a solver: lr_mult must be 0 in each param; "
                f"got {spec.lr_mult:g}",
                f"param[{index}].lr_mult",
            )
        while len(self.param.param) < len(self.blobs):
            self.param.param.add(lr_mult=0)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.require(
            bottom[0].num_axes >= 2 and bottom[0].shape[1] == self.channels,
            f"{describe(bottom[0])} must have {self.channels} channels, as when the layer was made",
        )
        self.rows = bottom[0].shape[0] * self.channels
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x = self._as_rows(bottom[0].data)
        if self.use_global_stats:
            weight = float(self.blobs[2].data[0])
            share = 1 / weight if weight else 0.0
            self.mean, variance = (blob.data * np.float64(share) for blob in self.blobs[:2])
        else:
            self.mean, variance = self._batch_moments(x, bottom[0], top[0])
            self._remember(self.mean, variance, bottom[0].count // self.channels)
        with np.errstate(all="ignore"):
            self.factor = 1 / np.sqrt(variance + self.param.batch_norm_param.eps)
        self._normalize(x, bottom[0], top[0])

    def _batch_moments(self, x: np.ndarray, bottom: Blob, top: Blob) -> tuple[np.ndarray, np.ndarray]:
        mean, variance = np.empty(self.channels), np.empty(self.channels)
        kernels.channel_moments(*self._row_moments(x, bottom, top), x.shape[1], mean, variance)
        return mean, variance

    def _remember(self, mean: np.ndarray, variance: np.ndarray, m: int) -> None:
        unbiased = variance * (m / (m - 1)) if m > 1 else variance
        for blob, value in zip(self.blobs, (mean, unbiased, 1), strict=True):
            blob.data[...] = blob.data * self.param.batch_norm_param.moving_average_fraction + value

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        if self.use_global_stats:
            factor = self.factor.astype(self.dtype).reshape(-1, 1)
            shape = (-1, self.channels, top[0].count_between(2))
            np.multiply(top[0].diff.reshape(shape), factor, out=bottom[0].diff.reshape(shape))
        else:
            self._backward(top[0], bottom[0])


@register("MVN")
class MVN(_Normalization):
    """Mean-variance normalisation of each channel of each image by itself.

    x [N, C, H, W] (missing trailing axes count 1)  ->  y [N, C, H, W]: y = (x - mean) / (std + eps) over H W,
    or over C H W with ``across_channels``; y = x - mean with ``normalize_variance: false``.

    dx = (dy - mean(dy) - y mean(y dy)) / (std + eps), as Caffe has it: the exact derivative where eps is 0;
    dx = dy - mean(dy) without the variance.

    mvn_param (proto defaults in parentheses)
        normalize_variance (true), across_channels (false), eps (1e-9)
    Source: Caffe, mvn_layer.cpp.
    """

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.require(1 <= bottom[0].num_axes <= 4, f"{describe(bottom[0])} must have 1 to 4 axes (N C H W)")
        N, C, H, W = (bottom[0].legacy_extent(axis) for axis in range(4))
        self.rows = N if self.param.mvn_param.across_channels else N * C
        top[0].reshape(N, C, H, W)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x = self._as_rows(bottom[0].data)
        self.mean, squares = self._row_moments(x, bottom[0], top[0])
        param = self.param.mvn_param
        if param.normalize_variance:
            with np.errstate(all="ignore"):
                self.factor = 1 / (np.sqrt(squares / x.shape[1]) + param.eps)
        else:
            self.factor = np.ones(self.rows)
        self._normalize(x, bottom[0], top[0])

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        if self.param.mvn_param.normalize_variance:
            self._backward(top[0], bottom[0])
        else:
            dy = self._as_rows(top[0].diff)
            with np.errstate(all="ignore"):
                np.subtract(dy, dy.mean(axis=1, keepdims=True), out=self._as_rows(bottom[0].diff))


@register("LRN")
class LRN(Layer):
    """Local response normalisation: strong neighbours weaken a cell.

    x [N, C, H, W]  ->  y of the same shape: y = x s^-beta

    ACROSS_CHANNELS  s = k + alpha / n sum x^2 over n = local_size channels around the cell's
    WITHIN_CHANNEL   s = 1 + alpha / n^2 sum x^2 over a square of n x n cells around it; k plays no part
    Cells beyond the edges count 0. With a = alpha / n or alpha / n^2,

    dx = dy s^-beta - 2 a beta x (sum of dy x s^(-beta - 1) over the same neighbours)

    lrn_param (proto defaults in parentheses)
        local_size (5), odd; alpha (1), beta (0.75), norm_region (ACROSS_CHANNELS), k (1)
    Sources: Caffe, lrn_layer.cpp; Krizhevsky et al. 2012, "ImageNet Classification", section 3.3.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        param = self.param.lrn_param
        size = param.local_size
        self.require(
            size % 2 == 1,
            f"local_size must be odd, so that the window has a centre; got {size}",
            "lrn_param.local_size",
        )
        half = size // 2
        if param.norm_region == pb.LRNParameter.ACROSS_CHANNELS:
            self.response = kernels.Response(half, 0, param.alpha / size, param.beta, param.k)
        else:
            self.response = kernels.Response(half, half, param.alpha / size**2, param.beta, 1.0)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.require(
            bottom[0].num_axes == 4, f"{describe(bottom[0])} must have 4 axes (N C H W); it has {bottom[0].num_axes}"
        )
        top[0].reshape_like(bottom[0])
        self.scale = self._windowed(np.empty(bottom[0].shape, self.dtype))

    def _windowed(self, array: np.ndarray) -> np.ndarray:
        """The two axes a window spans last: [N, C, H W], or [N C, H, W]."""
        N, C, H, W = array.shape
        across = self.param.lrn_param.norm_region == pb.LRNParameter.ACROSS_CHANNELS
        return array.reshape((N, C, H * W) if across else (N * C, H, W))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x, y = self._windowed(bottom[0].data), self._windowed(top[0].data)
        elements.run_rows(kernels.response_forward, len(x), x[0].size, x, self.response, self.scale, y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            x, dy, dx = (self._windowed(array) for array in (bottom[0].data, top[0].diff, bottom[0].diff))
            elements.run_rows(kernels.response_backward, len(x), x[0].size, x, self.scale, dy, self.response, dx)
