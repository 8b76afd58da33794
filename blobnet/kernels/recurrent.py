"""The steps of recurrent layers, from the projection of their inputs on, and the LSTM cell.

Called by ``blobnet.layers.recurrent``. T steps of N streams; gates of the LSTM are stored (N, 4, H) in the order
input i, forget f, output o, candidate g.

A step needs the one before it, but no other stream. So a thread takes streams, through all steps without waiting
for anybody, and multiplies them by weights that were packed once for all steps: panels of ``product``'s innermost
loop, whose vectors run over the outputs.
"""

from typing import NamedTuple

import numpy as np

from blobnet import config
from blobnet.kernels import product, simd
from blobnet.kernels._jit import jit
from blobnet.kernels.exponential import sigmoid, tanh
from blobnet.kernels.parallel import parallel_for

_ONE = np.float32(1)

# Inputs of the weights that are multiplied at once: a panel of them stays in the first cache.
DEPTH = 256

# Streams that a thread takes at a time. Arrays of rows that are multiplied need as much slack after the last row.
STREAMS = product.MR


class Weights(NamedTuple):
    """w [M, K] for ``add_products``."""

    outputs: int  # M
    inputs: int  # K
    panel: int  # outputs of a panel; 0: w lies as it is, and the textbook's loops multiply
    lanes: int
    slice: int  # elements of the panels for DEPTH inputs
    packed: np.ndarray


