"""Means over pooling windows, and their gradients: sums over rectangles of cells of a plane, in either direction.

As many planes as a vector has lanes are turned side by side, some rows at a time. Rows are added up first, to a line
for each row of results, then the columns of each line.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from blobnet.kernels import simd, stack
from blobnet.kernels._jit import jit
from blobnet.kernels.elements import run_rows
from blobnet.kernels.instructions import MOST_LANES
from blobnet.kernels.lanes import add_row, add_vectors, divide_vector, place_planes, turn, turn_back
from blobnet.kernels.parallel import scratch
from blobnet.kernels.pooling import Window, spans_of
from blobnet.kernels.rows import at, loop
from blobnet.kernels.tiles import TURNED_AT_ONCE


class Rectangles(NamedTuple):
    """What each result sums: (i, j) the cells in rows[i] and columns[j], from the first to before the last.

    before, after   what each cell, or each result, is divided by; empty: nothing
    """

    rows: np.ndarray
    columns: np.ndarray
    before: np.ndarray
    after: np.ndarray


_NOTHING = np.empty(0)
_SQUARE = MOST_LANES * MOST_LANES


@functools.lru_cache(maxsize=64)
def means(window: Window, plane: tuple[int, int], output: tuple[int, int]) -> Rectangles:
    """y from x: the sum over each window, divided by its cells in the image and the padding (not those beyond)."""
    (rows, heights), (columns, widths) = _axes(window, plane, output)
    return Rectangles(rows, columns, _NOTHING, np.outer(heights, widths).reshape(-1).astype(float))


@functools.lru_cache(maxsize=64)
def shares(window: Window, plane: tuple[int, int], output: tuple[int, int]) -> Rectangles:
    """dx from dy: each dy, divided as above, goes to every cell of its window."""
    (rows, heights), (columns, widths) = _axes(window, plane, output)
    divisors = np.outer(heights, widths).reshape(-1).astype(float)
    return Rectangles(_meeting(rows, plane[0]), _meeting(columns, plane[1]), divisors, _NOTHING)


def _axes(window: Window, plane: tuple[int, int], output: tuple[int, int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For either axis: the spans of the windows, and how many cells these have, padding counted."""
    axes = zip(spans_of(window, plane, output), window[:2], window[2:4], window[4:], plane, strict=True)
    for spans, kernel, stride, pad, cells in axes:
        first = np.arange(len(spans)) * stride - pad
        yield spans, np.minimum(first + kernel, cells + pad) - first


def _meeting(windows: np.ndarray, cells: int) -> np.ndarray:
    """The windows that meet each cell: the first of them, and the one after the last."""
    first, last = windows.T
    return np.stack([np.searchsorted(edges, np.arange(cells), side="right") for edges in (last, first)], axis=1)


def sum_rectangles(source: np.ndarray, rectangles: Rectangles, target: np.ndarray) -> None:
    """Planes of sums, target [planes, rows, columns], over rectangles of those of the source."""
    (planes, H, W), (PH, PW), lanes = source.shape, target.shape[1:], simd.lanes(source.dtype)
    chunk, band = min(H, max(1, TURNED_AT_ONCE // W)), min(PH, max(1, TURNED_AT_ONCE // max(W, PW)))
    work = scratch((chunk * W + band * (W + PW) + 2 * lanes) * lanes, source.dtype)
    run_rows(add_rectangles, planes, H * W, source, rectangles, chunk, band, target, scratch=work)


@jit
def add_rectangles(start, stop, source, rectangles: Rectangles, chunk, band, target, work):
    """The planes start to stop of the target.

    chunk, band  rows of the source and of the target in work
    """
    rows, columns, before, after = rectangles
    cells, results = source.reshape(-1), target.reshape(-1)
    H, W = source.shape[1:]
    PH, PW = target.shape[1:]
    lanes, dtype = simd.VECTOR_BYTES // source.itemsize, source.dtype.type
    turned, rest = work[: (chunk * W + lanes) * lanes], work[(chunk * W + lanes) * lanes :]
    lines, sums = rest[: band * W * lanes], rest[band * W * lanes :][: (band * PW + lanes) * lanes]
    starts, target_starts = stack.empty(MOST_LANES, np.int64)[:lanes], stack.empty(MOST_LANES, np.int64)[:lanes]
    for plane in range(start, stop, lanes):
        place_planes(starts, plane, stop, H * W)
        place_planes(target_starts, plane, stop, PH * PW)
        for first in range(0, PH, band):
            last = min(first + band, PH)
            lines[:], sums[:] = 0, 0
            for top in range(rows[first, 0], rows[last - 1, 1], chunk):
                bottom = min(top + chunk, rows[last - 1, 1])
                turn(cells, top * W, (bottom - top) * W, starts, turned, 0)
                for cell in range((bottom - top) * W if before.size else 0):
                    divide_vector(turned, cell * lanes, dtype(before[top * W + cell]))
                for i in range(first, last):
                    upper, lower = max(rows[i, 0], top), min(rows[i, 1], bottom)
                    place, line = (upper - top) * W * lanes, (i - first) * W * lanes
                    for w in range(0, W * lanes, lanes):
                        add_vectors(turned, place + w, W * lanes, lower - upper, lines, line + w)
            for i in range(last - first):
                for j in range(PW):
                    left, right = columns[j]
                    place = (i * PW + j) * lanes
                    add_vectors(lines, (i * W + left) * lanes, lanes, right - left, sums, place)
                    if after.size:
                        divide_vector(sums, place, dtype(after[(first + i) * PW + j]))
            turn_back(sums, 0, (last - first) * PW, target_starts, results, first * PW)


@jit
def plane_means(start, stop, x, y):
    """y: the mean of each plane. Planes are flat: x (planes, P), y (planes,)."""
    lanes, size = simd.VECTOR_BYTES // x.itemsize, x.shape[1]
    rows, columns = stack.empty(_SQUARE, x.dtype), stack.empty(_SQUARE, x.dtype)
    totals, starts = stack.empty(MOST_LANES, x.dtype), stack.empty(MOST_LANES, np.int64)[:lanes]
    cells = x.reshape(-1)
    place_planes(starts, 0, lanes, lanes)
    for plane in range(start, stop, lanes):
        count = min(lanes, stop - plane)
        for row in range(count):
            add_row(cells, (plane + row) * size, size, rows, row * lanes)
        turn(rows, 0, lanes, starts, columns, 0)
        totals[:] = 0
        add_vectors(columns, 0, lanes, lanes, totals, 0)
        for row in range(count):
            y[plane + row] = totals[row] / x.dtype.type(size)


@jit
def plane_shares(start, stop, dy, dx):
    """dx: an equal share of dy for each cell."""
    flat = dx.reshape(-1)
    for plane in range(start, stop):
        share = (dy[plane] / dx.dtype.type(dx.shape[1]),)
        _fill_plane(dx.shape[1], share, (), (at(flat, plane * dx.shape[1]),), None)


_fill_plane = loop(lambda emitter, numbers: (numbers, []))
