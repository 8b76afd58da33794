"""Convolution where every filter sees one channel (group = channels): there is no matrix to multiply.

A vector holds one pixel of as many channels. Planes are turned to that order in frames of zeros; then any tap of
any pixel, at any stride, is one vector to load, and a result one sum of products of vectors. A vector of channels
of an image is an item of work, small enough to stay in the cache from the turning in to the turning back.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from blobnet.kernels import depthwise_3x3, patches, simd, stack
from blobnet.kernels._jit import jit
from blobnet.kernels.elements import at_least
from blobnet.kernels.geometry import Geometry
from blobnet.kernels.instructions import MOST_LANES
from blobnet.kernels.lanes import add_vectors, turn, turn_back
from blobnet.kernels.parallel import parallel_for, scratch
from blobnet.kernels.patches import Frame
from blobnet.kernels.tiles import DEPTHWISE_PIXELS, DEPTHWISE_TAPS


class Sums(NamedTuple):
    """What to sum for a plane of results, row by row of it, in ``each`` frames that lie one after the other.

    rows         (first pixel of the frame, first pixel of the result, pixels, first and last number of the taps)
    planes, taps, offsets   of each number: the frame it reads, its tap, its offset from the pixel of the frame
    source_step, target_step   from one pixel of a row to the next, in the frame and in the result
    """

    rows: np.ndarray
    planes: np.ndarray
    taps: np.ndarray
    offsets: np.ndarray
    source_step: int
    target_step: int


def forward(
    x: np.ndarray, w: np.ndarray, y: np.ndarray, geometry: Geometry, bias: np.ndarray | None, least: float = -math.inf
) -> None:
    """y[n, o] = w[o] * x[n, o // multiplier] + bias[o], or ``least`` where that is less."""
    if _goes_by_rows(geometry, x.shape[1], len(w), x.dtype):
        depthwise_3x3.forward(x, w, y, geometry, bias, least)
        return
    _correlate(x, patches.patches(geometry).frame, w, _forward_sums(geometry), y, bias, least)


def backward_data(dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: Geometry, bias: np.ndarray | None) -> None:
    """dx[n, c] = the gradients of its filters' outputs, each turned round."""
    if _goes_by_rows(geometry, dx.shape[1], len(w), dy.dtype):
        depthwise_3x3.backward_data(dy, w, dx, geometry, bias)
        return
    each = dy.shape[1] // dx.shape[1]
    _correlate(dy, patches.phases(geometry)[0], w, _backward_sums(geometry, each), dx, bias)


def backward_weights(x: np.ndarray, dy: np.ndarray, dw: np.ndarray, geometry: Geometry) -> None:
    """dw[o] += dy[n, o] against each shift of x[n, o // multiplier]."""
    if _goes_by_rows(geometry, x.shape[1], len(dw), x.dtype):
        depthwise_3x3.backward_weights(x, dy, dw, geometry)
        return
    frame, sums = patches.patches(geometry).frame, _forward_sums(geometry)
    lanes = simd.lanes(dw.dtype)
    work = scratch((frame.size + dy.shape[2] + len(sums.taps) + x.shape[2] + 3 * lanes) * lanes, dw.dtype)
    parallel_for(add_gradients, -(-len(dw) // lanes), x, frame, dy, sums, lanes, dw.reshape(len(dw), -1), scratch=work)


def _goes_by_rows(geometry: Geometry, channels: int, filters: int, dtype: np.dtype) -> bool:
    """Whether it is a convolution for ``depthwise_3x3``, and its rows fill more than a third of a vector."""
    return depthwise_3x3.fits(geometry, channels, filters) and 3 * geometry.output[-1] > simd.lanes(dtype)


@functools.lru_cache(maxsize=64)
def _forward_sums(geometry: Geometry) -> Sums:
    _, taps, pixels, row, step = patches.patches(geometry)
    targets = np.arange(0, len(pixels), row)
    rows = [(pixels[target], target, row, 0, len(taps)) for target in targets]
    numbers = np.arange(len(taps))
    return Sums(np.array(rows), numbers * 0, numbers, taps, step, 1)


@functools.lru_cache(maxsize=64)
def _backward_sums(geometry: Geometry, each: int) -> Sums:
    frame, phases = patches.phases(geometry)
    rows, planes, taps, offsets = [], [], [], []
    for phase in phases:
        first = sum(map(len, taps))
        for plane in range(each):
            planes.append(np.full(len(phase.taps), plane))
            taps.append(phase.taps)
            offsets.append(phase.offsets + plane * frame.size)
        last = sum(map(len, taps))
        starts = range(0, len(phase.sources), phase.row)
        rows += [(phase.sources[start], phase.targets[start], phase.row, first, last) for start in starts]
    return Sums(np.array(rows), *map(np.concatenate, (planes, taps, offsets)), 1, phases[0].step)


def _correlate(planes, frame: Frame, w, sums: Sums, results, bias, least=-math.inf) -> None:
    images, channels, pixels = results.shape
    each = max(1, planes.shape[1] // channels)  # planes that a result sums
    share = max(1, channels // planes.shape[1])  # results that read a plane
    bias = np.zeros(channels, results.dtype) if bias is None else bias
    lanes = simd.lanes(results.dtype)
    room = each * frame.size + pixels + len(sums.taps) + 1 + planes.shape[2] + 3 * lanes
    work = scratch(room * lanes, results.dtype)
    parallel_for(
        correlate, images * -(-channels // lanes), planes, frame, w.reshape(len(w), -1), sums,
        results, bias, results.dtype.type(least), each, share, lanes, grain=4, scratch=work,
    )  # fmt: skip


@jit
def correlate(start, stop, planes, frame: Frame, w, sums: Sums, results, bias, least, each, share, lanes, work):
    """Vectors of channels start to stop of the results, all images of one vector after the other."""
    images, channels, pixels = results.shape
    size = len(frame.rows) * frame.extent
    weights, rest = work[: len(sums.taps) * lanes], work[len(sums.taps) * lanes :]
    shifts, framed = rest[:lanes], rest[lanes:]
    total = framed[(each * size + lanes) * lanes :]
    dense = total[(pixels + lanes) * lanes :]
    starts, target_starts = stack.empty(MOST_LANES, np.int64)[:lanes], stack.empty(MOST_LANES, np.int64)[:lanes]
    flat, results_flat = planes.reshape(-1), results.reshape(-1)
    framed[: each * size * lanes] = 0
    for item in range(start, stop):
        vector, n = divmod(item, images)
        first = vector * lanes
        if n == 0 or item == start:
            for lane in range(lanes):
                shifts[lane] = bias[min(first + lane, channels - 1)]
                for t in range(len(sums.taps)):
                    o = min(first + lane, channels - 1) * each + sums.planes[t]
                    weights[t * lanes + lane] = w[o, sums.taps[t]]
        for plane in range(each):
            for lane in range(lanes):
                c = min(first + lane, channels - 1) * each // share + plane
                starts[lane] = (n * planes.shape[1] + c) * planes.shape[2]
            fill_frame(flat, planes.shape[2], starts, frame, framed, plane * size * lanes, dense)
        for row in range(len(sums.rows)):
            sum_row(weights, framed, sums, row, lanes, total)
        for p in range(pixels):
            add_vectors(shifts, 0, 0, 1, total, p * lanes)
        if least > -np.inf:
            for i in range(pixels * lanes):
                total[i] = at_least(least, total[i])
        for lane in range(lanes):
            target_starts[lane] = (n * channels + min(first + lane, channels - 1)) * pixels
        turn_back(total, 0, pixels, target_starts, results_flat, 0)


@jit
def sum_row(weights, framed, sums, row, lanes, total):
    """A row of results, DEPTHWISE_PIXELS at once; the last of them end where the row ends."""
    source, target, count, first, last = sums.rows[row]
    x_step, y_step = sums.source_step * lanes, sums.target_step * lanes
    strip = DEPTHWISE_PIXELS if count >= DEPTHWISE_PIXELS else 1
    for q in range(0, count, strip):
        q = min(q, count - strip)
        x, y = source * lanes + q * x_step, target * lanes + q * y_step
        if strip == 1:
            _sum_one(weights, framed, x, sums.offsets, first, last, x_step, total, y, y_step)
        else:
            _sum_strip(weights, framed, x, sums.offsets, first, last, x_step, total, y, y_step)


_sum_one, _sum_strip = simd.weighted_sums(1), simd.weighted_sums(DEPTHWISE_PIXELS)


@jit
def add_gradients(start, stop, x, frame: Frame, dy, sums: Sums, lanes, dw, work):
    """dw[o, t] += sum over n, p of dy[n, o, p] frame[pixel p, tap t], for the vectors of filters start to stop."""
    images, filters, pixels = dy.shape
    size, taps = len(frame.rows) * frame.extent, len(sums.taps)
    gradients, framed = work[: taps * lanes], work[taps * lanes :]
    turned = framed[(size + lanes) * lanes :]
    dense = turned[(pixels + lanes) * lanes :]
    starts, dy_starts = stack.empty(MOST_LANES, np.int64)[:lanes], stack.empty(MOST_LANES, np.int64)[:lanes]
    x_flat, dy_flat = x.reshape(-1), dy.reshape(-1)
    framed[: size * lanes] = 0
    for vector in range(start, stop):
        first = vector * lanes
        gradients[:] = 0
        for n in range(images):
            for lane in range(lanes):
                o = min(first + lane, filters - 1)
                dy_starts[lane] = (n * filters + o) * pixels
                starts[lane] = (n * x.shape[1] + o * x.shape[1] // filters) * x.shape[2]
            fill_frame(x_flat, x.shape[2], starts, frame, framed, 0, dense)
            turn(dy_flat, 0, pixels, dy_starts, turned, 0)
            for row in range(len(sums.rows)):
                source, target, count, _, _ = sums.rows[row]
                place, step = source * lanes, sums.source_step * lanes
                whole = taps // DEPTHWISE_TAPS * DEPTHWISE_TAPS
                for t in range(0, whole, DEPTHWISE_TAPS):
                    _multiply_taps(turned, target * lanes, framed, place, sums.offsets, t, step, count, gradients)
                for t in range(whole, taps):
                    _multiply_tap(turned, target * lanes, framed, place, sums.offsets, t, step, count, gradients)
        for lane in range(min(lanes, filters - first)):
            for t in range(taps):
                dw[first + lane, t] += gradients[t * lanes + lane]


_multiply_tap, _multiply_taps = simd.products_with_shifts(1), simd.products_with_shifts(DEPTHWISE_TAPS)


@jit
def fill_frame(planes, size, starts, frame, framed, target, dense):
    """The planes of this size that begin at the starts, one per lane, in a frame [pixels, lanes] of zeros.

    Those whose rows are shorter than a vector are turned as a whole first, in ``dense``.
    """
    lanes = len(starts)
    narrow = frame.row_length < lanes
    first, last = patches.inside(frame)
    if narrow:
        turn(planes, 0, size, starts, dense, 0)
    for r in range(len(frame.rows)):
        source, place = frame.rows[r] + frame.first + first, target + (r * frame.extent + first) * lanes
        if frame.rows[r] >= 0 and narrow:
            for pixel in range(last - first):
                simd.copy_first(framed, place + pixel * lanes, dense, (source + pixel) * lanes, lanes)
        elif frame.rows[r] >= 0:
            turn(planes, source, last - first, starts, framed, place)
