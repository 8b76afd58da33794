"""Normalisation loops, called by layers.normalization.

Statistics are over rows: x is (rows, length), and row r belongs to channel r % channels. Sums are kept in
float64: one number a row, then added up in the order of the rows.
"""

from typing import NamedTuple

import numpy as np

from blobnet.kernels._jit import jit
from blobnet.kernels.elements import span


@jit
def row_moments(start, stop, x, mean, squares):
    """Of each row the mean, and the sum of the squared distances from it."""
    for row in range(start, stop):
        total = np.float64(0)
        for i in range(x.shape[1]):
            total += x[row, i]
        mean[row] = total / x.shape[1]
        total = np.float64(0)
        for i in range(x.shape[1]):
            distance = x[row, i] - mean[row]
            total += distance * distance
        squares[row] = total


@jit
def channel_moments(row_mean, row_squares, length, mean, variance):
    """Mean and (biased) variance of each channel from the moments of its rows (Chan, Golub and LeVeque 1979)."""
    channels = mean.size
    rows = row_mean.size // channels
    channel_means(row_mean, mean)
    for c in range(channels):
        total = 0.0
        for n in range(rows):
            distance = row_mean[n * channels + c] - mean[c]
            total += row_squares[n * channels + c] + length * distance * distance
        variance[c] = total / (rows * length)


@jit
def channel_means(row_values, mean):
    """The mean over the rows of each channel."""
    channels = mean.size
    mean[:] = 0
    for row in range(row_values.size):
        mean[row % channels] += row_values[row]
    mean /= row_values.size // channels


@jit
def normalize(start, stop, x, mean, factor, y):
    """y = (x - mean) factor, both of the row's channel; y None: in place."""
    x, y = span(start, stop, x, y)
    for row in range(x.shape[0]):
        channel = (start + row) % mean.size
        for i in range(x.shape[1]):
            y[row, i] = (x[row, i] - mean[channel]) * factor[channel]


@jit
def row_gradients(start, stop, x, mean, factor, dy, mean_dy, mean_product):
    """Of each row the means of dy and of dy times the normalised x."""
    for row in range(start, stop):
        channel = row % mean.size
        total, product = np.float64(0), np.float64(0)
        for i in range(x.shape[1]):
            total += dy[row, i]
            product += dy[row, i] * (x[row, i] - mean[channel])
        mean_dy[row] = total / x.shape[1]
        mean_product[row] = product * factor[channel] / x.shape[1]


@jit
def normalize_backward(start, stop, x, mean, factor, mean_dy, mean_product, dy, dx):
    """dx = (dy - mean_dy - normalised x times mean_product) factor; dx None: in place of dy."""
    x = x[start:stop]
    dy, dx = span(start, stop, dy, dx)
    for row in range(x.shape[0]):
        channel = (start + row) % mean.size
        slope = factor[channel] * mean_product[channel]
        for i in range(x.shape[1]):
            inner = dy[row, i] - mean_dy[channel] - (x[row, i] - mean[channel]) * slope
            dx[row, i] = inner * factor[channel]


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
