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


def _max_row_kernel(kernel, stride):
    """Maxima of a row of square windows that lie inside the image, for sizes known when it is compiled.

    The rows under the windows are folded into one, then its columns; loops that LLVM turns into vector code.
    """

    @jit
    def max_row(x, first, left, best, index, y, mask):
        W = x.shape[1]
        for w in range(W):
            value, position = x[first, w], np.int32(0)
            for h in range(1, kernel):
                other = x[first + h, w]
                larger = (other > value) | (other != other)
                value = other if larger else value
                position = np.int32(h * W) if larger else position
            best[w] = value
            index[w] = position + np.int32(first * W + w)
        inner_best, inner_index = best[left:], index[left:]
        for j in range(y.size):
            value, position = inner_best[j * stride], inner_index[j * stride]
            for tap in range(1, kernel):
                other, place = inner_best[j * stride + tap], inner_index[j * stride + tap]
                larger = (other > value) | (other != other) | ((other == value) & (place < position))
                value = other if larger else value
                position = place if larger else position
            y[j] = value
            mask[j] = position

    return max_row


_max_row_2x2s2 = _max_row_kernel(2, 2)
_max_row_3x3s2 = _max_row_kernel(3, 2)
_max_row_3x3s1 = _max_row_kernel(3, 1)


@jit
def max_forward(start, stop, x, window, y, mask):
    """y: the largest cell of each window, NaN where one is NaN. mask: its index in the plane, the first on a tie."""
    H, W = x.shape[1:]
    PH, PW = y.shape[1:]
    best = np.empty(W, x.dtype)
    index = np.empty(W, np.int32)
    square = window.kh if window.kh == window.kw and window.sh == window.sw else 0
    fast = (square == 2 and window.sw == 2) or (square == 3 and window.sw <= 2)
    low = min(PW, -(-window.pw // window.sw))
    high = max(low, min(PW, (W + window.pw - window.kw) // window.sw + 1)) if fast else low
    left = low * window.sw - window.pw
    for plane in range(start, stop):
        for i in range(PH):
            first, last = _span(i, window.kh, window.sh, window.ph, H)
            inside = high if last - first == window.kh else low
            if inside > low:
                row, row_mask = y[plane, i, low:high], mask[plane, i, low:high]
                if square == 2:
                    _max_row_2x2s2(x[plane], first, left, best, index, row, row_mask)
                elif window.sw == 2:
                    _max_row_3x3s2(x[plane], first, left, best, index, row, row_mask)
                else:
                    _max_row_3x3s1(x[plane], first, left, best, index, row, row_mask)
            for j in range(PW):
                if not low <= j < inside:
                    begin, end = _span(j, window.kw, window.sw, window.pw, W)
                    position = _largest(x[plane], first, last, begin, end)
                    mask[plane, i, j] = position
                    y[plane, i, j] = x[plane, position // W, position % W]


@jit
def _largest(x, first, last, left, right):
    """Index of the largest cell of a window: of the first on a tie, of one that is NaN where there is any."""
    best, position = x[first, left], first * x.shape[1] + left
    for h in range(first, last):
        row = x[h, left:right]
        for w in range(row.size):
            if row[w] > best or row[w] != row[w]:
                best, position = row[w], h * x.shape[1] + left + w
    return position


@jit
def scatter(start, stop, dy, mask, dx):
    """dx: each dy goes to the cell that its mask names. Planes are flat: dy (planes, PH PW), dx (planes, H W)."""
    for plane in range(start, stop):
        dx[plane] = 0
        for i in range(dy.shape[1]):
            dx[plane, mask[plane, i]] += dy[plane, i]


@jit
def average_forward(start, stop, x, window, y):
    """y: the sum over each window, divided by its cells in the image and the padding (not those beyond)."""
    H, W = x.shape[1:]
    PH, PW = y.shape[1:]
    sums = np.empty(W, x.dtype)
    for plane in range(start, stop):
        for i in range(PH):
            first, last = _span(i, window.kh, window.sh, window.ph, H)
            sums[:] = 0
            for h in range(first, last):
                for w in range(W):
                    sums[w] += x[plane, h, w]
            rows = _divisor(i, window.kh, window.sh, window.ph, H)
            for j in range(PW):
                left, right = _span(j, window.kw, window.sw, window.pw, W)
                total = sums[left]
                for w in range(left + 1, right):
                    total += sums[w]
                y[plane, i, j] = total / x.dtype.type(rows * _divisor(j, window.kw, window.sw, window.pw, W))


@jit
def average_backward(start, stop, dy, window, dx):
    """dx: each dy, divided as in the forward pass, goes to every cell of its window."""
    H, W = dx.shape[1:]
    PH, PW = dy.shape[1:]
    spread = np.empty(W, dx.dtype)
    for plane in range(start, stop):
        dx[plane] = 0
        for i in range(PH):
            rows = _divisor(i, window.kh, window.sh, window.ph, H)
            spread[:] = 0
            for j in range(PW):
                left, right = _span(j, window.kw, window.sw, window.pw, W)
                share = dy[plane, i, j] / dx.dtype.type(rows * _divisor(j, window.kw, window.sw, window.pw, W))
                for w in range(left, right):
                    spread[w] += share
            first, last = _span(i, window.kh, window.sh, window.ph, H)
            for h in range(first, last):
                for w in range(W):
                    dx[plane, h, w] += spread[w]


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
