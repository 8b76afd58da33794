"""im2col and col2im: the patches under a sliding kernel laid out as the columns of a matrix, and back.

Both read one table, made once per shape: for every tap of the kernel and every output pixel, the input
pixel under it, or -1 in the padding. So the loops are the same for any number of spatial axes.
"""

import functools

import numpy as np

from blobnet.kernels._jit import jit
from blobnet.kernels.geometry import Geometry


@functools.lru_cache(maxsize=64)
def tap_table(geometry: Geometry) -> np.ndarray:
    """int32 [taps, output pixels]: the flat input pixel under each tap, -1 in the padding."""
    axes = len(geometry.kernel)
    table = np.zeros((1, 1), np.int32)
    for axis in range(axes):
        taps = np.arange(geometry.kernel[axis]) * geometry.dilation[axis] - geometry.pad[axis]
        position = taps[:, None] + np.arange(geometry.output[axis]) * geometry.stride[axis]  # [k, o]
        inside = (position >= 0) & (position < geometry.input[axis])
        outer = table[:, None, :, None]  # [taps so far, 1, pixels so far, 1]
        both = np.where((outer >= 0) & inside[:, None], outer * geometry.input[axis] + position[:, None], -1)
        table = both.reshape(table.shape[0] * len(taps), -1).astype(np.int32)
    return table


@jit
def im2col(start, stop, image, table, columns):
    """columns[c, tap, p] = image[c, table[tap, p]], 0 in the padding, for the channels start to stop.

    image    [C, input pixels]
    columns  [C, taps, output pixels]
    """
    for c in range(start, stop):
        for tap in range(table.shape[0]):
            for p in range(table.shape[1]):
                pixel = table[tap, p]
                columns[c, tap, p] = image[c, pixel] if pixel >= 0 else 0


@jit
def col2im(start, stop, columns, table, image):
    """image[c, table[tap, p]] = sum of columns[c, tap, p]: the transpose of ``im2col``, padding dropped."""
    for c in range(start, stop):
        image[c] = 0
        for tap in range(table.shape[0]):
            for p in range(table.shape[1]):
                pixel = table[tap, p]
                if pixel >= 0:
                    image[c, pixel] += columns[c, tap, p]
