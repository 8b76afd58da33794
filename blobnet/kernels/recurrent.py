"""The steps of recurrent layers, from the projection of their inputs on, and the LSTM cell.

Called by ``blobnet.layers.recurrent``. T steps of N streams; gates of the LSTM are stored (N, 4, H) in the order
input i, forget f, output o, candidate g.

A step needs the one before it, but no other stream. So a thread takes streams, through all steps without waiting
for anybody, and multiplies them by weights that were packed once for all steps: panels of ``product``'s innermost
loop, whose vectors run over the outputs. The streams' rows are read where they lie.
"""

from typing import NamedTuple

import numpy as np

from blobnet import config
from blobnet.kernels import product, simd
from blobnet.kernels._jit import jit
from blobnet.kernels.exponential import sigmoid, tanh
from blobnet.kernels.parallel import parallel_for
from blobnet.kernels.workspace import aligned

_ONE = np.float32(1)

# Inputs of the weights that are multiplied at once: a panel of them stays in the first cache.
DEPTH = 256

# Panels of a slice that are multiplied one after the other for each tile of rows: they stay in the second cache.
PANELS = 10

# Rows that are multiplied at a time: streams that a thread takes, and rows of ``multiply_rows`` between two slices.
STREAMS = product.MR
ROWS = 32 * STREAMS

# Steps whose inputs are projected at a time, so that the weights of the inputs come to the second cache once for all.
AHEAD = 16


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
    weights = Weights(outputs, inputs, panel, lanes, size, aligned(slices * size, w.dtype))
    parallel_for(pack_slices, slices, w.reshape(-1), layout, weights)
    return weights


@jit
def pack_slices(start, stop, w, layout: product.Layout, weights: Weights):
    for part in range(start, stop):
        k = part * DEPTH
        panels = weights.packed[part * weights.slice : (part + 1) * weights.slice]
        k_stop = min(k + DEPTH, weights.inputs)
        product.pack(w, layout, 0, 0, weights.outputs, k, k_stop, panels, weights.panel, weights.lanes, weights.lanes)


@jit
def add_products(steps, streams, rows, x, i, weights, y, j):
    """y[t, n, m] += sum over k of w[m, k] x[t, n, k] for so many steps t and rows n, with x from x[i], y from y[j] on.

    Steps are ``streams`` rows apart. The order of the sums does not depend on the rows that are done together.
    """
    M, K = weights.outputs, weights.inputs
    if weights.panel == 0:
        for t in range(steps):
            for n in range(t * streams, t * streams + rows):
                for m in range(M):
                    for k in range(K):
                        y[j + n * M + m] += weights.packed[m * K + k] * x[i + n * K + k]
        return
    for k in range(0, K, DEPTH):
        add_slice(steps, streams, rows, x, i + k, K, k, weights, y, j)


@jit
def add_slice(steps, streams, rows, x, i, x_row, k, weights, y, j):
    """What the slice of the weights from k on adds to y, from rows of x that are x_row apart."""
    M, width = weights.outputs, weights.panel
    tile = np.empty(product.MR * width, y.dtype)
    for first in range(0, M, PANELS * width):
        last = min(first + PANELS * width, M)
        for t in range(steps):
            for n in range(t * streams, t * streams + rows, product.MR):
                count = min(product.MR, t * streams + rows - n)
                add_tiles(first, last, count, x, i + n * x_row, x_row, k, weights, y, j + n * M, tile)


