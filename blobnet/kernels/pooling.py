"""Pooling loops but those of averages, for layers.pooling. Items are planes: x (planes, H, W), y (planes, PH, PW)."""

from typing import NamedTuple

import numpy as np

from blobnet.kernels import simd, windows
from blobnet.kernels._jit import inlined, jit
from blobnet.kernels.random import bits
from blobnet.kernels.rows import at


class Window(NamedTuple):
    """Extent, stride and padding of a pooling window."""

    kh: int
    kw: int
    sh: int
    sw: int
    ph: int
    pw: int

    def covers(self, plane: tuple[int, ...]) -> bool:
        """Whether this is one window, the whole plane [H, W] and nothing else."""
        return (self.kh, self.kw, self.ph, self.pw) == (*plane, 0, 0)


@jit
def _span(i, kernel, stride, pad, extent):
    """The cells of window i that lie inside the image."""
    first = i * stride - pad
    return max(first, 0), min(first + kernel, extent)


@jit
def max_forward(start, stop, x, window: Window, y, mask):
    """y: the largest cell of each window, NaN where one is NaN. mask: its index in the plane, the first on a tie."""
    H, W = x.shape[1:]
    PH, PW = y.shape[1:]
    y_flat, mask_flat, end, left = y.reshape(-1), mask.reshape(-1), stop * PH * PW, -window.pw
    size = (window.kh, window.kw, window.sw)
    frame = _frame(x, window, PH, PW)
    usable = _last_usable_plane(x, window, PH, PW, frame)
    for plane in range(start, stop):
        image, pitch = at(x.reshape(-1), plane * H * W), W
        if plane > usable:
            _fill(frame, x[plane], window)
            image, pitch = at(frame.reshape(-1), window.ph * frame.shape[1] + window.pw), frame.shape[1]
        for i in range(PH):
            top, k = i * window.sh - window.ph, (plane * PH + i) * PW
            row = at(image, top * pitch)
            if size == (2, 2, 2):
                _largest_2_2(row, pitch, size, PW, top, left, W, y_flat, k, mask_flat, end)
            elif size == (3, 3, 2):
                _largest_3_2(row, pitch, size, PW, top, left, W, y_flat, k, mask_flat, end)
            elif size == (3, 3, 1):
                _largest_3_1(row, pitch, size, PW, top, left, W, y_flat, k, mask_flat, end)
            else:
                first, last = _span(i, window.kh, window.sh, window.ph, H)
                row, within = at(image, first * W), (last - first, window.kw, window.sw)
                _largest(row, W, within, PW, first, left, W, y_flat, k, mask_flat, end)


_SIZES = windows.Size(2, 2, 2), windows.Size(3, 3, 2), windows.Size(3, 3, 1)
_largest_2_2, _largest_3_2, _largest_3_1 = map(windows.largest, _SIZES)
_largest = windows.largest()


@jit
def _is_common(window):
    """Whether there are loops made for this size of window."""
    size = (window.kh, window.kw, window.sw)
    return size == (2, 2, 2) or size == (3, 3, 2) or size == (3, 3, 1)


@inlined
def _frame(x, window, PH, PW):
    """Memory for a plane with all that windows reach around it, and what lanes beyond the last window of a row read."""
    H, W = x.shape[1:]
    if not _is_common(window):
        return np.empty((0, 0), x.dtype)
    lanes = simd.VECTOR_BYTES // x.itemsize
    last = (-(-PW // lanes) * lanes - 1) * window.sw + window.kw - 1
    shape = max(window.ph + H, (PH - 1) * window.sh + window.kh), max(window.pw + W, last + lanes)
    return np.full(shape, x.dtype.type(-np.inf))


@inlined
def _last_usable_plane(x, window, PH, PW, frame):
    """The last plane that needs no frame: it has neither padding nor windows beyond its sides, and enough after it."""
    planes, H, W = x.shape
    if not _is_common(window):
        return planes - 1
    inside = (PH - 1) * window.sh + window.kh <= H and (PW - 1) * window.sw + window.kw <= W
    if window.ph or window.pw or not inside:
        return -1
    return (x.size - (H - 1) * W - frame.shape[1]) // (H * W)


@inlined
def _fill(frame, plane, window):
    for h in range(plane.shape[0]):
        row, source = frame[window.ph + h, window.pw :], plane[h]
        for w in range(source.size):
            row[w] = source[w]


@jit
def scatter(start, stop, dy, mask, dx):
    """dx: each dy goes to the cell that its mask names. Planes are flat: dy (planes, PH PW), dx (planes, H W)."""
    for plane in range(start, stop):
        dx[plane] = 0
        for i in range(dy.shape[1]):
            dx[plane, mask[plane, i]] += dy[plane, i]


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
def sample_forward(start, stop, x, window: Window, key, y, mask):
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
def weighted_forward(start, stop, x, window: Window, y):
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
def weighted_backward(start, stop, x, dy, window: Window, dx):
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
