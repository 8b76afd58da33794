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
from blobnet.kernels import packing, product, simd, stack
from blobnet.kernels._jit import FASTMATH, jit
from blobnet.kernels.exponential import sigmoid, tanh
from blobnet.kernels.instructions import MOST_LANES
from blobnet.kernels.parallel import parallel_for, scratch
from blobnet.kernels.tiles import RECURRENT_AHEAD, RECURRENT_DEPTH, RECURRENT_PANELS, RECURRENT_ROWS, RECURRENT_STEPS
from blobnet.kernels.workspace import CACHE_LINE, work_array

_ONE = np.float32(1)
_TILE = product.MR * product.NV * MOST_LANES

# Cells are computed in the order they are written in. Left to the compiler, that of machine code which has just been
# compiled was not always that of code which is loaded.
_IN_ORDER = FASTMATH - {"reassoc"}

# Streams that are multiplied at a time.
STREAMS = product.MR

# Elements of weights that are worth a thread's while to pack.
PACKED_BY_A_THREAD = 1 << 14

# Multiplications that are worth a thread's while.
PRODUCTS_OF_A_THREAD = 1 << 19


class Weights(NamedTuple):
    """w [M, K] for ``multiply``."""

    outputs: int  # M
    inputs: int  # K
    panel: int  # outputs of a panel; 0: w lies as it is, and the textbook's loops multiply
    pairs: int  # the output from which on panels are of two vectors: one vector alone would take twice its time
    lanes: int
    slice: int  # elements of the panels for RECURRENT_DEPTH inputs
    packed: np.ndarray


