"""Softmax over the middle axis of (outer, classes, inner) arrays, called by layers.softmax and layers.loss.

With inner 1 the classes of an item are contiguous and loops run along them; else they run along ``inner``.
"""

import numpy as np

from blobnet.kernels import elements, simd
from blobnet.kernels._jit import jit
from blobnet.kernels.elements import span
from blobnet.kernels.exponential import exp
from blobnet.kernels.parallel import scratch
from blobnet.kernels.rows import at, largest


def forward(x: np.ndarray, y: np.ndarray | None) -> None:
    """y = exp(x - max) / sum exp(x - max) along the middle axis; y None: in place."""
    outer, classes, inner = x.shape
    if inner == 1:
        flat = None if y is None else y[:, :, 0]
        elements.run_rows(forward_rows, outer, classes, x[:, :, 0], flat)
    else:
        elements.run_rows(forward_columns, outer, classes * inner, x, y, scratch=scratch(2 * inner, x.dtype))


def backward(y: np.ndarray, dy: np.ndarray, dx: np.ndarray | None) -> None:
    """dx = y (dy - sum of y dy along the middle axis); dx None: in place of dy."""
    outer, classes, inner = y.shape
    if inner == 1:
        flat = None if dx is None else dx[:, :, 0]
        elements.run_rows(backward_rows, outer, classes, y[:, :, 0], dy[:, :, 0], flat)
    else:
        elements.run_rows(backward_columns, outer, classes * inner, y, dy, dx, scratch=scratch(inner, y.dtype))


@jit
def forward_rows(start, stop, x, y):
    x, y = span(start, stop, x, y)
    lanes, flat = simd.VECTOR_BYTES // x.itemsize, x.reshape(-1)
    whole = x.shape[1] // lanes * lanes
    for row in range(x.shape[0]):
        highest = x[row, 0]
        if whole:
            highest = largest(whole, at(flat, row * x.shape[1]), highest)
        for c in range(whole, x.shape[1]):
            highest = max(highest, x[row, c])
        total = x.dtype.type(0)
        for c in range(x.shape[1]):
            power = exp(x[row, c] - highest)
            y[row, c] = power
            total += power
        for c in range(x.shape[1]):
            y[row, c] /= total


@jit
def forward_columns(start, stop, x, y, work):
    x, y = span(start, stop, x, y)
    highest, total = work[: x.shape[2]], work[x.shape[2] : 2 * x.shape[2]]
    for item in range(x.shape[0]):
        for i in range(x.shape[2]):
            highest[i] = x[item, 0, i]
        for c in range(1, x.shape[1]):
            for i in range(x.shape[2]):
                highest[i] = max(highest[i], x[item, c, i])
        total[:] = 0
        for c in range(x.shape[1]):
            for i in range(x.shape[2]):
                power = exp(x[item, c, i] - highest[i])
                y[item, c, i] = power
                total[i] += power
        for c in range(x.shape[1]):
            for i in range(x.shape[2]):
                y[item, c, i] /= total[i]


@jit
def backward_rows(start, stop, y, dy, dx):
    y = y[start:stop]
    dy, dx = span(start, stop, dy, dx)
    for row in range(y.shape[0]):
        total = y.dtype.type(0)
        for c in range(y.shape[1]):
            total += y[row, c] * dy[row, c]
        for c in range(y.shape[1]):
            dx[row, c] = y[row, c] * (dy[row, c] - total)


@jit
def backward_columns(start, stop, y, dy, dx, work):
    y, total = y[start:stop], work[: y.shape[2]]
    dy, dx = span(start, stop, dy, dx)
    for item in range(y.shape[0]):
        total[:] = 0
        for c in range(y.shape[1]):
            for i in range(y.shape[2]):
                total[i] += y[item, c, i] * dy[item, c, i]
        for c in range(y.shape[1]):
            for i in range(y.shape[2]):
                dx[item, c, i] = y[item, c, i] * (dy[item, c, i] - total[i])
