"""The geometry of a sliding kernel, one entry per spatial axis: what convolution kernels take for shapes."""

from typing import NamedTuple


class Geometry(NamedTuple):
    """Extents of a convolution over any number of spatial axes.

    On each axis output pixel o meets, at tap k, input pixel o * stride + k * dilation - pad.
    """

    input: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    output: tuple[int, ...]

    def reversed(self) -> "Geometry":
        """At stride 1: of the gradient of the input, which is a convolution of dy by the turned kernel."""
        pad = tuple(
            dilation * (kernel - 1) - pad
            for kernel, dilation, pad in zip(self.kernel, self.dilation, self.pad, strict=True)
        )
        return self._replace(input=self.output, pad=pad, output=self.input)


def extent(kernel: int, dilation: int) -> int:
    """Input pixels that a dilated kernel spans."""
    return dilation * (kernel - 1) + 1


def convolved(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """Output pixels of a convolution, rounded down; below 1 where the kernel exceeds the padded image."""
    return (size + 2 * pad - extent(kernel, dilation)) // stride + 1


def deconvolved(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """Output pixels of a deconvolution: the inverse of ``convolved``."""
    return stride * (size - 1) + extent(kernel, dilation) - 2 * pad
