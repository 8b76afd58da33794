"""Normalisation by statistics of the activations: BatchNorm, MVN, LRN."""

from collections.abc import Callable, Sequence

import numpy as np

from blobnet.blob import Blob
from blobnet.kernels import elements
from blobnet.kernels import normalization as kernels
from blobnet.kernels.parallel import repeated
from blobnet.layers.base import Layer, describe
from blobnet.layers.neuron import keep
from blobnet.layers.registry import register
from blobnet.proto import blobnet_pb2 as pb


class _Normalization(Layer):
    """Base of layers that subtract a mean and multiply by a factor: normalised x = (x - mean) factor.

    Subclasses set ``view``, the extents [N, C, P] in which axis 1 has a mean and factor each, in reshape, and
    ``mean`` and ``factor`` in forward: float64, one number a channel.
    """

    in_place = True
    view: tuple[int, int, int]
    mean: np.ndarray
    factor: np.ndarray
    input: np.ndarray  # of the last forward pass, [N, C, P]
    keeps_input = True
    _kept = np.empty(0)

    def line(self, scale: np.ndarray | None = None, shift: np.ndarray | None = None, clip=False) -> kernels.Line:
        """scale times normalised x + shift, by channel, clipped at 0 or not; the normalised x when left out."""
        scale = np.ones(self.view[1], self.dtype) if scale is None else scale
        shift = np.zeros(self.view[1], self.dtype) if shift is None else shift
        return kernels.Line(self.mean, self.factor, scale, shift, clip)

    def apply(self, line: kernels.Line, top: Blob) -> None:
        """The top from the input."""
        y = self._seen(top.data)
        self._run(kernels.apply_line, self.input, line, None if np.may_share_memory(self.input, y) else y)

    def join(self, line: kernels.Line, other: Blob, top: Blob) -> None:
        """The top as the sum of the line and another blob, clipped at 0."""
        self._run(kernels.join_line, self.input, line, self._seen(other.data), self._seen(top.data))

    def move_input(self) -> None:
        """Keep the input by itself: what it lies in is about to be overwritten."""
        self.input = self._kept = keep(self.input, self._kept)

    def gradient_sums(
        self, line: kernels.Line, top: Blob, joined: kernels.Joined | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """For each channel the sums of g, and of g times the normalised x; g = dy, 0 where the line is clipped."""
        sums = np.empty_like(self.mean), np.empty_like(self.mean)
        self._run(kernels.gradient_sums, self.input, self._seen(top.diff), joined, line, *sums, scratch=self._room())
        return sums

    def differentiate(
        self, line: kernels.Line, top: Blob, bottom: Blob, joined: kernels.Joined | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The gradient of the bottom, mean and factor being those of the input; returns ``gradient_sums``."""
        sums = np.empty_like(self.mean), np.empty_like(self.mean)
        dx = None if bottom is top else self._seen(bottom.diff)
        arrays = self.input, self._seen(top.diff), joined, line, *sums, dx
        self._run(kernels.sums_and_line_gradient, *arrays, scratch=self._room())
        return sums

    def joined(self, top: Blob, second: Blob, other: Blob) -> kernels.Joined:
        """Behind ``join``: the top, the second reader's gradient, and the other blob's, to be written."""
        return kernels.Joined(*map(self._seen, (top.data, second.diff, other.diff)))

    def differentiate_fixed(
        self, line: kernels.Line, rate: np.ndarray, top: Blob, bottom: Blob, joined: kernels.Joined | None = None
    ) -> None:
        """rate times g, by channel: the gradient of the bottom where mean and factor do not come from the input."""
        dy = self._seen(top.diff) if joined is None else joined.g
        dx = None if bottom is top else self._seen(bottom.diff)
        self._run(kernels.fixed_line_gradient, self.input, dy, line, rate, dx)

    def _take_moments(self, bottom: Blob, top: Blob, variance: np.ndarray) -> None:
        """Write mean and variance of each channel. In place, the input is copied for the backward pass."""
        x, kept = self._seen(bottom.data), None
        if bottom is top:
            if self._kept.shape != x.shape:
                self._kept = np.empty_like(x)
            kept = self._kept
        self._run(kernels.moments, x, kept, self.mean, variance, scratch=self._room())
        repeated(setattr, self, "input", x if kept is None else kept, in_order=False)

    def _run(self, kernel: Callable, *args, **scratch) -> None:
        N, C, P = self.view
        elements.run_rows(kernel, C, N * P, *args, **scratch)

    def _room(self) -> np.ndarray:
        return kernels.room_for_sums(self.view[1], self.dtype)

    def _seen(self, array: np.ndarray) -> np.ndarray:
        return array.reshape(self.view)


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
        self.mean, self.variance, self.factor = np.empty((3, self.channels))
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
        self.view = (bottom[0].shape[0], self.channels, bottom[0].count_between(2))
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.take_statistics(bottom[0], top[0])
        self.apply(self.line(), top[0])

    def take_statistics(self, bottom: Blob, top: Blob, keep_input: bool = False) -> None:
        """Set mean and factor for the bottom, and remember them where they are the batch's.

        keep_input  in place, keep a copy of the input even where this layer's own gradient needs none
        """
        if self.use_global_stats:
            self.input = self._seen(bottom.data)
            if keep_input and bottom is top:
                self.move_input()
            self.mean, self.factor = self.remembered()
        else:
            self._take_moments(bottom, top, self.variance)
            self._remember(bottom.count // self.channels)

    def remembered(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and factor from the remembered statistics."""
        weight = float(self.blobs[2].data[0])
        share = 1 / weight if weight else 0.0
        mean, variance = (blob.data * np.float64(share) for blob in self.blobs[:2])
        factor = np.empty_like(variance)
        self._take_factor(variance, factor)
        return mean, factor

    def _take_factor(self, variance: np.ndarray, factor: np.ndarray) -> None:
        elements.run(kernels.factors, self.channels, variance, self.param.batch_norm_param.eps, factor)

    def _remember(self, m: int) -> None:
        """Take in the statistics of a batch, of m numbers a channel, and set the factor."""
        unbiased = m / (m - 1) if m > 1 else 1.0
        fraction = self.param.batch_norm_param.moving_average_fraction
        statistics = [blob.data for blob in self.blobs]
        elements.run(kernels.remember, self.channels, self.mean, self.variance, unbiased, fraction, *statistics)
        self._take_factor(self.variance, self.factor)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        if self.use_global_stats:
            self._differentiate_remembered(self.line(), top[0], bottom[0])
        else:
            super().differentiate(self.line(), top[0], bottom[0])

    def differentiate(
        self, line: kernels.Line, top: Blob, bottom: Blob, joined: kernels.Joined | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        if not self.use_global_stats:
            return super().differentiate(line, top, bottom, joined)
        sums = self.gradient_sums(line, top, joined)
        self._differentiate_remembered(line, top, bottom, joined)
        return sums

    def _differentiate_remembered(
        self, line: kernels.Line, top: Blob, bottom: Blob, joined: kernels.Joined | None = None
    ) -> None:
        self.differentiate_fixed(line, (line.scale * self.factor).astype(self.dtype), top, bottom, joined)


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
        rows = N if self.param.mvn_param.across_channels else N * C
        self.view = (1, rows, bottom[0].count // rows)
        top[0].reshape(N, C, H, W)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.mean, variance = np.empty((2, self.view[1]))
        self._take_moments(bottom[0], top[0], variance)
        param = self.param.mvn_param
        if param.normalize_variance:
            with np.errstate(all="ignore"):
                self.factor = 1 / (np.sqrt(variance) + param.eps)
        else:
            self.factor = np.ones_like(variance)
        self.apply(self.line(), top[0])

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        if self.param.mvn_param.normalize_variance:
            line = self.line()
            self.differentiate(line, top[0], bottom[0])
        else:
            dy = self._seen(top[0].diff)
            with np.errstate(all="ignore"):
                np.subtract(dy, dy.mean(axis=2, keepdims=True), out=self._seen(bottom[0].diff))


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
        _, rows, columns = self.scale.shape
        self.sizes = kernels.window_sizes(rows, columns, self.response)

    def _windowed(self, array: np.ndarray) -> np.ndarray:
        """The two axes a window spans last: [N, C, H W], or [N C, H, W]."""
        N, C, H, W = array.shape
        across = self.param.lrn_param.norm_region == pb.LRNParameter.ACROSS_CHANNELS
        return array.reshape((N, C, H * W) if across else (N * C, H, W))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x, y = self._windowed(bottom[0].data), self._windowed(top[0].data)
        self._run(kernels.response_forward, x, self.response, self.sizes, self.scale, y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            x, dy, dx = (self._windowed(array) for array in (bottom[0].data, top[0].diff, bottom[0].diff))
            self._run(kernels.response_backward, x, self.scale, dy, self.response, self.sizes, dx)

    def _run(self, kernel: Callable, x: np.ndarray, *args) -> None:
        elements.run_rows(kernel, len(x), x[0].size, x, *args, scratch=kernels.room_for_windows(self.sizes, x.dtype))
