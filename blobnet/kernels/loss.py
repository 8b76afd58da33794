"""Loops of the losses, called by layers.loss. Forward kernels write one float64 a row, the row's part of the loss."""

import math

import numpy as np

from blobnet.kernels._jit import inlined, jit
from blobnet.kernels.exponential import sigmoid
from blobnet.kernels.rows import at, loop
from blobnet.kernels.softmax import forward_rows

SMALLEST = float(np.finfo(np.float32).tiny)  # probabilities below it count as it


@inlined
def softmax_loss(start, stop, probability, labels, losses):
    """losses: -log of the probabilities (outer, classes, inner) of the labels (outer, inner); negative ones count 0."""
    for item in range(start, stop):
        losses[item] = 0
        for i in range(labels.shape[1]):
            if labels[item, i] >= 0:
                value = probability[item, labels[item, i], i]
                losses[item] -= math.log(SMALLEST if value < SMALLEST else value)


@jit
def softmax_and_loss(start, stop, x, probability, labels, losses):
    """``softmax.forward_rows`` of the scores x (items, classes), and ``softmax_loss`` of the probabilities."""
    forward_rows(start, stop, x, probability)
    softmax_loss(start, stop, probability.reshape(*probability.shape, 1), labels, losses)


@jit
def softmax_loss_backward(start, stop, probability, labels, scale, dx):
    """dx = scale (probability - 1 at the label); 0 where the label is negative."""
    _, classes, inner = dx.shape
    flat, dx_flat = probability.reshape(-1), dx.reshape(-1)
    for item in range(start, stop):
        first = item * classes * inner
        if inner == 1 and labels[item, 0] >= 0:
            _scale_row(classes, (scale,), (at(flat, first),), (at(dx_flat, first),), None)
        else:
            for c in range(classes):
                for i in range(inner):
                    place = first + c * inner + i
                    dx_flat[place] = scale * flat[place] if labels[item, i] >= 0 else 0
        for i in range(inner):
            if labels[item, i] >= 0:
                dx[item, labels[item, i], i] -= scale


_scale_row = loop(lambda emitter, numbers, p: ([emitter.builder.fmul(numbers[0], p)], []))


@jit
def sigmoid_cross_entropy(start, stop, x, target, used, losses):
    """losses: -(t log s(x) + (1 - t) log(1 - s(x))) over the used elements of each row, s the sigmoid."""
    for row in range(start, stop):
        losses[row] = 0
        for i in range(x.shape[1]):
            if used[row, i]:
                step = 1.0 if x[row, i] >= 0 else 0.0
                losses[row] -= x[row, i] * (target[row, i] - step) - math.log1p(math.exp(-abs(x[row, i])))


@jit
def sigmoid_cross_entropy_backward(start, stop, x, target, used, scale, dx):
    """dx = scale (s(x) - t) where used, else 0."""
    for row in range(start, stop):
        for i in range(x.shape[1]):
            dx[row, i] = scale * (sigmoid(x[row, i]) - target[row, i]) if used[row, i] else 0


@jit
def squared_distance(start, stop, a, b, losses):
    """losses: the squared Euclidean distance of the rows of a and b."""
    for row in range(start, stop):
        total = 0.0
        for i in range(a.shape[1]):
            distance = np.float64(a[row, i]) - np.float64(b[row, i])
            total += distance * distance
        losses[row] = total


@jit
def squared_distance_backward(start, stop, a, b, scale, da):
    """da = scale (a - b)."""
    for row in range(start, stop):
        for i in range(a.shape[1]):
            da[row, i] = scale * (a[row, i] - b[row, i])
