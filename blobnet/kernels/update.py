"""The six update rules and the gradient norm: one pass over memory for each learnable blob.

A rule reads the summed gradient from ``diff``, scales and decays it, moves its history, writes the update into
``diff`` and subtracts it from ``data``. All arrays are flat and of one dtype. ``scalars`` are those of the
``Regularization``, the rate, and the constants of the rule: in an array, so that what is recorded reads them anew.

A running mean takes its two weights, ``decay`` and ``share`` = 1 - decay, as arguments: inside a loop fastmath turns
(1 - decay) * x into x - decay * x, which loses digits where decay is near 1.
"""

import math
from typing import NamedTuple

import numpy as np

from blobnet.kernels._jit import jit

GRAIN = 1 << 15  # elements; rules split nowhere else, so that vector and scalar paths meet the same elements


class Regularization(NamedTuple):
    """How the summed gradient g becomes the one a rule sees: ``scale * g + l2 * w + l1 * sign(w)``."""

    scale: np.floating  # clip factor / iter_size
    l2: np.floating
    l1: np.floating


# Where in the scalars the rate is, and the constants begin.
RATE, CONSTANTS = 3, 4


@jit
def regularization_of(scalars):
    return Regularization(scalars[0], scalars[1], scalars[2])


@jit
def regularized(gradient, weight, regularization):
    gradient = regularization.scale * gradient
    if regularization.l2 != 0:
        gradient += regularization.l2 * weight
    if regularization.l1 != 0:
        gradient += regularization.l1 * np.sign(weight)
    return gradient


@jit
def sgd(start, stop, data, diff, velocity, scalars):
    data, diff, velocity = data[start:stop], diff[start:stop], velocity[start:stop]
    regularization, rate, momentum = regularization_of(scalars), scalars[RATE], scalars[CONSTANTS]
    for i in range(data.size):
        gradient = regularized(diff[i], data[i], regularization)
        velocity[i] = momentum * velocity[i] + rate * gradient
        diff[i] = velocity[i]
        data[i] -= diff[i]


@jit
def nesterov(start, stop, data, diff, velocity, scalars):
    data, diff, velocity = data[start:stop], diff[start:stop], velocity[start:stop]
    regularization, rate, momentum = regularization_of(scalars), scalars[RATE], scalars[CONSTANTS]
    for i in range(data.size):
        gradient = regularized(diff[i], data[i], regularization)
        before = velocity[i]
        velocity[i] = momentum * before + rate * gradient
        diff[i] = velocity[i] + momentum * (velocity[i] - before)
        data[i] -= diff[i]


@jit
def adagrad(start, stop, data, diff, squares, scalars):
    data, diff, squares = data[start:stop], diff[start:stop], squares[start:stop]
    regularization, rate, delta = regularization_of(scalars), scalars[RATE], scalars[CONSTANTS]
    for i in range(data.size):
        gradient = regularized(diff[i], data[i], regularization)
        squares[i] += gradient * gradient
        diff[i] = rate * gradient / (math.sqrt(squares[i]) + delta)
        data[i] -= diff[i]


@jit
def rmsprop(start, stop, data, diff, squares, scalars):
    data, diff, squares = data[start:stop], diff[start:stop], squares[start:stop]
    regularization, rate, constants = regularization_of(scalars), scalars[RATE], scalars[CONSTANTS:]
    decay, share, delta = constants[0], constants[1], constants[2]
    for i in range(data.size):
        gradient = regularized(diff[i], data[i], regularization)
        squares[i] = decay * squares[i] + share * gradient * gradient
        diff[i] = rate * gradient / (math.sqrt(squares[i]) + delta)
        data[i] -= diff[i]


@jit
def adadelta(start, stop, data, diff, squares, steps, scalars):
    data, diff, squares, steps = data[start:stop], diff[start:stop], squares[start:stop], steps[start:stop]
    regularization, rate, constants = regularization_of(scalars), scalars[RATE], scalars[CONSTANTS:]
    decay, share, delta = constants[0], constants[1], constants[2]
    for i in range(data.size):
        gradient = regularized(diff[i], data[i], regularization)
        squares[i] = decay * squares[i] + share * gradient * gradient
        step = gradient * math.sqrt((steps[i] + delta) / (squares[i] + delta))
        steps[i] = decay * steps[i] + share * step * step
        diff[i] = rate * step
        data[i] -= diff[i]


@jit
def adam(start, stop, data, diff, mean, squares, scalars):
    data, diff, mean, squares = data[start:stop], diff[start:stop], mean[start:stop], squares[start:stop]
    regularization, rate, constants = regularization_of(scalars), scalars[RATE], scalars[CONSTANTS:]
    decay, share, decay2, share2, delta = constants[0], constants[1], constants[2], constants[3], constants[4]
    for i in range(data.size):
        gradient = regularized(diff[i], data[i], regularization)
        mean[i] = decay * mean[i] + share * gradient
        squares[i] = decay2 * squares[i] + share2 * gradient * gradient
        diff[i] = rate * mean[i] / (math.sqrt(squares[i]) + delta)
        data[i] -= diff[i]


@jit
def sums_of_squares(start, stop, values, sums):
    """``sums[b]`` = sum of squares of the b-th block of GRAIN values, for blocks start to stop."""
    for block in range(start, stop):
        part = values[block * GRAIN : (block + 1) * GRAIN]
        total = 0.0
        for i in range(part.size):
            total += np.float64(part[i]) * np.float64(part[i])
        sums[block] = total
