"""Loops of the losses, called by layers.loss and layers.label_loss. Forward kernels write float64 for each row."""

import math

import numpy as np

from blobnet.kernels._jit import jit
from blobnet.kernels.exponential import sigmoid
from blobnet.kernels.rows import at, loop
from blobnet.kernels.softmax import forward_rows

SMALLEST = float(np.finfo(np.float32).tiny)  # probabilities below it count as it


@jit
def softmax_loss(start, stop, probability, labels, ignored, classes, parts):
    """The loss of the probabilities (outer, C, inner) of labels (outer, inner); raises at a label that is no class.

    classes  the labels, their fractions cut off, -1 for those that are ignored
    parts    for each row, the sum of -log of the probabilities of its other labels, and how many these are
    """
    for item in range(start, stop):
        loss, used = 0.0, 0
        for i in range(labels.shape[1]):
            label = np.trunc(labels[item, i])
            classes[item, i] = -1
            if label != ignored:
                if not 0 <= label < probability.shape[1]:
                    raise IndexError
                classes[item, i] = label
                value = probability[item, classes[item, i], i]
                loss -= math.log(SMALLEST if value < SMALLEST else value)
                used += 1
        parts[item, 0], parts[item, 1] = loss, used


@jit
def softmax_and_loss(start, stop, x, probability, labels, ignored, classes, parts):
    """``softmax.forward_rows`` of the scores x (items, C), and ``softmax_loss`` of the probabilities."""
    forward_rows(start, stop, x, probability)
    softmax_loss(start, stop, probability.reshape(*probability.shape, 1), labels, ignored, classes, parts)


@jit
def add_parts(start, stop, parts, divisor, scale, loss):
    """scale[0] = 1 / divisor, or where that is 0 by all that the parts count;  loss[0] = scale[0] times all losses."""
    total, used = 0.0, 0.0
    for item in range(len(parts)):
        total += parts[item, 0]
        used += parts[item, 1]
    scale[0] = 1 / (divisor or max(1, used))
    loss[0] = total * scale[0]


@jit
def softmax_loss_backward(start, stop, probability, classes, scale, weight, dx):
    """dx = scale weight (probability - 1 at the class); 0 where that is negative."""
    _, count, inner = dx.shape
    rate = dx.dtype.type(scale[0] * weight[0])
    flat, dx_flat = probability.reshape(-1), dx.reshape(-1)
    for item in range(start, stop):
        first = item * count * inner
        if inner == 1 and classes[item, 0] >= 0:
            _scale_row(count, (rate,), (at(flat, first),), (at(dx_flat, first),), None)
        else:
            for c in range(count):
                for i in range(inner):
                    place = first + c * inner + i
                    dx_flat[place] = rate * flat[place] if classes[item, i] >= 0 else 0
        for i in range(inner):
            if classes[item, i] >= 0:
                dx[item, classes[item, i], i] -= rate


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
