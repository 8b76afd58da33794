"""Pooling over windows of the image: Pooling, SPP."""

from collections.abc import Sequence

import numpy as np

from blobnet.blob import Blob
from blobnet.kernels import averages, elements
from blobnet.kernels import pooling as kernels
from blobnet.layers.base import Layer, describe
from blobnet.layers.registry import register
from blobnet.proto import blobnet_pb2 as pb

MAX, AVE, STOCHASTIC = pb.PoolingParameter.MAX, pb.PoolingParameter.AVE, pb.PoolingParameter.STOCHASTIC


@register("Pooling")
class Pooling(Layer):
    """Each output summarises a window of one channel.

    x [N, C, H, W]  ->  y [N, C, PH, PW], PH = ceil((H + 2 pad_h - kernel_h) / stride_h) + 1 (floor with
    ``round_mode: FLOOR``), PW likewise. With padding a last window that would begin beyond the image is left
    out. Every window must hold a cell of the image.

    MAX         y is the largest cell, the first of equal ones, NaN where one is NaN. dy goes to that cell.
                A second top [N, C, PH, PW] gives its index h W + w.
    AVE         y is the sum over the cells inside the image divided by the cells of the window, padding
                counted, what hangs over the padding not. Each cell of the image gets dy over that divisor.
    STOCHASTIC  TRAIN: y is a cell drawn with probability x / sum x (negative cells count 0), dy goes to it.
                TEST: y = sum x^2 / sum x, dx = dy (2 x - y) / sum x. Takes no padding.

    pooling_param (proto defaults in parentheses)
        pool (MAX); kernel_size or kernel_h and kernel_w; stride (1) or stride_h and stride_w;
        pad (0) or pad_h and pad_w; global_pooling (false): the window is the image; round_mode (CEIL)
    Sources: Caffe, pooling_layer.cpp; Zeiler and Fergus 2013, "Stochastic Pooling", section 3.
    """

    tops = (1, 2)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        param = self.param.pooling_param
        self.method = param.pool
        self.steady = self.method != STOCHASTIC and len(top) == 1
        method = pb.PoolingParameter.PoolMethod.Name(self.method)
        self.require(
            len(top) == 1 or self.method == MAX,
            f"a second top, the mask, is made by MAX pooling only; pool is {method}",
            "pooling_param.pool",
        )
        kernel_h, kernel_w = (0, 0) if param.global_pooling else self._kernel()
        pad_h, pad_w = self._pair("pad", 0)
        stride_h, stride_w = self._pair("stride", 1)
        self.given = kernels.Window(kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w)
        self.require(
            min(stride_h, stride_w) > 0,
            f"the stride must be 1 or more; got {stride_h} x {stride_w}",
            "pooling_param.stride",
        )
        if param.global_pooling:
            self._check_global()
        elif pad_h or pad_w:
            self.require(
                self.method != STOCHASTIC,
                f"STOCHASTIC pooling takes no padding; got {pad_h} x {pad_w}",
                "pooling_param.pad",
            )
            self.require(
                pad_h < kernel_h and pad_w < kernel_w,
                f"pad must be smaller than the kernel; got pad {pad_h} x {pad_w}, kernel {kernel_h} x {kernel_w}",
                "pooling_param.pad",
            )

    def _kernel(self) -> tuple[int, int]:
        param = self.param.pooling_param
        both = param.HasField("kernel_h") and param.HasField("kernel_w")
        self.require(
            param.HasField("kernel_size") != both,
            "give either kernel_size, or both kernel_h and kernel_w (or global_pooling: true)",
            "pooling_param.kernel_size",
        )
        kernel = (param.kernel_h, param.kernel_w) if both else (param.kernel_size, param.kernel_size)
        self.require(
            min(kernel) > 0,
            f"the kernel must be 1 x 1 or larger; got {kernel[0]} x {kernel[1]}",
            "pooling_param.kernel_size",
        )
        return kernel

    def _pair(self, field: str, default: int) -> tuple[int, int]:
        param = self.param.pooling_param
        given = [param.HasField(f"{field}_h"), param.HasField(f"{field}_w")]
        self.require(
            not any(given) or (all(given) and not param.HasField(field)),
            f"give either {field}, or both {field}_h and {field}_w",
            f"pooling_param.{field}",
        )
        if all(given):
            return getattr(param, f"{field}_h"), getattr(param, f"{field}_w")
        single = getattr(param, field) if param.HasField(field) else default
        return single, single

    def _check_global(self) -> None:
        param, window = self.param.pooling_param, self.given
        self.require(
            not any(param.HasField(field) for field in ("kernel_size", "kernel_h", "kernel_w")),
            "global_pooling: true takes the image for its window; leave kernel_size, kernel_h and kernel_w out",
            "pooling_param.kernel_size",
        )
        self.require(
            (window.sh, window.sw, window.ph, window.pw) == (1, 1, 0, 0),
            "global_pooling: true has one window only; leave stride and pad out "
            f"(got stride {window.sh} x {window.sw}, pad {window.ph} x {window.pw})",
            "pooling_param.global_pooling",
        )

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.require(
            bottom[0].num_axes == 4, f"{describe(bottom[0])} must have 4 axes (N C H W); it has {bottom[0].num_axes}"
        )
        N, C, H, W = bottom[0].shape
        window = self.given
        if self.param.pooling_param.global_pooling:
            window = window._replace(kh=H, kw=W)
        padded = window.ph > 0 or window.pw > 0
        PH = self._windows("height", H, window.kh, window.sh, window.ph, padded)
        PW = self._windows("width", W, window.kw, window.sw, window.pw, padded)
        self.window = window._replace(kh=min(window.kh, H + 2 * window.ph), kw=min(window.kw, W + 2 * window.pw))
        for blob in top:
            blob.reshape(N, C, PH, PW)
        routed = self.method == MAX or (self.method == STOCHASTIC and self.phase == pb.TRAIN)
        self.mask = np.zeros((N * C, PH, PW), f"i{self.dtype.itemsize}") if routed else None

    def _windows(self, axis: str, extent: int, kernel: int, stride: int, pad: int, padded: bool) -> int:
        """Number of windows along an axis; an error where there is none or one would be empty."""
        room = extent + 2 * pad - kernel
        floor = self.param.pooling_param.round_mode == pb.PoolingParameter.FLOOR
        count = (room // stride if floor else -(-room // stride)) + 1
        if padded and (count - 1) * stride >= extent + pad:
            count -= 1
        sizes = f"{axis} {extent}, kernel {kernel}, stride {stride}, pad {pad}"
        remedy = "make the kernel smaller or the image larger"
        self.require(count > 0, f"no window fits: {sizes}; {remedy}", "pooling_param")
        self.require(
            (count - 1) * stride - pad < extent,
            f"window {count} along the {axis} would be empty: {sizes}; "
            "use round_mode: FLOOR, or a stride no larger than the kernel",
            "pooling_param.stride",
        )
        return count

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        x, y = _planes(bottom[0].data), _planes(top[0].data)
        if self.method == MAX and self.mask is not None:
            kernels.find_largest(x, self.window, y, self.mask)
        elif self.method == AVE and self.window.covers(x.shape[1:]):
            _for_planes(averages.plane_means, _rows(x), y.reshape(-1))
        elif self.method == AVE:
            averages.sum_rectangles(x, averages.means(self.window, x.shape[1:], y.shape[1:]), y)
        elif self.phase == pb.TRAIN:
            _for_planes(kernels.sample_forward, x, *self._spans(x, y), self.stream.key(), y, self.mask)
        else:
            _for_planes(kernels.weighted_forward, x, *self._spans(x, y), y)
        if len(top) == 2 and self.mask is not None:
            _planes(top[1].data)[...] = self.mask

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        dy, dx = _planes(top[0].diff), _planes(bottom[0].diff)
        if self.mask is not None:
            _for_planes(kernels.scatter, _rows(dy), _rows(self.mask), _rows(dx))
        elif self.method == AVE and self.window.covers(dx.shape[1:]):
            elements.run_rows(averages.plane_shares, len(dx), dx[0].size, dy.reshape(-1), _rows(dx))
        elif self.method == AVE:
            averages.sum_rectangles(dy, averages.shares(self.window, dx.shape[1:], dy.shape[1:]), dx)
        else:
            _for_planes(kernels.weighted_backward, _planes(bottom[0].data), dy, *self._spans(dx, dy), dx)

    def _spans(self, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        return kernels.spans_of(self.window, x.shape[1:], y.shape[1:])


@register("SPP")
class SPP(Layer):
    """Spatial pyramid pooling: a vector of one length for images of any size.

    x [N, C, H, W]  ->  y [N, C (1 + 4 + ... + 4^(pyramid_height - 1))]: level l pools the image into 2^l x 2^l
    bins and is flattened. A pyramid of one level keeps its shape [N, C, 1, 1].

    Windows of level l: kernel = stride = ceil(H / 2^l), pad = ceil((2^l kernel - H) / 2), the width likewise;
    gradients as in Pooling.

    spp_param (proto defaults in parentheses)
        pyramid_height, pool (MAX)
    Sources: Caffe, spp_layer.cpp; He et al. 2014, "Spatial Pyramid Pooling in Deep Convolutional Networks".
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.require(
            self.param.spp_param.pyramid_height > 0,
            "pyramid_height must be given and positive",
            "spp_param.pyramid_height",
        )

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.require(
            bottom[0].num_axes == 4, f"{describe(bottom[0])} must have 4 axes (N C H W); it has {bottom[0].num_axes}"
        )
        height = self.param.spp_param.pyramid_height
        self.levels = [self._level(level, bottom[0]) for level in range(height)]
        self.pooled = [Blob(dtype=self.dtype, name=f"{self.name}[{level}]") for level in range(height)]
        for level, pooled in zip(self.levels, self.pooled, strict=True):
            level.setup(bottom, [pooled])
            level.reshape(bottom, [pooled])
        if height == 1:
            top[0].reshape(*self.pooled[0].shape)
        else:
            top[0].reshape(bottom[0].shape[0], sum(pooled.count_between(1) for pooled in self.pooled))

    def _level(self, level: int, bottom: Blob) -> Pooling:
        bins = 1 << level
        _, _, H, W = bottom.shape
        kernel_h, kernel_w = -(-H // bins), -(-W // bins)
        pad_h, pad_w = -(-(kernel_h * bins - H) // 2), -(-(kernel_w * bins - W) // 2)
        self.require(
            pad_h < kernel_h and pad_w < kernel_w,
            f"{describe(bottom)} is too small for {bins} x {bins} bins; "
            f"make pyramid_height smaller than {level + 1} or the image larger",
            "spp_param.pyramid_height",
        )
        param = pb.LayerParameter()
        param.CopyFrom(self.param)
        param.pooling_param.CopyFrom(
            pb.PoolingParameter(
                pool=self.param.spp_param.pool,
                kernel_h=kernel_h,
                kernel_w=kernel_w,
                stride_h=kernel_h,
                stride_w=kernel_w,
                pad_h=pad_h,
                pad_w=pad_w,
            )
        )
        pooling = Pooling(param, self.context)
        pooling.stream = self.stream
        return pooling

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        for level, pooled in zip(self.levels, self.pooled, strict=True):
            level.forward(bottom, [pooled])
        parts = [_rows(pooled.data) for pooled in self.pooled]
        np.concatenate(parts, axis=1, out=_rows(top[0].data))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        dx = np.zeros_like(bottom[0].diff)
        start = 0
        for level, pooled in zip(self.levels, self.pooled, strict=True):
            stop = start + pooled.count_between(1)
            _rows(pooled.diff)[...] = _rows(top[0].diff)[:, start:stop]
            level.backward([pooled], [True], bottom)
            dx += bottom[0].diff
            start = stop
        bottom[0].diff[...] = dx


def _for_planes(kernel, planes: np.ndarray, *args) -> None:
    """Run a kernel over planes."""
    elements.run_rows(kernel, len(planes), planes[0].size, planes, *args)


def _planes(array: np.ndarray) -> np.ndarray:
    """[N, C, H, W] as planes [N C, H, W]."""
    return array.reshape(-1, *array.shape[2:])


def _rows(array: np.ndarray) -> np.ndarray:
    return array.reshape(len(array), -1)
