"""Pooling loops, called by layers.pooling. Items are planes (n, c): x is (planes, H, W), y (planes, PH, PW)."""

from typing import NamedTuple

import numpy as np

from blobnet.kernels._jit import jit
from blobnet.kernels.random import bits


class Window(NamedTuple):
    """Extent, stride and padding of a pooling window."""

    kh: int
    kw: int
    sh: int
    sw: int
    ph: int
    pw: int


@jit
def _span(i, kernel, stride, pad, extent):
    """The cells of window i that lie inside the image."""
    first = i * stride - pad
    return max(first, 0), min(first + kernel, extent)


@jit
def _divisor(i, kernel, stride, pad, extent):
    """The cells of window i in one direction, padding counted."""
    first = i * stride - pad
    return min(first + kernel, extent + pad) - first


@jit
def max_forward(start, stop, x, window, y, mask):
    """y: the largest cell of each window, NaN where one is NaN. mask: its index in the plane, the first on a tie.

    The rows under a window are folded into one, with borders that lose against every cell, then its columns.
    """
    H, W = x.shape[1:]
    PH, PW = y.shape[1:]
    width = max(window.pw + W, (PW - 1) * window.sw + window.kw)
    value = np.full(width, -np.inf, x.dtype)
    index = np.full(width, H * W, np.int32)
    inner_value, inner_index = value[window.pw : window.pw + W], index[window.pw : window.pw + W]
    for plane in range(start, stop):
        for i in range(PH):
            first, last = _span(i, window.kh, window.sh, window.ph, H)
            if last - first == 2:
                _fold_rows(x[plane], first, 2, inner_value, inner_index)
            elif last - first == 3:
                _fold_rows(x[plane], first, 3, inner_value, inner_index)
            else:
                _fold_rows(x[plane], first, last - first, inner_value, inner_index)
            if window.kw == 2 and window.sw == 2:
                _fold_columns(value, index, 2, 2, y[plane, i], mask[plane, i])
            elif window.kw == 3 and window.sw == 2:
                _fold_columns(value, index, 3, 2, y[plane, i], mask[plane, i])
            elif window.kw == 3 and window.sw == 1:
                _fold_columns(value, index, 3, 1, y[plane, i], mask[plane, i])
            else:
                _fold_columns(value, index, window.kw, window.sw, y[plane, i], mask[plane, i])


@jit(inline="always")  # so that LLVM sees numbers for rows, kernel and stride, and makes vector code
def _fold_rows(x, first, rows, value, index):
    W = x.shape[1]
    for w in range(W):
        best, position = x[first, w], np.int32(0)
        for h in range(1, rows):
            other = x[first + h, w]
            larger = (other > best) | (other != other)
            best = other if larger else best
            position = np.int32(h * W) if larger else position
        value[w] = best
        index[w] = position + np.int32(first * W + w)


@jit(inline="always")
def _fold_columns(value, index, kernel, stride, y, mask):
    for j in range(y.size):
        best, position = value[j * stride], index[j * stride]
        for tap in range(1, kernel):
            other, place = value[j * stride + tap], index[j * stride + tap]
            larger = (other > best) | (other != other) | ((other == best) & (place < position))
            best = other if larger else best
            position = place if larger else position
        y[j] = best
        mask[j] = position


@jit
def scatter(start, stop, dy, mask, dx):
    """dx: each dy goes to the cell that its mask names. Planes are flat: dy (planes, PH PW), dx (planes, H W)."""
    for plane in range(start, stop):
        dx[plane] = 0
        for i in range(dy.shape[1]):
            dx[plane, mask[plane, i]] += dy[plane, i]


@jit
def average_forward(start, stop, x, window, y):
    """y: the sum over each window, divided by its cells in the image and the padding (not those beyond).

    The rows under a window are added into one, with borders of 0, then its columns.
    """
    H, W = x.shape[1:]
    PH, PW = y.shape[1:]
    sums = np.zeros(max(window.pw + W, (PW - 1) * window.sw + window.kw), x.dtype)
    inner = sums[window.pw : window.pw + W]
    columns = _column_divisors(window, W, np.empty(PW, x.dtype))
    for plane in range(start, stop):
        for i in range(PH):
            first, last = _span(i, window.kh, window.sh, window.ph, H)
            for w in range(W):
                inner[w] = x[plane, first, w]
            for h in range(first + 1, last):
                for w in range(W):
                    inner[w] += x[plane, h, w]
            rows = x.dtype.type(_divisor(i, window.kh, window.sh, window.ph, H))
            if window.kw == 2 and window.sw == 2:
                _average_columns(sums, 2, 2, rows, columns, y[plane, i])
            elif window.kw == 3 and window.sw == 2:
                _average_columns(sums, 3, 2, rows, columns, y[plane, i])
            elif window.kw == 3 and window.sw == 1:
                _average_columns(sums, 3, 1, rows, columns, y[plane, i])
            else:
                _average_columns(sums, window.kw, window.sw, rows, columns, y[plane, i])


