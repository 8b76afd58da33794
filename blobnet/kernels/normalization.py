"""Normalisation loops, called by layers.normalization.

Arrays are [N, C, P]; an item is a channel, N rows of P neighbours. Its sums are taken row by row in order, in pieces
that are added up as float64, whatever part of the channels a thread has. Rows are taken in the order of memory, all
channels of an image after the other: channel by channel, even with a channel in the cache when it is read again, takes
up to twice as long.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from llvmlite import ir

from blobnet.kernels import rows, simd
from blobnet.kernels._jit import jit
from blobnet.kernels.parallel import scratch
from blobnet.kernels.rows import at
from blobnet.kernels.tiles import NORMALIZED_AT_ONCE, WINDOW_COLUMNS

# Loops over vectors need no liberties, and without them their variants, such as those in place, give the same bits.
exact = functools.partial(jit, fastmath=False)

# Elements of a row that are summed in their own type before they go to a float64 sum.
_PIECE = 1024


class Line(NamedTuple):
    """What becomes of a channel c: y = scale[c] (x - mean[c]) factor[c] + shift[c].

    mean and factor are float64, scale and shift of the type of x.
    clip  y is 0 where it would be negative, as behind a ReLU
    """

    mean: np.ndarray
    factor: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    clip: bool


class Joined(NamedTuple):
    """What follows a line at the end of a residual block: y = max(0, line + z), and two layers that read y.

    y [N, C, P]; more: the second reader's gradient of y; g, written: the gradient of line and z, 0 where y is clipped
    """

    y: np.ndarray
    more: np.ndarray
    g: np.ndarray


def room_for_sums(channels: int, dtype: np.dtype) -> np.ndarray:
    """A work array for two sums of each channel, float64, a vector's lanes apart."""
    return scratch(channels * 2 * simd.lanes(dtype), float)


@exact
def moments(start, stop, x, kept, mean, variance, totals):
    """Mean and (biased) variance, from sums about the channel's first number: a large mean costs no precision.

    kept    takes a copy of x, unless it is None
    totals  as of ``room_for_sums``
    """
    N, C, P = x.shape
    lanes = simd.VECTOR_BYTES // x.itemsize
    flat = x.reshape(-1)
    totals[: (stop - start) * 2 * lanes] = 0
    for n in range(N):
        for c in range(start, stop):
            place, numbers, sums = (n * C + c) * P, (_pivot(x, c),), (c - start) * 2 * lanes
            for first in range(0, P, _PIECE):
                count, piece = min(_PIECE, P - first), at(flat, place + first)
                if kept is None:
                    _sum_distances(count, numbers, (piece,), (), at(totals, sums))
                else:
                    copy = at(kept.reshape(-1), place + first)
                    _copy_and_sum_distances(count, numbers, (piece,), (copy,), at(totals, sums))
    for c in range(start, stop):
        sums = (c - start) * 2 * lanes
        distance, square = rows.total(totals, sums, lanes), rows.total(totals, sums + lanes, lanes)
        mean[c], variance[c] = _mean_and_variance(_pivot(x, c), distance, square, N * P)


@exact
def _mean_and_variance(pivot, distance, square, count):
    """From the sums of the distances from the pivot and of their squares."""
    distance /= count
    spread = square / count - distance * distance
    return pivot + distance, 0.0 if spread < 0 else spread


@exact
def _pivot(x, c):
    first = x[0, c, 0]
    return first if math.isfinite(first) else x.dtype.type(0)


def _distances(emitter, numbers, x):
    [pivot] = numbers
    distance = emitter.builder.fsub(x, pivot)
    return [], [distance, emitter.builder.fmul(distance, distance)]


def _copy_and_distances(emitter, numbers, x):
    return [x], _distances(emitter, numbers, x)[1]


_sum_distances, _copy_and_sum_distances = rows.loop(_distances, 2), rows.loop(_copy_and_distances, 2)


@exact
def factors(start, stop, variance, eps, factor):
    """1 / sqrt(variance + eps)."""
    for c in range(start, stop):
        factor[c] = 1 / math.sqrt(variance[c] + eps)


@jit
def remember(start, stop, mean, variance, unbiased, fraction, means, variances, weight):
    """Running sums of means, of variances times ``unbiased``, and of 1 shrink by the fraction and take one more."""
    for c in range(start, stop):
        means[c] = fraction * means[c] + mean[c]
        variances[c] = fraction * variances[c] + unbiased * variance[c]
    if stop == mean.size:
        weight[0] = fraction * weight[0] + 1


@exact
def apply_line(start, stop, x, line: Line, y):
    """y of the line; y None: in place."""
    N, C, P = x.shape
    source = x.reshape(-1)
    target = source if y is None else y.reshape(-1)
    for n in range(N):
        for c in range(start, stop):
            place = (n * C + c) * P
            if line.clip:
                _apply_clipped(P, _numbers(line, c, x), (at(source, place),), (at(target, place),), None)
            else:
                _apply(P, _numbers(line, c, x), (at(source, place),), (at(target, place),), None)