def pack(w: np.ndarray, transposed: bool = False) -> Weights:
    """The weights [M, K], or [K, M] if transposed, for many products."""
    layout = product.matrix_layout(*w.shape, transposed=transposed)
    outputs, inputs, lanes = len(layout.outer), len(layout.inner), simd.lanes(w.dtype)
    if config.reference_kernels():
        plain = np.ascontiguousarray(w.T) if transposed else w
        return Weights(outputs, inputs, 0, lanes, 0, plain.reshape(-1))
    panel = product.NV * lanes
    rounded = -(-outputs // lanes) * lanes
    size = DEPTH * rounded + panel * lanes  # pack writes whole blocks of lanes, beyond the end
    slices = -(-inputs // DEPTH)
    weights = Weights(outputs, inputs, panel, lanes, size, np.empty(slices * size, w.dtype))
    parallel_for(pack_slices, slices, w.reshape(-1), layout, weights)
    return weights


@jit
def pack_slices(start, stop, w, layout, weights):
    for part in range(start, stop):
        k = part * DEPTH
        panels = weights.packed[part * weights.slice : (part + 1) * weights.slice]
        k_stop = min(k + DEPTH, weights.inputs)
        product.pack(w, layout, 0, 0, weights.outputs, k, k_stop, panels, weights.panel, weights.lanes, weights.lanes)


@jit
def add_products(first, last, x, i, weights, y, j):
    """y[n, m] += sum over k of w[m, k] x[n, k] for the rows n from first to last, with x from x[i], y from y[j] on.

    The order of the sums does not depend on the rows that are done together.
    """
    if weights.panel == 0:
        add_products_plainly(first, last, x, i, weights, y, j)
        return
    M, K, rows = weights.outputs, weights.inputs, product.MR
    tile = np.empty(rows * weights.panel, y.dtype)
    for k in range(0, K, DEPTH):
        depth = min(DEPTH, K - k)
        for m in range(0, M, weights.panel):
            width = min(weights.panel, -(-(M - m) // weights.lanes) * weights.lanes)
            vectors = width // weights.lanes
            panel = k // DEPTH * weights.slice + m * depth
            for n in range(first, last, rows):
                source, target = i + n * K + k, j + n * M + m
                if n + rows <= last and m + width <= M:
                    product.multiply_tile(
                        x, source, K, 1, weights.packed, panel, width, depth, y, target, M, True, vectors
                    )
                    continue
                product.multiply_tile(
                    x, source, K, 1, weights.packed, panel, width, depth, tile, 0, width, False, vectors
                )
                for row in range(min(rows, last - n)):
                    for column in range(min(width, M - m)):
                        y[target + row * M + column] += tile[row * width + column]


@jit
def add_products_plainly(first, last, x, i, weights, y, j):
    M, K = weights.outputs, weights.inputs
    for n in range(first, last):
        for m in range(M):
            total = y.dtype.type(0)
            for k in range(K):
                total += weights.packed[m * K + k] * x[i + n * K + k]
            y[j + n * M + m] += total


@jit
def start_step(start, stop, step, cont, h, kept, offset, weights, gates):
    """kept = cont h of the step before, gates += offset + W kept."""
    H = weights.inputs
    for n in range(start, stop):
        for d in range(H):
            kept[(step * h.shape[1] + n) * H + d] = cont[step, n] * h[step, n, d]
        row, shift = gates[step, n], offset[n]
        for m in range(len(row)):
            row[m] += shift[m]
    rows = step * h.shape[1]
    add_products(start, stop, kept, rows * H, weights, gates.reshape(-1), rows * weights.outputs)


@jit
def lstm_steps(start, stop, cont, offset, weights, h, kept, gates, c):
    """All steps of the streams start to stop; ``lstm_forward`` after each product.

    cont (T, N); offset (N, 4H), added to the gates of every step; weights [4H, H]
    h, c (T + 1, N, H): the initial states first, the others written
    kept (T N H and slack) written: cont times the h before
    gates (T, N, 4H): projections of the inputs; holds i, f, o, g afterwards
    """
    cells = gates.reshape(gates.shape[0], gates.shape[1], 4, h.shape[2])
    for step in range(len(gates)):
        start_step(start, stop, step, cont, h, kept, offset, weights, gates)
        lstm_forward(start, stop, cells[step], cont[step], c[step], c[step + 1], h[step + 1])


@jit
def rnn_steps(start, stop, cont, offset, weights, h, kept, sums):
    """Likewise for h = tanh(sums), sums (T, N, H), weights [H, H]."""
    for step in range(len(sums)):
        start_step(start, stop, step, cont, h, kept, offset, weights, sums)
        for n in range(start, stop):
            for d in range(h.shape[2]):
                h[step + 1, n, d] = tanh(sums[step, n, d])


@jit
def end_step(start, stop, step, cont, weights, gates_diff, h_diff):
    """h_diff = cont W^T gates_diff: what reaches the h before; ``weights``: those of W^T."""
    for n in range(start, stop):
        h_diff[n] = 0
    rows = step * h_diff.shape[0]
    add_products(start, stop, gates_diff, rows * weights.inputs, weights, h_diff.reshape(-1), 0)
    for n in range(start, stop):
        for d in range(h_diff.shape[1]):
            h_diff[n, d] *= cont[step, n]


@jit
def lstm_steps_backward(start, stop, cont, weights, gates, c, from_output, gates_diff, h_diff, c_diff):
    """Gradients of ``lstm_steps``, from the last step to the first.

    weights of W^T, [H, 4H]; gates as the forward pass left them; from_output (T, N, H) reaches h from outside
    gates_diff (T N 4H and slack) written: gradient before the activation
    h_diff, c_diff (N, H): the gradients that reach the last states from later; those of the first ones afterwards
    """
    T, N, H = from_output.shape
    cells = gates.reshape(T, N, 4, H)
    diffs = gates_diff[: T * N * 4 * H].reshape(T, N, 4, H)
    for step in range(T - 1, -1, -1):
        for n in range(start, stop):
            for d in range(H):
                h_diff[n, d] += from_output[step, n, d]
        lstm_backward(start, stop, cells[step], cont[step], c[step], c[step + 1], h_diff, c_diff, diffs[step])
        end_step(start, stop, step, cont, weights, gates_diff, h_diff)


@jit
def rnn_steps_backward(start, stop, cont, weights, h, from_output, sums_diff, h_diff):
    """Likewise for ``rnn_steps``: the gradient of a sum is that of h times 1 - h^2."""
    T, N, H = from_output.shape
    for step in range(T - 1, -1, -1):
        for n in range(start, stop):
            for d in range(H):
                slope = _ONE - h[step + 1, n, d] * h[step + 1, n, d]
                sums_diff[(step * N + n) * H + d] = (from_output[step, n, d] + h_diff[n, d]) * slope
        end_step(start, stop, step, cont, weights, sums_diff, h_diff)


@jit
def sum_rows(start, stop, rows, sums):
    """sums[m] += the sum of rows[:, m] in float64, for the columns start to stop."""
    totals = np.zeros(stop - start)
    for n in range(len(rows)):
        row = rows[n, start:stop]
        for m in range(len(row)):
            totals[m] += row[m]
    for m in range(stop - start):
        sums[start + m] += totals[m]


@jit
def lstm_forward(start, stop, gates, cont, c_prev, c, h):
    """c = cont * f * c_prev + i * g and h = o * tanh(c), for the streams start to stop.

    gates   (N, 4, H) before their activation; holds i, f, o, g afterwards
    cont    (N,) what is kept of the previous step
    c_prev  (N, H); c, h likewise, written
    """
    for n in range(start, stop):
        for d in range(h.shape[1]):
            i = sigmoid(gates[n, 0, d])
            f = sigmoid(gates[n, 1, d])
            o = sigmoid(gates[n, 2, d])
            g = tanh(gates[n, 3, d])
            gates[n, 0, d] = i
            gates[n, 1, d] = f
            gates[n, 2, d] = o
            gates[n, 3, d] = g
            c[n, d] = cont[n] * f * c_prev[n, d] + i * g
            h[n, d] = o * tanh(c[n, d])


@jit
def lstm_backward(start, stop, gates, cont, c_prev, c, h_diff, c_diff, gates_diff):
    """Gradients of ``lstm_forward`` for the streams start to stop.

    gates       (N, 4, H) as the forward pass left them
    h_diff      (N, H) gradient of h
    c_diff      (N, H) gradient that reaches c from later steps; holds that of c_prev afterwards
    gates_diff  (N, 4, H) written: gradient before the activation

    The slope of F = cont f is taken as F (1 - F): exact where cont is 0 or 1.
    """
    for n in range(start, stop):
        for d in range(h_diff.shape[1]):
            i = gates[n, 0, d]
            f = cont[n] * gates[n, 1, d]
            o = gates[n, 2, d]
            g = gates[n, 3, d]
            squashed = tanh(c[n, d])
            diff = c_diff[n, d] + h_diff[n, d] * o * (_ONE - squashed * squashed)
            gates_diff[n, 0, d] = diff * g * i * (_ONE - i)
            gates_diff[n, 1, d] = diff * c_prev[n, d] * f * (_ONE - f)
            gates_diff[n, 2, d] = h_diff[n, d] * squashed * o * (_ONE - o)
            gates_diff[n, 3, d] = diff * i * (_ONE - g * g)
            c_diff[n, d] = diff * f