def pack(w: np.ndarray, use: str, transposed: bool = False) -> Weights:
    """The weights [M, K], or [K, M] if transposed, for many products, until others are packed for the same use."""
    layout = product.matrix_layout(*w.shape, transposed=transposed)
    outputs, inputs, lanes = len(layout.outer), len(layout.inner), simd.lanes(w.dtype)
    if config.reference_kernels():
        plain = np.ascontiguousarray(w.T) if transposed else w
        return Weights(outputs, inputs, 0, 0, lanes, 0, plain.reshape(-1))
    panel = product.NV * lanes
    vectors = -(-outputs // lanes)
    pairs = (vectors - 4) * lanes if vectors > 1 and vectors % product.NV == 1 else outputs
    slices, size = -(-inputs // RECURRENT_DEPTH), RECURRENT_DEPTH * vectors * lanes
    weights = Weights(outputs, inputs, panel, pairs, lanes, size, work_array(use, (slices * size,), w.dtype))
    panels = -(-pairs // panel) + -(-(outputs - pairs) // (2 * lanes))
    grain = -(-PACKED_BY_A_THREAD // (panel * max(1, min(RECURRENT_DEPTH, inputs))))
    parallel_for(pack_panels, slices * panels, w.reshape(-1), layout, weights, panels, grain=grain)
    return weights


@jit
def pack_panels(start, stop, w, layout: product.Layout, weights: Weights, panels):
    """Pack the panels start to stop of all slices, of which each has so many."""
    lanes = weights.lanes
    for item in range(start, stop):
        k, m, width = item // panels * RECURRENT_DEPTH, item % panels * weights.panel, weights.panel
        if m >= weights.pairs and weights.pairs < weights.outputs:
            m, width = weights.pairs + (item % panels - weights.pairs // width) * 2 * lanes, 2 * lanes
        m_stop, k_stop = min(m + width, weights.outputs), min(k + RECURRENT_DEPTH, weights.inputs)
        target = weights.packed[k // RECURRENT_DEPTH * weights.slice + m * height(weights, k) :]
        packing.pack(w, layout, 0, m, m_stop, k, k_stop, target, width, lanes, lanes)


@jit
def height(weights, k):
    """Rows that a panel of the slice from k on has room for: whole blocks of lanes, which ``packing.pack`` writes."""
    return -(-min(RECURRENT_DEPTH, weights.inputs - k) // weights.lanes) * weights.lanes


def multiply_all(x: np.ndarray, weights: Weights, y: np.ndarray) -> None:
    """y[n, m] = sum over k of w[m, k] x[n, k], for matrices x and y."""
    grain = -(-PRODUCTS_OF_A_THREAD // (weights.outputs * weights.inputs * STREAMS)) * STREAMS
    parallel_for(multiply_rows, len(x), x.reshape(-1), weights, y.reshape(-1), grain=grain)


@jit
def multiply_rows(start, stop, x, weights: Weights, y):
    """``multiply_all`` for the rows start to stop."""
    for n in range(start, stop, RECURRENT_ROWS):
        rows, i, j = min(RECURRENT_ROWS, stop - n), n * weights.inputs, n * weights.outputs
        multiply(1, rows, rows, x, i, weights, y, j, False, False, _NOTHING)


@jit
def multiply(steps, streams, rows, x, i, weights, y, j, accumulate, backwards, pieces):
    """y[t, n, m] (+)= sum over k of w[m, k] x[t, n, k] for so many steps t and rows n, from x[i] and y[j] on.

    Steps are ``streams`` rows apart. Meanwhile the pieces of memory that ``pieces_of`` lists come to the second cache.
    The order of the sums does not depend on the rows that are done together.
    Products with the same weights that go forwards and backwards in turn find in the second cache what the one before
    has read last: with 512 cells, whose 4 MB come from the third, the steps of 32 streams take 4 % less.
    """
    M, K = weights.outputs, weights.inputs
    if weights.panel == 0:
        for t in range(steps):
            for n in range(t * streams, t * streams + rows):
                for m in range(M):
                    if not accumulate:
                        y[j + n * M + m] = 0
                    for k in range(K):
                        y[j + n * M + m] += weights.packed[m * K + k] * x[i + n * K + k]
        return
    slices = -(-K // RECURRENT_DEPTH)
    for number in range(slices):
        k = (slices - 1 - number if backwards else number) * RECURRENT_DEPTH
        fetched = pieces if number + 1 == slices else pieces[:0]
        multiply_slice(steps, streams, rows, x, i + k, k, weights, y, j, accumulate or number > 0, backwards, fetched)


@jit
def multiply_slice(steps, streams, rows, x, i, k, weights, y, j, accumulate, backwards, pieces):
    """What the slice of the weights from k on gives, or adds to y."""
    M, K = weights.outputs, weights.inputs
    tile = stack.empty(_TILE, y.dtype)
    group = RECURRENT_PANELS * weights.panel
    groups = max(1, -(-weights.pairs // group))
    for number in range(groups):
        first = (groups - 1 - number if backwards else number) * group
        last = M if first + group >= weights.pairs else first + group
        distance = height(weights, k) * (-group if backwards else group) if number + 1 < groups else 0
        tiles = 0
        for t in range(steps):
            for n in range(t * streams, t * streams + rows, product.MR):
                count = min(product.MR, t * streams + rows - n)
                later = distance + tiles * weights.lanes if distance and tiles < product.NV else 0
                part = pieces[(number * -(-rows // product.MR) + tiles) * RECURRENT_PANELS :]
                tiles += 1
                multiply_panels(
                    first, last, count, x, i + n * K, k, weights, y, j + n * M, accumulate, tile, later, part
                )


@jit
def multiply_panels(first, last, rows, x, i, k, weights, y, j, accumulate, tile, later, pieces):
    """``multiply_slice`` for a tile of rows and the outputs from first to last.

    Meanwhile a vector of each row of the weights ``later`` elements on comes to the second cache; with 0, it is there.
    With each panel comes one of the pieces.
    """
    M, K, MR = weights.outputs, weights.inputs, product.MR
    depth, start, panel_rows = min(RECURRENT_DEPTH, K - k), k // RECURRENT_DEPTH * weights.slice, height(weights, k)
    m_next = first
    while m_next < last:
        m = m_next
        m_next = m + (weights.panel if m < weights.pairs else 2 * weights.lanes)
        columns = min(m_next, M) - m
        vectors = -(-columns // weights.lanes)
        w, step = start + m * panel_rows, vectors * weights.lanes
        if rows == MR and columns == step:
            if vectors == product.NV:
                number = (m - first) // weights.panel
                piece, line = (pieces[number], CACHE_LINE) if number < len(pieces) else (weights.packed.ctypes.data, 0)
                _multiply_whole(
                    x, i, K, 1, weights.packed, w, step, depth, y, j + m, M, accumulate,
                    weights.packed, w + later, step, piece, line,
                )  # fmt: skip
            else:
                product.multiply_tile(x, i, K, 1, weights.packed, w, step, depth, y, j + m, M, accumulate, vectors)
            continue
        together, distance = (MR, K) if rows == MR else (1, 0)  # too few for a tile: one by one, in all its rows
        for n in range(0, rows, together):
            source, place = i + n * K, j + n * M + m
            copy_rows(y, place, M, tile, 0, step, together, columns)
            product.multiply_tile(
                x, source, distance, 1, weights.packed, w, step, depth, tile, 0, step, accumulate, vectors
            )
            copy_rows(tile, 0, step, y, place, M, together, columns)


_multiply_whole = simd.tile_product(product.NV, fetches=True, ahead=RECURRENT_AHEAD, elsewhere=True)

_NOTHING = np.empty(0, np.int64)


def room_for_pieces(streams: int, cells: int, dtype: np.dtype) -> np.ndarray:
    """A work array for ``pieces_of`` the rows of a step: of at most four matrices, with ten times as many columns."""
    return scratch(4 + streams * 10 * cells * dtype.itemsize // _piece(cells), np.int64)


@jit
def _piece(inputs):
    """Bytes that can come while a panel is multiplied."""
    return min(RECURRENT_DEPTH, inputs) * CACHE_LINE


@jit
def pieces_of(matrices, row, rows, weights, pieces):
    """Rows of matrices, from ``row`` on, as addresses of pieces, of which one can come while a panel is multiplied.

    Returns how many there are.
    """
    size, count = _piece(weights.inputs), 0
    for matrix in matrices:
        width = matrix.shape[1] * matrix.itemsize
        start = matrix.ctypes.data + row * width
        for piece in range(start, start + rows * width, size):
            pieces[count] = piece
            count += 1
    return count


@jit
def copy_rows(source, i, i_row, target, j, j_row, rows, columns):
    for row in range(rows):
        for column in range(columns):
            target[j + row * j_row + column] = source[i + row * i_row + column]


@jit
def copy_streams(start, stop, source, target):
    """The states (N, H) of the streams start to stop."""
    cells = target.shape[1]
    first, rows = start * cells, stop - start
    copy_rows(source.reshape(-1), first, cells, target.reshape(-1), first, cells, rows, cells)


@jit
def start_step(start, stop, step, x, cont, input_w, h_w, kept, gates, h, h_before, read, pieces):
    """gates = W_x x + W_h kept, of which W_x x for RECURRENT_STEPS steps at a time; kept = cont h of the step before.

    Meanwhile the next step's rows of the matrices ``read`` [T N, ...] come to the second cache.
    """
    T, N, M = gates.shape
    sums, row = gates.reshape(-1), step * N + start
    if step % RECURRENT_STEPS == 0:
        steps, i = min(RECURRENT_STEPS, T - step), row * input_w.inputs
        multiply(steps, N, stop - start, x.reshape(-1), i, input_w, sums, row * M, False, False, _NOTHING)
    known = h[step - 1] if step > 0 else h_before
    for n in range(start, stop):
        for d in range(h.shape[2]):
            kept[step, n, d] = cont[step, n] * known[n, d]
    i, backwards = row * h_w.inputs, step % 2 == 1
    later = pieces_of(read, row + N, stop - start if step + 1 < T else 0, h_w, pieces)
    multiply(1, N, stop - start, kept.reshape(-1), i, h_w, sums, row * M, True, backwards, pieces[:later])


@jit
def lstm_steps(
    start, stop, x, cont, offset, input_w: Weights, h_w: Weights, kept, gates, h, c,
    h_before, c_before, h_after, c_after, pieces,
):  # fmt: skip
    """All steps of the streams start to stop: gates = offset + W_x x + W_h kept, then ``lstm_forward``.

    x [T N, D], cont (T, N); offset (N, 4H); input_w: W_x [4H, D]; h_w: W_h [4H, H]
    kept (T, N, H) written: cont times the h before
    gates (T, N, 4H) written: i, f, o, g
    h (T, N, H) written
    c (T + 1, N, H) written, the initial c first
    h_before, c_before, h_after, c_after (N, H): the initial states, and the last ones, written, perhaps over these
    pieces: ``room_for_pieces``
    """
    simd.prefer_widest_vectors()
    T, N, H = h.shape
    cells, offsets = gates.reshape(T, N, 4, H), offset.reshape(N, 4, H)
    copy_streams(start, stop, c_before, c[0])
    read = gates.reshape(T * N, 4 * H), kept.reshape(T * N, H), c.reshape((T + 1) * N, H)
    for step in range(T):
        start_step(start, stop, step, x, cont, input_w, h_w, kept, gates, h, h_before, read, pieces)
        lstm_forward(start, stop, offsets, cells[step], cont[step], c[step], c[step + 1], h[step])
    copy_streams(start, stop, h[T - 1], h_after)
    copy_streams(start, stop, c[T], c_after)


@jit
def rnn_steps(start, stop, x, cont, offset, input_w: Weights, h_w: Weights, kept, sums, h, h_before, h_after, pieces):
    """Likewise for h = tanh(sums), sums (T, N, H)."""
    T, N, H = h.shape
    read = sums.reshape(T * N, H), kept.reshape(T * N, H), h.reshape(T * N, H)
    for step in range(T):
        start_step(start, stop, step, x, cont, input_w, h_w, kept, sums, h, h_before, read, pieces)
        for n in range(start, stop):
            for d in range(h.shape[2]):
                sums[step, n, d] += offset[n, d]
                h[step, n, d] = tanh(sums[step, n, d])
    copy_streams(start, stop, h[T - 1], h_after)


@jit
def end_step(start, stop, step, h_w, gates_diff, h_diff, read, pieces):
    """h_diff = W_h^T gates_diff: what reaches the h before, but for cont; rows come as in ``start_step``."""
    N, M = gates_diff.shape[1:]
    diffs, row = gates_diff.reshape(-1), step * N + start
    if step > 0:
        y, j = h_diff.reshape(-1), start * h_w.outputs
        later = pieces_of(read, row - N, stop - start, h_w, pieces)
        multiply(1, N, stop - start, diffs, row * M, h_w, y, j, False, step % 2 == 1, pieces[:later])


@jit
def lstm_steps_backward(start, stop, cont, h_w: Weights, from_output, gates_diff, h_diff, gates, c, c_diff, pieces):
    """Gradients of ``lstm_steps``, from the last step to the first.

    h_w: W_h^T [H, 4H]
    from_output (T, N, H) reaches h from outside
    gates_diff (T, N, 4H) written: gradient before the activation
    gates, c as the forward pass left them
    h_diff, c_diff (N, H) written: the gradients that reach the states before, none the last ones
    """
    simd.prefer_widest_vectors()
    T, N, H = from_output.shape
    cells, diffs = gates.reshape(T, N, 4, H), gates_diff.reshape(T, N, 4, H)
    h_diff[start:stop] = c_diff[start:stop] = 0
    of_gates = gates.reshape(T * N, 4 * H), gates_diff.reshape(T * N, 4 * H)
    read = *of_gates, from_output.reshape(T * N, H), c.reshape((T + 1) * N, H)
    for step in range(T - 1, -1, -1):
        for n in range(start, stop):
            share = cont[step + 1, n] if step + 1 < T else _ONE
            for d in range(H):
                h_diff[n, d] = share * h_diff[n, d] + from_output[step, n, d]
        lstm_backward(start, stop, cells[step], cont[step], c[step], c[step + 1], h_diff, c_diff, diffs[step])
        end_step(start, stop, step, h_w, gates_diff, h_diff, read, pieces)


@jit
def rnn_steps_backward(start, stop, cont, h_w: Weights, from_output, sums_diff, h_diff, h, pieces):
    """Likewise for ``rnn_steps``: the gradient of a sum is that of h times 1 - h^2."""
    T, N, H = h.shape
    read = h.reshape(T * N, H), sums_diff.reshape(T * N, H), from_output.reshape(T * N, H)
    h_diff[start:stop] = 0
    for step in range(T - 1, -1, -1):
        for n in range(start, stop):
            share = cont[step + 1, n] if step + 1 < T else _ONE
            for d in range(h.shape[2]):
                slope = _ONE - h[step, n, d] * h[step, n, d]
                sums_diff[step, n, d] = (share * h_diff[n, d] + from_output[step, n, d]) * slope
        end_step(start, stop, step, h_w, sums_diff, h_diff, read, pieces)


@jit(fastmath=_IN_ORDER)
def lstm_forward(start, stop, offset, gates, cont, c_prev, c, h):
    """c = cont * f * c_prev + i * g and h = o * tanh(c), for the streams start to stop.

    offset  (N, 4, H) is added to the gates
    gates   (N, 4, H) before their activation; holds i, f, o, g afterwards
    cont    (N,) what is kept of the previous step
    c_prev  (N, H); c, h likewise, written

    A loop over a row writes one gate only, and reads no other where it does: the compiler compares what gates span in
    all streams, which overlaps, and would take element by element.
    """
    simd.prefer_widest_vectors()
    for n in range(start, stop):
        for gate in range(3):
            for d in range(h.shape[1]):
                gates[n, gate, d] = sigmoid(gates[n, gate, d] + offset[n, gate, d])
        for d in range(h.shape[1]):
            gates[n, 3, d] = tanh(gates[n, 3, d] + offset[n, 3, d])
        for d in range(h.shape[1]):
            c[n, d] = cont[n] * gates[n, 1, d] * c_prev[n, d] + gates[n, 0, d] * gates[n, 3, d]
        for d in range(h.shape[1]):
            h[n, d] = gates[n, 2, d] * tanh(c[n, d])


@jit(fastmath=_IN_ORDER)
def lstm_backward(start, stop, gates, cont, c_prev, c, h_diff, c_diff, gates_diff):
    """Gradients of ``lstm_forward`` for the streams start to stop.

    gates       (N, 4, H) as the forward pass left them
    h_diff      (N, H) gradient of h
    c_diff      (N, H) gradient that reaches c from later steps; holds that of c_prev afterwards
    gates_diff  (N, 4, H) written: gradient before the activation

    The slope of F = cont f is taken as F (1 - F): exact where cont is 0 or 1.
    What the next stream reads and writes most of is fetched meanwhile.
    """
    simd.prefer_widest_vectors()
    row = 4 * h_diff.shape[1]
    for n in range(start, stop):
        simd.fetch_to_write(gates, (n + 1) * row, row)
        simd.fetch_to_write(gates_diff, (n + 1) * row, row)
        for d in range(h_diff.shape[1]):
            o, squashed = gates[n, 2, d], tanh(c[n, d])
            gates_diff[n, 2, d] = h_diff[n, d] * squashed * o * (_ONE - o)
            c_diff[n, d] += h_diff[n, d] * o * (_ONE - squashed * squashed)
        for d in range(h_diff.shape[1]):
            i = gates[n, 0, d]
            gates_diff[n, 0, d] = c_diff[n, d] * gates[n, 3, d] * i * (_ONE - i)
        for d in range(h_diff.shape[1]):
            g = gates[n, 3, d]
            gates_diff[n, 3, d] = c_diff[n, d] * gates[n, 0, d] * (_ONE - g * g)
        for d in range(h_diff.shape[1]):
            f = cont[n] * gates[n, 1, d]
            gates_diff[n, 1, d] = c_diff[n, d] * c_prev[n, d] * f * (_ONE - f)
            c_diff[n, d] *= f