@exact
def _numbers(line, c, x):
    """Mean, factor, what the rounding of the mean takes from the normalised x, scale and shift, in the type of x."""
    number = x.dtype.type
    centre = number(line.mean[c])
    rest = number((np.float64(centre) - line.mean[c]) * line.factor[c])
    return centre, number(line.factor[c]), rest, line.scale[c], line.shift[c]


def _value(emitter, numbers, x):
    """In this order, so that a Scale and a ReLU layer give the same bits."""
    centre, factor, rest, scale, shift = numbers
    normalized = emitter.multiply_add(emitter.builder.fsub(x, centre), factor, rest)
    return emitter.multiply_add(scale, normalized, shift)


def _line(emitter, numbers, x):
    return [_value(emitter, numbers, x)], []


def _clipped_line(emitter, numbers, x):
    value = _value(emitter, numbers, x)
    return [emitter.where_positive(value, value)], []


_apply, _apply_clipped = rows.loop(_line), rows.loop(_clipped_line)


@exact
def join_line(start, stop, x, line: Line, z, y):
    """y = line + z, or 0 where that is negative."""
    N, C, P = x.shape
    source, other, target = x.reshape(-1), z.reshape(-1), y.reshape(-1)
    for n in range(N):
        for c in range(start, stop):
            place = (n * C + c) * P
            _join(P, _numbers(line, c, x), (at(source, place), at(other, place)), (at(target, place),), None)


def _clipped_sum(emitter, numbers, x, z):
    total = emitter.builder.fadd(_value(emitter, numbers, x), z)
    return [emitter.where_positive(total, total)], []


_join = rows.loop(_clipped_sum)


