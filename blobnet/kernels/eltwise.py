"""Sums, products and maxima of several arrays, and scaling by channel.

Flat arrays, but for the scaling: there x is [rows, P], and row r belongs to entry r mod size of the factors.
In place, an output is None (see ``elements``).
"""

from collections.abc import Sequence

import numpy as np

from blobnet.kernels import elements
from blobnet.kernels._jit import jit
from blobnet.kernels.elements import span


def add_up(inputs: Sequence[np.ndarray], coefficients: Sequence[np.number], y: np.ndarray) -> None:
    """y = the sum of all inputs, each times its coefficient."""
    if len(inputs) == 1:
        elements.run(multiple, y.size, inputs[0], coefficients[0], y)
        return
    first, second, *others = inputs
    elements.run(weighted_sum, y.size, first, coefficients[0], second, coefficients[1], y)
    for x, coefficient in zip(others, coefficients[2:], strict=True):
        elements.run(weighted_sum, y.size, y, y.dtype.type(1), x, coefficient, None)


@jit
def multiple(start, stop, x, a, y):
    """a x."""
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = a * x[i]


@jit
def weighted_sum(start, stop, x, a, z, b, y):
    """a x + b z."""
    x, y = span(start, stop, x, y)
    z = z[start:stop]
    for i in range(x.size):
        y[i] = a * x[i] + b * z[i]


@jit
def accumulate(start, stop, x, beta, y):
    """x + beta y; beta 0 or 1, and with 0 the old y is not read."""
    for i in range(start, stop):
        y[i] = x[i] + y[i] if beta else x[i]


@jit
def clipped_sum(start, stop, x, a, z, b, y):
    """a x + b z, or 0 where that is negative."""
    x, z, y = x[start:stop], z[start:stop], y[start:stop]
    for i in range(x.size):
        total = a * x[i] + b * z[i]
        y[i] = 0 if total <= 0 else total


@jit
def clipped_sum_gradient(start, stop, y, a, b, dy, dx, dz, shown):
    """dx = a g and dz = b g, where g is dy, but 0 where y is clipped; ``shown``: dy becomes g."""
    y, dy, dx, dz = y[start:stop], dy[start:stop], dx[start:stop], dz[start:stop]
    if shown:
        for i in range(y.size):
            g = 0 if y[i] <= 0 else dy[i]
            dx[i] = a * g
            dz[i] = b * g
            dy[i] = g
    else:
        for i in range(y.size):
            g = 0 if y[i] <= 0 else dy[i]
            dx[i] = a * g
            dz[i] = b * g


@jit
def product(start, stop, x, z, y):
    x, y = span(start, stop, x, y)
    z = z[start:stop]
    for i in range(x.size):
        y[i] = x[i] * z[i]


@jit
def quotient_gradient(start, stop, product, x, dy, dx):
    """dy product / x: the gradient of a product, wrong where x is 0."""
    product, x, dy, dx = product[start:stop], x[start:stop], dy[start:stop], dx[start:stop]
    for i in range(x.size):
        dx[i] = dy[i] * product[i] / x[i]


@jit
def maximum(start, stop, x, z, y, winner):
    """The larger of x and z, and which it is: 0, or 1 also where they are equal."""
    x, z, y, winner = x[start:stop], z[start:stop], y[start:stop], winner[start:stop]
    for i in range(x.size):
        winner[i] = 0 if x[i] > z[i] else 1
        y[i] = x[i] if x[i] > z[i] else z[i]


@jit
def maximum_with(start, stop, z, index, y, winner):
    """y becomes z, and the winner ``index``, where z is larger."""
    z, y, winner = z[start:stop], y[start:stop], winner[start:stop]
    for i in range(z.size):
        winner[i] = index if z[i] > y[i] else winner[i]
        y[i] = z[i] if z[i] > y[i] else y[i]


@jit
def maximum_gradient(start, stop, winner, index, dy, dx):
    winner, dy, dx = winner[start:stop], dy[start:stop], dx[start:stop]
    for i in range(winner.size):
        dx[i] = dy[i] if winner[i] == index else 0


@jit
def scale(start, stop, x, factor, shift, y):
    """factor x + shift, for the rows start to stop."""
    x, y = span(start, stop, x, y)
    for row in range(x.shape[0]):
        channel = (start + row) % factor.size
        a, b = factor[channel], shift[channel]
        for i in range(x.shape[1]):
            y[row, i] = a * x[row, i] + b


@jit
def row_products(start, stop, x, dy, sums):
    """sums[row] = the sum of dy x over the row."""
    for row in range(start, stop):
        total = x.dtype.type(0)
        for i in range(x.shape[1]):
            total += dy[row, i] * x[row, i]
        sums[row] = total


@jit
def row_sums(start, stop, dy, sums):
    """sums[row] = the sum of dy over the row."""
    for row in range(start, stop):
        total = dy.dtype.type(0)
        for i in range(dy.shape[1]):
            total += dy[row, i]
        sums[row] = total
