"""Layers that slide a kernel over the spatial axes: Convolution, Deconvolution, Im2col."""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from blobnet.blob import Blob
from blobnet.kernels import convolution, geometry, im2col, parallel
from blobnet.layers.base import Arity, Layer, describe
from blobnet.layers.registry import register


class SlidingKernel(Layer):
    """What the three share: the kernel's size, stride, pad and dilation on each spatial axis.

    convolution_param (proto defaults in parentheses)
        axis (1)                   the channel axis; those after it are spatial, those before it the batch
        kernel_size                once, or once per spatial axis; or kernel_h and kernel_w on two axes
        stride (1), pad (0)        likewise, or stride_h, stride_w and pad_h, pad_w
        dilation (1)               distance of neighbouring taps
        force_nd_im2col, engine    accepted; any number of axes takes the same path
    """

    bottoms: ClassVar[Arity] = (1, None)
    tops: ClassVar[Arity] = (1, None)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.require(
            len(bottom) == len(top),
            f"each bottom needs its top; got {len(bottom)} bottoms and {len(top)} tops",
        )
        self.channel_axis = self.axis(bottom[0], self.param.convolution_param.axis, "convolution_param.axis")
        self.spatial_axes = bottom[0].num_axes - self.channel_axis - 1
        self.channels = bottom[0].shape[self.channel_axis]
        self.kernel = self._per_axis("kernel_size", "kernel", least=1)
        self.stride = self._per_axis("stride", "stride", least=1, default=1)
        self.pad = self._per_axis("pad", "pad", least=0, default=0)
        self.dilation = self._per_axis("dilation", "", least=1, default=1)

    def _per_axis(self, field: str, stem: str, least: int, default: int | None = None) -> tuple[int, ...]:
        """One value per spatial axis, from the repeated field or from its _h and _w forms."""
        param = self.param.convolution_param
        path = f"convolution_param.{field}"
        repeated = list(getattr(param, field))
        pair = [f"{stem}_h", f"{stem}_w"] if stem else []
        if any(param.HasField(name) for name in pair):
            path = f"convolution_param.{next(name for name in pair if param.HasField(name))}"
            both = " and ".join(pair)
            self.require(not repeated, f"state either {field} or {both}, not both", path)
            self.require(self.spatial_axes == 2, f"{both} are for two spatial axes; here are {self.spatial_axes}", path)
            values = [getattr(param, name) for name in pair]
        else:
            once = f"once or once per spatial axis ({self.spatial_axes} here)"
            self.require(bool(repeated) or default is not None, f"{field} must be given, {once}", path)
            self.require(
                len(repeated) in (0, 1, self.spatial_axes),
                f"{field} must be given {once}; it is given {len(repeated)} times",
                path,
            )
            every = len(repeated) == self.spatial_axes
            values = repeated if every else (repeated or [default]) * self.spatial_axes
        self.require(min(values, default=least) >= least, f"{field} must be {least} or more; got {_by(values)}", path)
        return tuple(values)

    def check_bottoms(self, bottom: Sequence[Blob]) -> None:
        first = bottom[0]
        self.require(
            first.num_axes == self.channel_axis + 1 + self.spatial_axes
            and first.shape[self.channel_axis] == self.channels,
            f"{describe(first)} must have {self.channels} channels on axis {self.channel_axis} and "
            f"{self.spatial_axes} spatial axes after it, as when the layer was made",
        )
        self.require(first.count > 0, f"{describe(first)} is empty")
        for other in bottom[1:]:
            self.require(
                other.shape == first.shape,
                f"all bottoms must have one shape; {describe(other)} differs from {describe(first)}",
            )

    def sliding(self, blob: Blob) -> geometry.Geometry:
        """The geometry of the kernel sliding over a blob, which it must fit into."""
        sizes = blob.shape[self.channel_axis + 1 :]
        output = tuple(map(geometry.convolved, sizes, self.kernel, self.stride, self.pad, self.dilation))
        self.require(
            min(output, default=1) >= 1,
            f"the kernel spans {_by(map(geometry.extent, self.kernel, self.dilation))} pixels (kernel "
            f"{_by(self.kernel)}, dilation {_by(self.dilation)}) and does not fit into {describe(blob)} "
            f"padded by {_by(self.pad)}; take a smaller kernel or more padding",
            "convolution_param",
        )
        return geometry.Geometry(sizes, self.kernel, self.stride, self.pad, self.dilation, output)