@exact
def sums_and_line_gradient(start, stop, x, dy, joined, line: Line, sum_g, sum_product, dx, totals):
    """``gradient_sums``, then ``line_gradient``, for as many channels at once as stay in the cache.

    joined  a ``Joined``, or None
    """
    channels = max(1, NORMALIZED_AT_ONCE // (x.shape[0] * x.shape[2]))
    for first in range(start, stop, channels):
        last = min(first + channels, stop)
        gradient_sums(first, last, x, dy, joined, line, sum_g, sum_product, totals)
        if joined is None:
            line_gradient(first, last, x, dy, line, sum_g, sum_product, dx)
        else:
            line_gradient(first, last, x, joined.g, line, sum_g, sum_product, dx)


@exact
def gradient_sums(start, stop, x, dy, joined, line: Line, sum_g, sum_product, totals):
    """The sums of g and of g times the normalised x, where g is dy, but 0 where y is clipped; or that of ``joined``."""
    N, C, P = x.shape
    lanes = simd.VECTOR_BYTES // x.itemsize
    flat, dy_flat = x.reshape(-1), dy.reshape(-1)
    totals[: (stop - start) * 2 * lanes] = 0
    for n in range(N):
        for c in range(start, stop):
            numbers, sums = _numbers(line, c, x), (c - start) * 2 * lanes
            for first in range(0, P, _PIECE):
                place, count = (n * C + c) * P + first, min(_PIECE, P - first)
                pieces = (at(flat, place), at(dy_flat, place))
                if joined is not None:
                    others = (at(joined.more.reshape(-1), place), at(joined.y.reshape(-1), place))
                    g = (at(joined.g.reshape(-1), place),)
                    _sum_joined_gradients(count, numbers, pieces + others, g, at(totals, sums))
                elif line.clip:
                    _sum_clipped_gradients(count, numbers, pieces, (), at(totals, sums))
                else:
                    _sum_gradients(count, numbers, pieces, (), at(totals, sums))
    for c in range(start, stop):
        sums = (c - start) * 2 * lanes
        beyond = np.float64(x.dtype.type(line.mean[c])) - line.mean[c]
        sum_g[c] = rows.total(totals, sums, lanes)
        sum_product[c] = (rows.total(totals, sums + lanes, lanes) + beyond * sum_g[c]) * line.factor[c]


def _gradients(emitter, numbers, x, g):
    distance = emitter.builder.fsub(x, numbers[0])
    return [], [g, emitter.builder.fmul(g, distance)]


def _clipped_gradients(emitter, numbers, x, dy):
    return _gradients(emitter, numbers, x, emitter.where_positive(_value(emitter, numbers, x), dy))


def _joined_gradients(emitter, numbers, x, dy, more, y):
    g = emitter.where_positive(y, emitter.builder.fadd(dy, more))
    return [g], _gradients(emitter, numbers, x, g)[1]


_sum_gradients, _sum_clipped_gradients = rows.loop(_gradients, 2), rows.loop(_clipped_gradients, 2)
_sum_joined_gradients = rows.loop(_joined_gradients, 2)


@exact
def line_gradient(start, stop, x, dy, line: Line, sum_g, sum_product, dx):
    """dx = scale factor (g - mean of g - normalised x (mean of g times normalised x)); dx None: in place of dy."""
    N, C, P = x.shape
    flat, dy_flat = x.reshape(-1), dy.reshape(-1)
    target = dy_flat if dx is None else dx.reshape(-1)
    for n in range(N):
        for c in range(start, stop):
            numbers = _numbers(line, c, x) + _slopes(line, c, x, sum_g, sum_product)
            place = (n * C + c) * P
            pieces, targets = (at(flat, place), at(dy_flat, place)), (at(target, place),)
            if line.clip:
                _follow_clipped(P, numbers, pieces, targets, None)
            else:
                _follow(P, numbers, pieces, targets, None)


@exact
def _slopes(line, c, x, sum_g, sum_product):
    """Means of g and of factor g times the normalised x, and scale times factor, in the type of x."""
    number, share = x.dtype.type, 1 / (x.shape[0] * x.shape[2])
    slope = number(line.factor[c] * (sum_product[c] * share))
    return number(sum_g[c] * share), slope, number(line.scale[c] * line.factor[c])


def _gradient(emitter, numbers, x, g):
    centre, *_, mean_g, slope, rate = numbers
    builder = emitter.builder
    product = builder.fmul(builder.fsub(x, centre), slope)
    return [builder.fmul(rate, builder.fsub(builder.fsub(g, mean_g), product))], []


def _clipped_gradient(emitter, numbers, x, dy):
    return _gradient(emitter, numbers, x, emitter.where_positive(_value(emitter, numbers[:5], x), dy))


_follow, _follow_clipped = rows.loop(_gradient), rows.loop(_clipped_gradient)


@exact
def fixed_line_gradient(start, stop, x, dy, line: Line, rate, dx):
    """dx = rate[c] g: the gradient where mean and factor are given; dx None: in place of dy."""
    N, C, P = x.shape
    flat, dy_flat = x.reshape(-1), dy.reshape(-1)
    target = dy_flat if dx is None else dx.reshape(-1)
    for n in range(N):
        for c in range(start, stop):
            numbers, place = _numbers(line, c, x) + (rate[c],), (n * C + c) * P
            pieces, targets = (at(flat, place), at(dy_flat, place)), (at(target, place),)
            if line.clip:
                _follow_fixed_clipped(P, numbers, pieces, targets, None)
            else:
                _follow_fixed(P, numbers, pieces, targets, None)


def _fixed_gradient(emitter, numbers, x, g):
    return [emitter.builder.fmul(numbers[-1], g)], []


def _clipped_fixed_gradient(emitter, numbers, x, dy):
    rate = emitter.builder.fmul(numbers[-1], dy)
    return [emitter.where_positive(_value(emitter, numbers[:5], x), rate)], []


_follow_fixed, _follow_fixed_clipped = rows.loop(_fixed_gradient), rows.loop(_clipped_fixed_gradient)


class Response(NamedTuple):
    """Local response normalisation over (items, A, B) arrays: y = x s^-beta, s = k + alpha sum x^2, the sum over
    a window of half_a and half_b cells to each side."""

    half_a: int
    half_b: int
    alpha: float
    beta: float
    k: float


class WindowSizes(NamedTuple):
    """Of rows and columns that are done at once, with zeros around them."""

    half_a: int
    half_b: int
    rows: int
    width: int
    pitch: int  # elements from one row to the next


def window_sizes(rows: int, columns: int, response: Response) -> WindowSizes:
    """Of arrays (items, rows, columns)."""
    width = columns if response.half_b else min(columns, WINDOW_COLUMNS)
    return WindowSizes(response.half_a, response.half_b, rows, width, width + 2 * response.half_b)


def room_for_windows(sizes: WindowSizes, dtype: np.dtype) -> np.ndarray:
    """The work array of ``response_forward`` and ``response_backward``."""
    return scratch((3 * sizes.rows + 2 * sizes.half_a) * sizes.pitch, dtype)


@exact
def response_forward(start, stop, x, response: Response, sizes: WindowSizes, scale, y, work):
    """s goes to ``scale``."""
    _, A, B = x.shape
    flat, scales, results = x.reshape(-1), scale.reshape(-1), y.reshape(-1)
    numbers = x.dtype.type(response.k), x.dtype.type(response.alpha)
    squares, columns, sums = _parts(work, sizes)
    for item in range(start, stop):
        for first in range(0, B, sizes.width):
            width = min(sizes.width, B - first)
            for a in range(A):
                place = (item * A + a) * B + first
                _square(width, (), (at(flat, place),), (at(squares, _inside(sizes, a)),), None)
            _sum_windows(squares, sizes, columns, sums)
            for a in range(A):
                place, total = (item * A + a) * B + first, (at(sums, a * sizes.pitch),)
                if response.beta == 0.75:
                    targets = at(scales, place), at(results, place)
                    _weaken(width, numbers, total + (at(flat, place),), targets, None)
                    continue
                _measure(width, numbers, total, (at(scales, place),), None)
                for i in range(place, place + width):
                    results[i] = flat[i] * scales[i] ** x.dtype.type(-response.beta)


@exact
def response_backward(start, stop, x, scale, dy, response: Response, sizes: WindowSizes, dx, work):
    """dx = dy s^-beta - 2 alpha beta x (sum over the window of dy x s^(-beta - 1))."""
    _, A, B = x.shape
    flat, scales, gradients, results = x.reshape(-1), scale.reshape(-1), dy.reshape(-1), dx.reshape(-1)
    slope = x.dtype.type(2 * response.alpha * response.beta)
    ratios, columns, sums = _parts(work, sizes)
    for item in range(start, stop):
        for first in range(0, B, sizes.width):
            width = min(sizes.width, B - first)
            for a in range(A):
                place, inside = (item * A + a) * B + first, _inside(sizes, a)
                if response.beta == 0.75:
                    sources = at(flat, place), at(scales, place), at(gradients, place)
                    _weaken_gradient(width, (), sources, (at(results, place), at(ratios, inside)), None)
                    continue
                for i in range(width):
                    weak = gradients[place + i] * scales[place + i] ** x.dtype.type(-response.beta)
                    results[place + i] = weak
                    ratios[inside + i] = weak * flat[place + i] / scales[place + i]
            _sum_windows(ratios, sizes, columns, sums)
            for a in range(A):
                place = (item * A + a) * B + first
                sources = at(results, place), at(flat, place), at(sums, a * sizes.pitch)
                _spread_gradient(width, (slope,), sources, (at(results, place),), None)


@exact
def _parts(work, sizes):
    """Memory for values with zeros around them, for their sums down the columns and over windows."""
    around, inside = (sizes.rows + 2 * sizes.half_a) * sizes.pitch, sizes.rows * sizes.pitch
    work[:around] = 0
    return work[:around], work[around : around + inside], work[around + inside :]


@exact
def _inside(sizes, a):
    """Where row a begins within its zeros."""
    return (sizes.half_a + a) * sizes.pitch + sizes.half_b


@exact
def _sum_windows(values, sizes, columns, sums):
    """The window around column b of row a is sums[a pitch + b]."""
    count = sizes.rows * sizes.pitch
    _sum_neighbours(count, values, sizes.pitch, 2 * sizes.half_a, columns)
    _sum_neighbours(count - 2 * sizes.half_b, columns, 1, 2 * sizes.half_b, sums)


@exact
def _sum_neighbours(count, values, step, more, sums):
    """sums[i] = values[i] + values[i + step] + ..., so many more."""
    target = (at(sums, 0),)
    _keep(count, (), (at(values, 0),), target, None)
    for neighbour in range(1, more + 1):
        _add(count, (), target + (at(values, neighbour * step),), target, None)


def _measured(emitter, numbers, total):
    k, alpha = numbers
    return [emitter.multiply_add(alpha, total, k)], []


def _weakened(emitter, numbers, total, x):
    [scale], _ = _measured(emitter, numbers, total)
    return [scale, emitter.builder.fmul(x, _inverse_power(emitter, scale))], []


def _weakened_gradient(emitter, numbers, x, scale, dy):
    builder = emitter.builder
    weak = builder.fmul(dy, _inverse_power(emitter, scale))
    return [weak, builder.fdiv(builder.fmul(weak, x), scale)], []


def _gradient_of_all(emitter, numbers, weak, x, total):
    [slope] = numbers
    return [emitter.builder.fsub(weak, emitter.builder.fmul(emitter.builder.fmul(slope, x), total))], []


def _inverse_power(emitter, x):
    """x^-0.75, the usual power, is two square roots."""
    root = emitter.root(x)
    one = emitter.splat(ir.Constant(emitter.scalar, 1.0))
    return emitter.builder.fdiv(one, emitter.builder.fmul(root, emitter.root(root)))


_keep, _add = rows.loop(lambda emitter, numbers, x: ([x], [])), rows.loop(rows.added)
_square = rows.loop(lambda emitter, numbers, x: ([emitter.builder.fmul(x, x)], []))
_measure, _weaken = rows.loop(_measured), rows.loop(_weakened)
_weaken_gradient, _spread_gradient = rows.loop(_weakened_gradient), rows.loop(_gradient_of_all)
