"""Activations: y = f(x) for each element, and dx = dy f'(x) from whatever is cheapest to have, x or y.

All arrays are flat, but for PReLU's. In place, y or dx is None (see ``elements``). Constants are float32, exact
in both number types, so that float32 loops stay float32.
"""

import math

import numpy as np

from blobnet.kernels._jit import jit
from blobnet.kernels.elements import span
from blobnet.kernels.exponential import exp, sigmoid, tanh

_ONE = np.float32(1)


@jit
def relu(start, stop, x, y):
    x, y = span(start, stop, x, y)
    for i in range(x.size):
        y[i] = 0 if x[i] <= 0 else x[i]


@jit
def relu_gradient(start, stop, x, dy, dx):
    x = x[start:stop]
    dy, dx = span(start, stop, dy, dx)
    for i in range(x.size):
        dx[i] = 0 if x[i] <= 0 else dy[i]


@jit
def leaky_relu(start, stop, x, slope, y):
    x, y = span(start, stop, x, y)
    for i in range(x.size):
        y[i] = x[i] if x[i] > 0 else slope * x[i]


@jit
def leaky_relu_gradient(start, stop, x, slope, dy, dx):
    x = x[start:stop]
    dy, dx = span(start, stop, dy, dx)
    for i in range(x.size):
        dx[i] = dy[i] if x[i] > 0 else slope * dy[i]


@jit
def prelu(start, stop, x, slope, y):
    """Rows start to stop of x [N C, P]; row n C + c has the slope c."""
    x, y = span(start, stop, x, y)
    for row in range(x.shape[0]):
        a = slope[(start + row) % slope.size]
        for i in range(x.shape[1]):
            y[row, i] = x[row, i] if x[row, i] > 0 else a * x[row, i]


@jit
def prelu_gradient(start, stop, x, slope, dy, dx):
    x = x[start:stop]
    dy, dx = span(start, stop, dy, dx)
    for row in range(x.shape[0]):
        a = slope[(start + row) % slope.size]
        for i in range(x.shape[1]):
            dx[row, i] = dy[row, i] if x[row, i] > 0 else a * dy[row, i]


@jit
def prelu_slope_gradient(start, stop, x, dy, sums):
    """sums[row]: the sum of dy x over the elements of the row with x <= 0."""
    for row in range(start, stop):
        total = slope_free = x.dtype.type(0)
        for i in range(x.shape[1]):
            total += slope_free if x[row, i] > 0 else dy[row, i] * x[row, i]
        sums[row] = total


@jit
def elu(start, stop, x, alpha, y):
    x, y = span(start, stop, x, y)
    for i in range(x.size):
        y[i] = x[i] if x[i] > 0 else alpha * (exp(x[i]) - _ONE)


@jit
def elu_gradient(start, stop, x, y, alpha, dy, dx):
    x, y = x[start:stop], y[start:stop]
    dy, dx = span(start, stop, dy, dx)
    for i in range(x.size):
        dx[i] = dy[i] if x[i] > 0 else dy[i] * (alpha + y[i])


@jit
def logistic(start, stop, x, y):
    x, y = span(start, stop, x, y)
    for i in range(x.size):
        y[i] = sigmoid(x[i])


@jit
def logistic_gradient(start, stop, y, dy, dx):
    y = y[start:stop]
    dy, dx = span(start, stop, dy, dx)
    for i in range(y.size):
        dx[i] = dy[i] * y[i] * (_ONE - y[i])


@jit
def hyperbolic_tangent(start, stop, x, y):
    x, y = span(start, stop, x, y)
    for i in range(x.size):
        y[i] = tanh(x[i])


@jit
def hyperbolic_tangent_gradient(start, stop, y, dy, dx):
    y = y[start:stop]
    dy, dx = span(start, stop, dy, dx)
    for i in range(y.size):
        dx[i] = dy[i] * (_ONE - y[i] * y[i])


@jit
def swish(start, stop, x, beta, y):
    x, y = span(start, stop, x, y)
    for i in range(x.size):
        y[i] = x[i] * sigmoid(beta * x[i])


@jit
def swish_gradient(start, stop, x, beta, dy, dx):
    x = x[start:stop]
    dy, dx = span(start, stop, dy, dx)
    for i in range(x.size):
        gate = sigmoid(beta * x[i])
        dx[i] = dy[i] * (gate + beta * x[i] * gate * (_ONE - gate))


@jit
def softplus(start, stop, x, y):
    """log(1 + exp(x)), by the half of it that cannot overflow."""
    x, y = span(start, stop, x, y)
    for i in range(x.size):
        y[i] = max(x[i], x.dtype.type(0)) + math.log1p(exp(-abs(x[i])))


@jit
def softplus_gradient(start, stop, x, dy, dx):
    x = x[start:stop]
    dy, dx = span(start, stop, dy, dx)
    for i in range(x.size):
        dx[i] = dy[i] * sigmoid(x[i])