class Weighted(SlidingKernel):
    """Convolution and Deconvolution: filters, grouped, and a bias per output channel.

    blobs: the weights, and the bias [num_output] unless ``bias_term`` is false.

    convolution_param (proto defaults in parentheses)
        num_output                 output channels
        group (1)                  group g of the outputs sees group g of the channels only
        bias_term (true), weight_filler, bias_filler
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().setup(bottom, top)
        param = self.param.convolution_param
        self.num_output, self.group = param.num_output, param.group
        self.require(self.num_output > 0, "num_output must be given and positive", "convolution_param.num_output")
        self.require(self.group > 0, f"group must be positive; got {self.group}", "convolution_param.group")
        self.require(
            self.num_output % self.group == 0,
            f"num_output must be divisible by group; got num_output {self.num_output}, group {self.group}",
            "convolution_param.group",
        )
        self.require(
            self.channels % self.group == 0,
            f"the channels of {describe(bottom[0])} must be divisible by group; got {self.channels} channels "
            f"on axis {self.channel_axis}, group {self.group}",
            "convolution_param.group",
        )
        self.add_blob(self.weight_shape(), param.weight_filler)
        if param.bias_term:
            self.add_blob((self.num_output,), param.bias_filler)

    geometry: geometry.Geometry  # of the convolution; a deconvolution is one from its top to its bottom

    def weight_shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    def shape_tops(self, bottom: Sequence[Blob], top: Sequence[Blob], spatial: tuple[int, ...]) -> None:
        for blob in top:
            blob.reshape(*bottom[0].shape[: self.channel_axis], self.num_output, *spatial)

    def weights(self) -> np.ndarray:
        """The weights [filters, channels per group, taps]."""
        return self._by_taps(self.blobs[0].data)

    def _by_taps(self, array: np.ndarray) -> np.ndarray:
        return array.reshape(*array.shape[:2], -1)

    def planes(self, array: np.ndarray) -> np.ndarray:
        """A bottom's or top's array as [N, C, pixels]."""
        batch = math.prod(array.shape[: self.channel_axis])
        return array.reshape(batch, array.shape[self.channel_axis], -1)

    @property
    def bias(self) -> np.ndarray | None:
        return self.blobs[1].data if len(self.blobs) > 1 else None

    def flops(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> int:
        images = bottom[0].count_between(0, self.channel_axis) * len(bottom)
        return 2 * self.blobs[0].count * images * math.prod(self.geometry.output)

    def backward_weights(self, x: np.ndarray, dy: np.ndarray) -> None:
        """Where weights learn: add what the planes x and dy, of the convolution, give to their gradient."""
        if self.param_propagate_down[0]:
            dw, beta = self.blobs[0].gradient_sum()
            convolution.backward_weights(x, dy, self._by_taps(dw), self.geometry, self.group, beta)

    def backward_bias(self, top: Blob) -> None:
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            db, beta = self.blobs[1].gradient_sum()
            convolution.backward_bias(self.planes(top.diff), db, beta)


@register("Convolution")
class Convolution(Weighted):
    """Convolution (cross-correlation) of each bottom into its top, with one set of filters.

    x [N, C, input]  ->  y [N, num_output, output],  output = (input + 2 pad - extent) // stride + 1
    weights [num_output, C / group, kernel],  extent = dilation (kernel - 1) + 1

    y[n, o, p]  = bias[o] + sum over c and k of w[o, c, k] x[n, c, p stride + k dilation - pad]
    dx, dw, db  = the same sum read the other two ways; zeros of the padding count as pixels
    Source: Caffe, base_conv_layer.cpp and conv_layer.cpp.
    """

    steady = True

    def weight_shape(self) -> tuple[int, ...]:
        return (self.num_output, self.channels // self.group, *self.kernel)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.check_bottoms(bottom)
        self.geometry = self.sliding(bottom[0])
        self.shape_tops(bottom, top, self.geometry.output)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        for x, y in zip(bottom, top, strict=True):
            self.convolve(x, y)

    def convolve(self, x: Blob, y: Blob, first: int = 0, clip: bool = False) -> None:
        """The channels of y from ``first`` on, of x; ``clip``: 0 where they would be negative.

        If the convolution is depthwise, y has no other channels.
        """
        arrays = self.planes(x.data), self.weights(), self.planes(y.data)
        convolution.forward(*arrays, self.geometry, self.group, self.bias, clip, first=first)

    @property
    def depthwise(self) -> bool:
        """Whether every channel is convolved by itself."""
        return self.group == self.channels > 1

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        for x, y, propagate in zip(bottom, top, propagate_down, strict=True):
            self.backward_bias(y)
            self.differentiate(x, y, propagate)

    def differentiate(self, x: Blob, y: Blob, propagate: bool) -> None:
        """The gradient of the weights, and that of x where it is to propagate, for one pair."""
        dy = self.planes(y.diff)
        self.backward_weights(self.planes(x.data), dy)
        if propagate:
            convolution.backward_data(dy, self.weights(), self.planes(x.diff), self.geometry, self.group)

    def clip_gradient(self, y: Blob, clipped: Blob, clipped_first: int, source: Blob, source_first: int) -> None:
        """The diff of y, and what it adds to that of the bias, from y clipped at 0 and the gradient of that.

        They are data and diff of two blobs, from some channel on.
        """
        g = None if source is y else self.planes(y.diff)
        learns = len(self.blobs) > 1 and self.param_propagate_down[1]
        db, beta = self.blobs[1].gradient_sum() if learns else (np.empty(self.num_output, self.dtype), 0)
        known = self.planes(clipped.data), clipped_first, self.planes(source.diff), source_first
        convolution.clip_gradient(*known, g, db, beta)


@register("Deconvolution")
class Deconvolution(Weighted):
    """Deconvolution: the gradient of a convolution as a layer, each input pixel spreads a weighted kernel.

    x [N, C, input]  ->  y [N, num_output, output],  output = stride (input - 1) + extent - 2 pad
    weights [C, num_output / group, kernel]

    y[n, o, p stride + k dilation - pad] += w[c, o, k] x[n, c, p], then the bias
    dx is a convolution of dy with the same weights.
    Source: Caffe, deconv_layer.cpp; Long, Shelhamer and Darrell 2015, section 3.3.
    """

    def weight_shape(self) -> tuple[int, ...]:
        return (self.channels, self.num_output // self.group, *self.kernel)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.check_bottoms(bottom)
        sizes = bottom[0].shape[self.channel_axis + 1 :]
        output = tuple(map(geometry.deconvolved, sizes, self.kernel, self.stride, self.pad, self.dilation))
        self.require(
            min(output, default=1) >= 1,
            f"pad {_by(self.pad)} leaves no pixel of {describe(bottom[0])}: the top would be {_by(output)}",
            "convolution_param.pad",
        )
        self.geometry = geometry.Geometry(output, self.kernel, self.stride, self.pad, self.dilation, sizes)
        self.shape_tops(bottom, top, output)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        for x, y in zip(bottom, top, strict=True):
            convolution.backward_data(
                self.planes(x.data), self.weights(), self.planes(y.data), self.geometry, self.group, self.bias
            )

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        for x, y, propagate in zip(bottom, top, propagate_down, strict=True):
            self.backward_bias(y)
            dy = self.planes(y.diff)
            self.backward_weights(dy, self.planes(x.data))
            if propagate:
                convolution.forward(dy, self.weights(), self.planes(x.diff), self.geometry, self.group)


@register("Im2col")
class Im2col(SlidingKernel):
    """The patches under a sliding kernel, as channels.

    x [N, C, input]  ->  y [N, C x taps, output],  taps = product of the kernel's extents

    y[n, c taps + k, p] = x[n, c, p stride + k dilation - pad], 0 in the padding; dx sums what was copied.
    Source: Caffe, im2col_layer.cpp.
    """

    tops = (1, 1)
    bottoms = (1, 1)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.check_bottoms(bottom)
        self.table = im2col.tap_table(self.sliding(bottom[0]))
        output = self.sliding(bottom[0]).output
        top[0].reshape(*bottom[0].shape[: self.channel_axis], self.channels * len(self.table), *output)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        image, columns = self._views(bottom[0].data, top[0].data)
        parallel.parallel_for(im2col.im2col, len(image), image, self.table, columns)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            image, columns = self._views(bottom[0].diff, top[0].diff)
            parallel.parallel_for(im2col.col2im, len(image), columns, self.table, image)

    def _views(self, image: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every channel of every image on one axis: [N x C, pixels] and [N x C, taps, output pixels]."""
        planes = math.prod(image.shape[: self.channel_axis + 1])
        return image.reshape(planes, -1), columns.reshape(planes, *self.table.shape)


def _by(values) -> str:
    return " x ".join(map(str, values))