@jit
def add_tiles(first, last, rows, x, i, x_row, k, weights, y, j, tile):
    """``add_slice`` for a tile of rows and the outputs from first to last."""
    M, MR, width = weights.outputs, product.MR, weights.panel
    depth = min(DEPTH, weights.inputs - k)
    for m in range(first, last, width):
        columns = min(width, M - m)
        vectors = -(-columns // weights.lanes)
        w, step = k // DEPTH * weights.slice + m * depth, vectors * weights.lanes
        if rows == MR and columns == step:
            product.multiply_tile(x, i, x_row, 1, weights.packed, w, step, depth, y, j + m, M, True, vectors)
        elif rows == MR:
            product.multiply_tile(x, i, x_row, 1, weights.packed, w, step, depth, tile, 0, step, False, vectors)
            for row in range(MR):
                add_row(tile, row * step, y, j + row * M + m, columns)
        else:  # too few for a tile: one by one, each in all rows of the tile
            for row in range(rows):
                source = i + row * x_row
                product.multiply_tile(x, source, 0, 1, weights.packed, w, step, depth, tile, 0, step, False, vectors)
                add_row(tile, 0, y, j + row * M + m, columns)


@jit
def add_row(x, i, y, j, count):
    for column in range(count):
        y[j + column] += x[i + column]


@jit
def multiply_rows(start, stop, x, weights: Weights, y):
    """y[n] = W x[n] for the rows start to stop."""
    for first in range(start, stop, ROWS):
        last = min(first + ROWS, stop)
        y[first:last] = 0
        add_products(1, 0, last - first, x.reshape(-1), first * x.shape[1], weights, y.reshape(-1), first * y.shape[1])


@jit
def add_outer_products(start, stop, x, weights: Weights, y):
    """y[m] += sum over k of x[k, m] w[:, k] for the rows m from start to stop: a gradient of weights.

    x [K, rows]; a block of it is transposed at a time.
    """
    K, M, lanes = weights.inputs, weights.outputs, weights.lanes
    if weights.panel == 0:
        for m in range(start, stop):
            for d in range(M):
                for k in range(K):
                    y[m, d] += weights.packed[d * K + k] * x[k, m]
        return
    block, starts = np.empty(ROWS * DEPTH, x.dtype), np.empty(lanes, np.int64)
    for first in range(start, stop, ROWS):
        last = min(first + ROWS, stop)
        for k in range(0, K, DEPTH):
            for row in range(k, min(k + DEPTH, K), lanes):
                for r in range(lanes):
                    starts[r] = min(row + r, K - 1) * x.shape[1]
                for m in range(first, last, lanes):
                    place = (m - first) * DEPTH + row - k
                    _transpose(block, place, DEPTH, x.reshape(-1), m, starts, min(lanes, last - m))
            add_slice(1, 0, last - first, block, 0, DEPTH, k, weights, y.reshape(-1), first * M)


_transpose = simd.transposing_copy(simd.VECTOR_BYTES)


@jit
def start_step(start, stop, step, x, cont, offset, input_w, h_w, h, kept, gates):
    """kept = cont h of the step before, gates = offset + W_x x + W_h kept, of which W_x x for AHEAD steps at a time."""
    T, N = cont.shape
    sums = gates.reshape(-1)
    if step % AHEAD == 0:
        steps = min(AHEAD, T - step)
        for t in range(step, step + steps):
            gates[t, start:stop] = offset[start:stop]
        row = step * N + start
        add_products(steps, N, stop - start, x.reshape(-1), row * input_w.inputs, input_w, sums, row * input_w.outputs)
    for n in range(start, stop):
        for d in range(h.shape[2]):
            kept[step, n, d] = cont[step, n] * h[step, n, d]
    row = step * N + start
    add_products(1, N, stop - start, kept.reshape(-1), row * h_w.inputs, h_w, sums, row * h_w.outputs)


@jit
def lstm_steps(start, stop, x, cont, offset, input_w: Weights, h_w: Weights, h, kept, gates, c):
    """All steps of the streams start to stop: gates = offset + W_x x + W_h kept, then ``lstm_forward``.

    x (T, N, D), cont (T, N); offset (N, 4H); input_w: W_x [4H, D]; h_w: W_h [4H, H]
    h, c (T + 1, N, H): the initial states first, the others written
    kept (T, N, H) written: cont times the h before
    gates (T, N, 4H) written: i, f, o, g
    """
    cells = gates.reshape(gates.shape[0], gates.shape[1], 4, h.shape[2])
    for step in range(len(gates)):
        start_step(start, stop, step, x, cont, offset, input_w, h_w, h, kept, gates)
        lstm_forward(start, stop, cells[step], cont[step], c[step], c[step + 1], h[step + 1])


@jit
def rnn_steps(start, stop, x, cont, offset, input_w: Weights, h_w: Weights, h, kept, sums):
    """Likewise for h = tanh(sums), sums (T, N, H)."""
    for step in range(len(sums)):
        start_step(start, stop, step, x, cont, offset, input_w, h_w, h, kept, sums)
        for n in range(start, stop):
            for d in range(h.shape[2]):
                h[step + 1, n, d] = tanh(sums[step, n, d])


@jit
def end_step(start, stop, step, cont, weights, gates_diff, h_diff):
    """h_diff = cont W_h^T gates_diff: what reaches the h before."""
    for n in range(start, stop):
        h_diff[n] = 0
    N, H = h_diff.shape
    row = (step * N + start) * weights.inputs
    add_products(1, N, stop - start, gates_diff.reshape(-1), row, weights, h_diff.reshape(-1), start * H)
    for n in range(start, stop):
        for d in range(h_diff.shape[1]):
            h_diff[n, d] *= cont[step, n]


@jit
def lstm_steps_backward(start, stop, cont, weights: Weights, gates, c, from_output, gates_diff, h_diff, c_diff):
    """Gradients of ``lstm_steps``, from the last step to the first.

    weights of W_h^T, [H, 4H]; gates as the forward pass left them; from_output (T, N, H) reaches h from outside
    gates_diff (T, N, 4H) written: gradient before the activation
    h_diff, c_diff (N, H): the gradients that reach the last states from later; those of the first ones afterwards
    """
    T, N, H = from_output.shape
    cells, diffs = gates.reshape(T, N, 4, H), gates_diff.reshape(T, N, 4, H)
    for step in range(T - 1, -1, -1):
        for n in range(start, stop):
            for d in range(H):
                h_diff[n, d] += from_output[step, n, d]
        lstm_backward(start, stop, cells[step], cont[step], c[step], c[step + 1], h_diff, c_diff, diffs[step])
        end_step(start, stop, step, cont, weights, gates_diff, h_diff)


@jit
def rnn_steps_backward(start, stop, cont, weights: Weights, h, from_output, sums_diff, h_diff):
    """Likewise for ``rnn_steps``: the gradient of a sum is that of h times 1 - h^2."""
    for step in range(len(from_output) - 1, -1, -1):
        for n in range(start, stop):
            for d in range(h.shape[2]):
                slope = _ONE - h[step + 1, n, d] * h[step + 1, n, d]
                sums_diff[step, n, d] = (from_output[step, n, d] + h_diff[n, d]) * slope
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
