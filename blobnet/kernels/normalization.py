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

from blobnet.kernels import rows, simd
from blobnet.kernels._jit import jit
from blobnet.kernels.rows import at

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


@exact
def moments(start, stop, x, kept, mean, variance):
    """Mean and (biased) variance, from sums about the channel's first number: a large mean costs no precision.

    kept  takes a copy of x, unless it is None
    """
    N, C, P = x.shape
    lanes = simd.VECTOR_BYTES // x.itemsize
    flat, totals = x.reshape(-1), np.zeros((stop - start) * 2 * lanes)
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


@jit
def remember(mean, variance, unbiased, fraction, means, variances, weight):
    """Running sums of means, of variances times ``unbiased``, and of 1 shrink by the fraction and take one more."""
    for c in range(mean.size):
        means[c] = fraction * means[c] + mean[c]
        variances[c] = fraction * variances[c] + unbiased * variance[c]
    weight[0] = fraction * weight[0] + 1


@exact
def apply_line(start, stop, x, line, y):
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
def sums_and_line_gradient(start, stop, x, dy, line, sum_g, sum_product, dx):
    """``gradient_sums``, then ``line_gradient``."""
    gradient_sums(start, stop, x, dy, line, sum_g, sum_product)
    line_gradient(start, stop, x, dy, line, sum_g, sum_product, dx)


@exact
def gradient_sums(start, stop, x, dy, line, sum_g, sum_product):
    """The sums of g and of g times the normalised x, where g is dy, but 0 where y is clipped."""
    N, C, P = x.shape
    lanes = simd.VECTOR_BYTES // x.itemsize
    flat, dy_flat, totals = x.reshape(-1), dy.reshape(-1), np.zeros((stop - start) * 2 * lanes)
    for n in range(N):
        for c in range(start, stop):
            numbers, sums = _numbers(line, c, x), (c - start) * 2 * lanes
            for first in range(0, P, _PIECE):
                place, count = (n * C + c) * P + first, min(_PIECE, P - first)
                pieces = (at(flat, place), at(dy_flat, place))
                if line.clip:
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


_sum_gradients, _sum_clipped_gradients = rows.loop(_gradients, 2), rows.loop(_clipped_gradients, 2)


@exact
def line_gradient(start, stop, x, dy, line, sum_g, sum_product, dx):
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
def fixed_line_gradient(start, stop, x, dy, line, rate, dx):
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


@jit
def response_forward(start, stop, x, response, scale, y):
    """s goes to ``scale``."""
    _, A, B = x.shape
    alpha, k = x.dtype.type(response.alpha), x.dtype.type(response.k)
    squares = np.empty((A, B), x.dtype)
    column = np.empty(B, x.dtype)
    for item in range(start, stop):
        for a in range(A):
            for b in range(B):
                squares[a, b] = x[item, a, b] * x[item, a, b]
        for a in range(A):
            source, row, target = x[item, a], scale[item, a], y[item, a]
            _window_sum(squares, a, response, column, row)
            for b in range(B):
                row[b] = k + alpha * row[b]
            _inverse_power(row, response.beta, target)
            for b in range(B):
                target[b] *= source[b]


@jit
def response_backward(start, stop, x, scale, dy, response, dx):
    """dx = dy s^-beta - 2 alpha beta x (sum over the window of dy x s^(-beta - 1))."""
    _, A, B = x.shape
    slope = x.dtype.type(2 * response.alpha * response.beta)
    ratio = np.empty((A, B), x.dtype)
    column = np.empty(B, x.dtype)
    total = np.empty(B, x.dtype)
    for item in range(start, stop):
        for a in range(A):
            target = dx[item, a]
            _inverse_power(scale[item, a], response.beta, target)
            for b in range(B):
                target[b] *= dy[item, a, b]
                ratio[a, b] = target[b] * x[item, a, b] / scale[item, a, b]
        for a in range(A):
            _window_sum(ratio, a, response, column, total)
            for b in range(B):
                dx[item, a, b] -= slope * x[item, a, b] * total[b]


@jit
def _window_sum(values, a, response, column, total):
    """Sums of the windows around the cells of row a: down the columns first, then along the row."""
    A, B = values.shape
    column[:] = 0
    for neighbour in range(max(0, a - response.half_a), min(A, a + response.half_a + 1)):
        for b in range(B):
            column[b] += values[neighbour, b]
    for b in range(B):
        total[b] = column[b]
    for distance in range(1, min(response.half_b, B - 1) + 1):
        for b in range(B - distance):
            total[b] += column[b + distance]
        for b in range(B - distance):
            total[b + distance] += column[b]


@jit(fastmath=False)  # an estimated 1 / sqrt would make NaN of infinity
def _inverse_power(x, beta, y):
    """y = x^-beta. The usual beta 0.75 is two square roots."""
    if beta == 0.75:
        for i in range(x.size):
            root = np.sqrt(x[i])
            y[i] = 1 / (root * np.sqrt(root))
    else:
        for i in range(x.size):
            y[i] = x[i] ** x.dtype.type(-beta)
