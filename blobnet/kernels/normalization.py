"""Normalisation loops, called by layers.normalization.

Arrays are [N, C, P]; an item is a channel, N rows of P neighbours. Its sums are taken row by row in order, in pieces
that are added up as float64, whatever part of the channels a thread has.
"""

import math
from typing import NamedTuple

import numpy as np

from blobnet.kernels._jit import jit

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


@jit
def moments(start, stop, x, kept, mean, variance):
    """Mean and (biased) variance, from sums about the channel's first number: a large mean costs no precision.

    kept  takes a copy of x, unless it is None
    """
    N, _, P = x.shape
    for c in range(start, stop):
        mean[c] = variance[c] = 0
    for n in range(N):
        for c in range(start, stop):
            pivot = _pivot(x, c)
            for first in range(0, P, _PIECE):
                piece = x[n, c, first : first + _PIECE]
                if kept is not None:
                    copy = kept[n, c, first : first + _PIECE]
                    for i in range(piece.size):
                        copy[i] = piece[i]
                total = squares = x.dtype.type(0)
                for i in range(piece.size):
                    distance = piece[i] - pivot
                    total += distance
                    squares += distance * distance
                mean[c] += total
                variance[c] += squares
    for c in range(start, stop):
        distance = mean[c] / (N * P)
        mean[c] = _pivot(x, c) + distance
        spread = variance[c] / (N * P) - distance * distance
        variance[c] = 0 if spread < 0 else spread


@jit
def _pivot(x, c):
    first = x[0, c, 0]
    return first if math.isfinite(first) else x.dtype.type(0)


@jit
def apply_line(start, stop, x, line, y):
    """y of the line; y None: in place."""
    for n in range(x.shape[0]):
        for c in range(start, stop):
            centre, factor, rest = _rounded(line, c, x)
            scale, shift = line.scale[c], line.shift[c]
            source = x[n, c]
            target = source if y is None else y[n, c]
            if line.clip:
                for i in range(source.size):
                    value = _value(source[i], centre, factor, rest, scale, shift)
                    target[i] = 0 if value <= 0 else value
            else:
                for i in range(source.size):
                    target[i] = _value(source[i], centre, factor, rest, scale, shift)


@jit
def _rounded(line, c, x):
    """Mean and factor in the type of x, and what the rounding of the mean takes from the normalised x."""
    number = x.dtype.type
    centre = number(line.mean[c])
    return centre, number(line.factor[c]), number((np.float64(centre) - line.mean[c]) * line.factor[c])


@jit(fastmath={"contract"})  # in this order, so that a Scale and a ReLU layer give the same bits
def _value(x, centre, factor, rest, scale, shift):
    return scale * ((x - centre) * factor + rest) + shift


@jit
def gradient_sums(start, stop, x, dy, line, sum_g, sum_product):
    """The sums of g and of g times the normalised x, where g is dy, but 0 where y is clipped."""
    N, _, P = x.shape
    for c in range(start, stop):
        sum_g[c] = sum_product[c] = 0
    for n in range(N):
        for c in range(start, stop):
            centre, factor, rest = _rounded(line, c, x)
            scale, shift = line.scale[c], line.shift[c]
            for first in range(0, P, _PIECE):
                piece, gradient = x[n, c, first : first + _PIECE], dy[n, c, first : first + _PIECE]
                total = product = x.dtype.type(0)
                if line.clip:
                    for i in range(piece.size):
                        value = _value(piece[i], centre, factor, rest, scale, shift)
                        g = x.dtype.type(0) if value <= 0 else gradient[i]
                        total += g
                        product += g * (piece[i] - centre)
                else:
                    for i in range(piece.size):
                        total += gradient[i]
                        product += gradient[i] * (piece[i] - centre)
                sum_g[c] += total
                sum_product[c] += product
    for c in range(start, stop):
        beyond = np.float64(x.dtype.type(line.mean[c])) - line.mean[c]
        sum_product[c] = (sum_product[c] + beyond * sum_g[c]) * line.factor[c]


@jit
def line_gradient(start, stop, x, dy, line, sum_g, sum_product, dx):
    """dx where mean and factor follow from x, with the sums of ``gradient_sums``; dx None: in place of dy.

    dx = scale factor (g - mean of g - normalised x (mean of g times normalised x))
    """
    N, _, P = x.shape
    number = x.dtype.type
    for n in range(N):
        for c in range(start, stop):
            centre, factor, rest = _rounded(line, c, x)
            scale, shift = line.scale[c], line.shift[c]
            rate = number(scale * line.factor[c])
            mean_g = number(sum_g[c] / (N * P))
            slope = number(line.factor[c] * sum_product[c] / (N * P))
            source, gradient = x[n, c], dy[n, c]
            target = gradient if dx is None else dx[n, c]
            if line.clip:
                for i in range(P):
                    value = _value(source[i], centre, factor, rest, scale, shift)
                    g = number(0) if value <= 0 else gradient[i]
                    target[i] = rate * (g - mean_g - (source[i] - centre) * slope)
            else:
                for i in range(P):
                    target[i] = rate * (gradient[i] - mean_g - (source[i] - centre) * slope)


@jit
def fixed_line_gradient(start, stop, x, dy, line, rate, dx):
    """dx = rate[c] g: the gradient where mean and factor are given; dx None: in place of dy."""
    number = x.dtype.type
    for n in range(x.shape[0]):
        for c in range(start, stop):
            centre, factor, rest = _rounded(line, c, x)
            scale, shift, slope = line.scale[c], line.shift[c], rate[c]
            source, gradient = x[n, c], dy[n, c]
            target = gradient if dx is None else dx[n, c]
            if line.clip:
                for i in range(source.size):
                    value = _value(source[i], centre, factor, rest, scale, shift)
                    target[i] = number(0) if value <= 0 else slope * gradient[i]
            else:
                for i in range(source.size):
                    target[i] = slope * gradient[i]


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