@jit(inline="always")
def _average_columns(sums, kernel, stride, rows, columns, y):
    for j in range(y.size):
        total = sums[j * stride]
        for tap in range(1, kernel):
            total += sums[j * stride + tap]
        y[j] = total / (rows * columns[j])


@jit
def average_backward(start, stop, dy, window, dx):
    """dx: each dy, divided as in the forward pass, goes to every cell of its window."""
    H, W = dx.shape[1:]
    PH, PW = dy.shape[1:]
    spread = np.empty(max(window.pw + W, (PW - 1) * window.sw + window.kw), dx.dtype)
    inner = spread[window.pw : window.pw + W]
    columns = _column_divisors(window, W, np.empty(PW, dx.dtype))
    share = np.empty(PW, dx.dtype)
    for plane in range(start, stop):
        dx[plane] = 0
        for i in range(PH):
            rows = dx.dtype.type(_divisor(i, window.kh, window.sh, window.ph, H))
            for j in range(PW):
                share[j] = dy[plane, i, j] / (rows * columns[j])
            spread[:] = 0
            if window.sw == 1:
                _spread_columns(share, window.kw, 1, spread)
            else:
                _spread_columns(share, window.kw, window.sw, spread)
            first, last = _span(i, window.kh, window.sh, window.ph, H)
            for h in range(first, last):
                for w in range(W):
                    dx[plane, h, w] += inner[w]


@jit(inline="always")
def _spread_columns(share, kernel, stride, spread):
    for tap in range(kernel):
        for j in range(share.size):
            spread[j * stride + tap] += share[j]


@jit
def _column_divisors(window, W, columns):
    for j in range(columns.size):
        columns[j] = _divisor(j, window.kw, window.sw, window.pw, W)
    return columns


@jit
def _weight(value):
    """What a cell weighs in stochastic pooling: itself, nothing where it is negative."""
    return value if value > 0 or value != value else 0 * value


@jit
def _weigh(x, first, last, left, right):
    """Sums of the weights of a window and of weight times value."""
    weights, weighted = 0.0, 0.0
    for h in range(first, last):
        for w in range(left, right):
            weight = _weight(x[h, w])
            weights += weight
            weighted += weight * x[h, w]
    return weights, weighted


@jit
def sample_forward(start, stop, x, window, key, y, mask):
    """y: one cell of each window, drawn in proportion to its weight. mask: its index in the plane."""
    H, W = x.shape[1:]
    PH, PW = y.shape[1:]
    for plane in range(start, stop):
        for i in range(PH):
            first, last = _span(i, window.kh, window.sh, window.ph, H)
            for j in range(PW):
                left, right = _span(j, window.kw, window.sw, window.pw, W)
                total, _ = _weigh(x[plane], first, last, left, right)
                fraction = (bits(key, (plane * PH + i) * PW + j) + 1.0) * 2.0**-32  # above 0, at most 1
                threshold = total * fraction
                position = _reach(x[plane], first, last, left, right, threshold)
                mask[plane, i, j] = position
                y[plane, i, j] = x[plane, position // W, position % W]


@jit
def _reach(x, first, last, left, right, threshold):
    """Index of the cell at which the running sum of weights reaches the threshold, or turns NaN."""
    running = 0.0
    for h in range(first, last):
        for w in range(left, right):
            running += _weight(x[h, w])
            if running >= threshold or running != running:
                return h * x.shape[1] + w
    return (last - 1) * x.shape[1] + right - 1


@jit
def weighted_forward(start, stop, x, window, y):
    """y: the mean of each window, every cell weighing itself; 0 where nothing is positive."""
    H, W = x.shape[1:]
    PH, PW = y.shape[1:]
    for plane in range(start, stop):
        for i in range(PH):
            first, last = _span(i, window.kh, window.sh, window.ph, H)
            for j in range(PW):
                left, right = _span(j, window.kw, window.sw, window.pw, W)
                weights, weighted = _weigh(x[plane], first, last, left, right)
                y[plane, i, j] = 0.0 if weights == 0 else weighted / weights


@jit
def weighted_backward(start, stop, x, dy, window, dx):
    """dx of ``weighted_forward``: (2 x - y) / (sum of weights) times dy in each positive cell."""
    H, W = dx.shape[1:]
    PH, PW = dy.shape[1:]
    for plane in range(start, stop):
        dx[plane] = 0
        for i in range(PH):
            first, last = _span(i, window.kh, window.sh, window.ph, H)
            for j in range(PW):
                left, right = _span(j, window.kw, window.sw, window.pw, W)
                weights, weighted = _weigh(x[plane], first, last, left, right)
                for h in range(first, last):
                    for w in range(left, right):
                        value = x[plane, h, w]
                        if value > 0 or value != value:
                            dx[plane, h, w] += dy[plane, i, j] * (2 * value - weighted / weights) / weights
