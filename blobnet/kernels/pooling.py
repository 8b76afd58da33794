"""Pooling loops but those of averages, for layers.pooling. Items are planes: x (planes, H, W), y (planes, PH, PW)."""

import functools
import math
from typing import NamedTuple

import numpy as np

from blobnet.kernels import simd, stack, windows
from blobnet.kernels._jit import jit
from blobnet.kernels.elements import run_rows
from blobnet.kernels.instructions import MOST_LANES
from blobnet.kernels.lanes import place_planes, turn, turn_back
from blobnet.kernels.parallel import scratch
from blobnet.kernels.random import bits
from blobnet.kernels.rows import at
from blobnet.kernels.tiles import TURNED_AT_ONCE
from blobnet.kernels.windows import meet_cells


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


def find_largest(x: np.ndarray, window: Window, y: np.ndarray, mask: np.ndarray) -> None:
    """y: the largest cell of each window, NaN where one is NaN. mask: its index in the plane, the first on a tie.

    mask  integers as wide as the elements of x
    """
    (planes, H, W), (PH, PW), lanes = x.shape, y.shape[1:], simd.lanes(x.dtype)
    results = y.reshape(-1), (PH, PW), mask.reshape(-1).view(x.dtype)
    if (window.kh, window.kw, window.sw) in _SIZES and lanes < PW + PW:
        last = (-(-PW // lanes) * lanes - 1) * window.sw + window.kw - 1
        frame = max(window.ph + H, (PH - 1) * window.sh + window.kh), max(window.pw + W, last + lanes)
        work = scratch(math.prod(frame), x.dtype)
        run_rows(largest_along_rows, planes, H * W, x.reshape(-1), (H, W), window, frame, *results, scratch=work)
    else:
        chunk, band = min(H, max(1, TURNED_AT_ONCE // W)), min(PH, max(1, TURNED_AT_ONCE // PW))
        work = scratch((chunk * W + 2 * band * PW + 3 * lanes) * lanes, x.dtype)
        spans = spans_of(window, (H, W), (PH, PW))
        run_rows(largest_across, planes, H * W, x.reshape(-1), (H, W), *spans, chunk, band, *results, scratch=work)


@jit
def largest_along_rows(start, stop, x, x_size, window: Window, frame_size, y, y_size, mask, frame):
    """``find_largest`` for the planes start to stop, a row of windows after the other.

    x, y, mask  flat, of one type
    frame_size  of a plane with all that windows reach around it, and what lanes beyond the last window of a row read
    """
    (H, W), (PH, PW), pitch, end, left = x_size, y_size, frame_size[1], stop * y_size[0] * y_size[1], -window.pw
    for place in range(frame_size[0] * pitch):
        frame[place] = -np.inf
    inside = (PH - 1) * window.sh + window.kh <= H and (PW - 1) * window.sw + window.kw <= W
    needs_frame = window.ph > 0 or window.pw > 0 or not inside
    for plane in range(start, stop):
        image, step = at(x, plane * H * W), W
        if needs_frame or plane * H * W + (H - 1) * W + pitch > x.size:
            for h in range(H):
                row, source = frame[(window.ph + h) * pitch + window.pw :], x[(plane * H + h) * W :][:W]
                for w in range(source.size):
                    row[w] = source[w]
            image, step = at(frame, window.ph * pitch + window.pw), pitch
        for i in range(PH):
            top, k = i * window.sh - window.ph, (plane * PH + i) * PW
            row = at(image, top * step)
            if window.kh == 2:
                _largest_2_2(row, step, PW, top, left, W, y, k, mask, end)
            elif window.sw == 2:
                _largest_3_2(row, step, PW, top, left, W, y, k, mask, end)
            else:
                _largest_3_1(row, step, PW, top, left, W, y, k, mask, end)


_SIZES = windows.Size(2, 2, 2), windows.Size(3, 3, 2), windows.Size(3, 3, 1)
_largest_2_2, _largest_3_2, _largest_3_1 = map(windows.largest, _SIZES)


@functools.lru_cache(maxsize=64)
def spans_of(window: Window, plane: tuple[int, int], output: tuple[int, int]) -> list[np.ndarray]:
    """For rows and columns of windows: first cell and cell after the last of each, in the image."""
    axes = zip(output, window[:2], window[2:4], window[4:], plane, strict=True)
    firsts = [(np.arange(count) * stride - pad, kernel, cells) for count, kernel, stride, pad, cells in axes]
    return [np.stack([first.clip(0), (first + kernel).clip(max=cells)], 1) for first, kernel, cells in firsts]


@jit
def largest_across(start, stop, x, x_size, rows, columns, chunk, band, y, y_size, mask, work):
    """Likewise, as many planes as there are lanes at once, turned side by side.

    rows, columns  the ``spans_of`` the windows
    chunk, band    rows of the planes and of windows in work
    """
    (H, W), (PH, PW), lanes = x_size, y_size, simd.VECTOR_BYTES // x.itemsize
    cells, results = work[: (chunk * W + lanes) * lanes], work[(chunk * W + lanes) * lanes :]
    best, places = results[: (band * PW + lanes) * lanes], results[(band * PW + lanes) * lanes :]
    starts, targets = stack.empty(MOST_LANES, np.int64)[:lanes], stack.empty(MOST_LANES, np.int64)[:lanes]
    for plane in range(start, stop, lanes):
        place_planes(starts, plane, stop, H * W)
        place_planes(targets, plane, stop, PH * PW)
        for first in range(0, PH, band):
            last = min(first + band, PH)
            for top in range(rows[first, 0], rows[last - 1, 1], chunk):
                bottom = min(top + chunk, rows[last - 1, 1])
                turn(x, top * W, (bottom - top) * W, starts, cells, 0)
                for i in range(first, last):
                    known, upper, lower = rows[i, 0] < top, max(rows[i, 0], top), min(rows[i, 1], bottom)
                    for j in range(PW if upper < lower else 0):
                        k = ((i - first) * PW + j) * lanes
                        meet_cells(cells, top, upper, lower, columns[j, 0], columns[j, 1], W, known, best, places, k)
            turn_back(best, 0, (last - first) * PW, targets, y, first * PW)
            turn_back(places, 0, (last - first) * PW, targets, mask, first * PW)


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
def sample_forward(start, stop, x, rows, columns, key, y, mask):
    """y: one cell of each window, drawn in proportion to its weight. mask: its index in the plane.

    rows, columns  the ``spans_of`` the windows
    """
    W = x.shape[2]
    PH, PW = y.shape[1:]
    for plane in range(start, stop):
        for i in range(PH):
            first, last = rows[i]
            for j in range(PW):
                left, right = columns[j]
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
def weighted_forward(start, stop, x, rows, columns, y):
    """y: the mean of each window, every cell weighing itself; 0 where nothing is positive."""
    PH, PW = y.shape[1:]
    for plane in range(start, stop):
        for i in range(PH):
            first, last = rows[i]
            for j in range(PW):
                left, right = columns[j]
                weights, weighted = _weigh(x[plane], first, last, left, right)
                y[plane, i, j] = 0.0 if weights == 0 else weighted / weights


@jit
def weighted_backward(start, stop, x, dy, rows, columns, dx):
    """dx of ``weighted_forward``: (2 x - y) / (sum of weights) times dy in each positive cell."""
    PH, PW = dy.shape[1:]
    for plane in range(start, stop):
        dx[plane] = 0
        for i in range(PH):
            first, last = rows[i]
            for j in range(PW):
                left, right = columns[j]
                weights, weighted = _weigh(x[plane], first, last, left, right)
                for h in range(first, last):
                    for w in range(left, right):
                        value = x[plane, h, w]
                        if value > 0 or value != value:
                            dx[plane, h, w] += dy[plane, i, j] * (2 * value - weighted / weights) / weights
