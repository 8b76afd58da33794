"""Elementary functions of each element, and their gradients.

All arrays are flat. In place, y or dx is None (see ``elements``).
"""

import math

import numpy as np

from blobnet.kernels._jit import jit
from blobnet.kernels.elements import span
from blobnet.kernels.exponential import exp

_ONE = np.float32(1)


@jit
def absolute(start, stop, x, y):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = abs(x[i])


@jit
def absolute_gradient(start, stop, x, dy, dx):
    x, dy, dx = x[start:stop], dy[start:stop], dx[start:stop]
    for i in range(x.size):
        dx[i] = dy[i] if x[i] > 0 else (-dy[i] if x[i] < 0 else 0)


@jit
def exponential(start, stop, x, rate, factor, y):
    """factor exp(rate x)."""
    x, y = span(start, stop, x, y)
    for i in range(x.size):
        y[i] = factor * exp(rate * x[i])


@jit
def exponential_gradient(start, stop, y, rate, dy, dx):
    y = y[start:stop]
    dy, dx = span(start, stop, dy, dx)
    for i in range(y.size):
        dx[i] = dy[i] * rate * y[i]


@jit
def logarithm(start, stop, x, scale, shift, factor, y):
    """factor log(shift + scale x)."""
    x, y = span(start, stop, x, y)
    for i in range(x.size):
        y[i] = factor * math.log(shift + scale * x[i])


@jit
def logarithm_gradient(start, stop, x, scale, shift, factor, dy, dx):
    x = x[start:stop]
    dy, dx = span(start, stop, dy, dx)
    for i in range(x.size):
        dx[i] = dy[i] * factor * scale / (shift + scale * x[i])


@jit
def power(start, stop, x, scale, shift, exponent, y):
    """(shift + scale x) ^ exponent."""
    x, y = span(start, stop, x, y)
    for i in range(x.size):
        y[i] = _power(shift + scale * x[i], exponent)


@jit
def power_gradient(start, stop, x, scale, shift, exponent, dy, dx):
    x = x[start:stop]
    dy, dx = span(start, stop, dy, dx)
    for i in range(x.size):
        dx[i] = dy[i] * exponent * scale * _power(shift + scale * x[i], exponent - _ONE)


@jit
def _power(base, exponent):
    """base ^ exponent, with no call for the exponents that matter."""
    if exponent == 0:
        return _ONE
    if exponent == 1:
        return base
    if exponent == 2:
        return base * base
    return base**exponent


@jit
def clip(start, stop, x, low, high, y):
    x, y = span(start, stop, x, y)
    for i in range(x.size):
        y[i] = low if x[i] < low else (high if x[i] > high else x[i])


@jit
def clip_gradient(start, stop, x, low, high, dy, dx):
    """The gradient passes within the bounds and at them."""
    x = x[start:stop]
    dy, dx = span(start, stop, dy, dx)
    for i in range(x.size):
        dx[i] = 0 if x[i] < low or x[i] > high else dy[i]


@jit
def threshold(start, stop, x, level, y):
    x, y = span(start, stop, x, y)
    for i in range(x.size):
        y[i] = 1 if x[i] > level else 0
