"""The six update rules in plain NumPy: (gradient, histories, rate, constants) -> (update, new histories)."""

import numpy as np


def sgd(g, h, rate, momentum):
    velocity = momentum * h[0] + rate * g
    return velocity, [velocity]


def nesterov(g, h, rate, momentum):
    velocity = momentum * h[0] + rate * g
    return (1 + momentum) * velocity - momentum * h[0], [velocity]


def adagrad(g, h, rate, delta):
    squares = h[0] + g**2
    return rate * g / (np.sqrt(squares) + delta), [squares]


def rmsprop(g, h, rate, decay, share, delta):
    squares = decay * h[0] + share * g**2
    return rate * g / (np.sqrt(squares) + delta), [squares]


def adadelta(g, h, rate, decay, share, delta):
    squares = decay * h[0] + share * g**2
    step = g * np.sqrt((h[1] + delta) / (squares + delta))
    return rate * step, [squares, decay * h[1] + share * step**2]


def adam(g, h, rate, decay, share, decay2, share2, delta):
    mean = decay * h[0] + share * g
    squares = decay2 * h[1] + share2 * g**2
    return rate * mean / (np.sqrt(squares) + delta), [mean, squares]


def regularize(gradient, weight, scale, l2, l1):
    return scale * gradient + l2 * weight + l1 * np.sign(weight)
