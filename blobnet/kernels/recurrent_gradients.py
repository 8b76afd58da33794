"""Gradients of the weights and biases of recurrent layers: sums over all steps of all streams.

A sum has as many terms as there are rows of what a weight has met, and of the gradients of its outputs. Blocks of
outputs are independent work items. For each slice of the rows, vectors of outputs are copied to a panel that stays in
the first cache, and multiplied by single elements of all that was met, read where they lie. What comes of it, sums with
the outputs side by side, stays in the second cache, and is transposed at the end.
"""

from collections.abc import Sequence

import numpy as np

from blobnet import config
from blobnet.kernels import gemm, parallel, product, simd, stack
from blobnet.kernels._jit import FASTMATH, jit
from blobnet.kernels.instructions import MOST_LANES
from blobnet.kernels.tiles import GRADIENT_AHEAD, GRADIENT_DEPTH, GRADIENT_ROWS, GRADIENT_VECTORS
from blobnet.kernels.workspace import CACHE_LINE

_TOTALS = GRADIENT_VECTORS * MOST_LANES


def add_gradients(
    diff: np.ndarray,
    products: Sequence[tuple[np.ndarray, np.ndarray, bool]],
    bias_gradient: np.ndarray | None,
    bias_grows: bool,
) -> None:
    """From the gradients of outputs, diff [K, M], those of up to two weights and of a bias.

    products       what a weight has met [K, D], its gradient [M, D], and whether that grows, or is written:
                   gradient[m] (+)= sum over k of diff[k, m] met[k]
    bias_gradient  [M], or None: bias_gradient[m] (+)= sum over k of diff[k, m], taken in float64
    """
    if config.reference_kernels():
        for met, gradient, grows in products:
            gemm.gemm(diff, met, gradient, transpose_a=True, beta=int(grows))
        if bias_gradient is not None:
            bias_gradient[...] = diff.sum(axis=0, dtype=float) + (bias_gradient if bias_grows else 0)
        return
    outputs, lanes = diff.shape[1], simd.lanes(diff.dtype)
    nothing = diff[:, :0], np.empty((outputs, 0), diff.dtype), False
    arrays, rows = [], 0
    for met, gradient, grows in (*products, nothing, nothing)[:2]:
        arrays += [met, gradient, grows]
        rows += _whole(met.shape[1], diff.itemsize)
    size = (product.NV * lanes + _width(diff.itemsize)) * GRADIENT_DEPTH + rows * _row(diff.itemsize)
    scratch = parallel.scratch(size, diff.dtype)
    bias = np.empty(outputs, diff.dtype) if bias_gradient is None else bias_gradient
    parallel.parallel_for(add_blocks, outputs, diff, *arrays, bias, bias_grows, grain=2 * lanes, scratch=scratch)


@jit
def _row(itemsize):
    """Elements from row to row of a block of sums: at a power of two they would share few places of a cache."""
    return (GRADIENT_VECTORS * simd.VECTOR_BYTES + CACHE_LINE) // itemsize


@jit
def _width(itemsize):
    """Columns of what was met that go together, in a tile of the product or a vector of the result."""
    return max(product.MR, simd.VECTOR_BYTES // itemsize)


@jit
def _whole(columns, itemsize):
    """So many columns, rounded up to whole widths."""
    return -(-columns // _width(itemsize)) * _width(itemsize)


@jit
def add_blocks(start, stop, diff, first, first_gradient, first_grows,
               second, second_gradient, second_grows, bias_gradient, bias_grows, work):  # fmt: skip
    """``add_gradients`` for the outputs start to stop."""
    (K, M), lanes, row = diff.shape, simd.VECTOR_BYTES // diff.itemsize, _row(diff.itemsize)
    panel, rest = work[: product.NV * lanes * GRADIENT_DEPTH], work[product.NV * lanes * GRADIENT_DEPTH :]
    edge, first_sums = rest[: _width(diff.itemsize) * GRADIENT_DEPTH], rest[_width(diff.itemsize) * GRADIENT_DEPTH :]
    second_sums = first_sums[_whole(first.shape[1], diff.itemsize) * row :]
    totals = stack.empty(_TOTALS, np.float64)
    for m in range(start, stop, GRADIENT_VECTORS * lanes):
        count = min(GRADIENT_VECTORS * lanes, stop - m)
        totals[:] = 0
        for k in range(0, K, GRADIENT_DEPTH):
            depth = min(GRADIENT_DEPTH, K - k)
            later = (k + GRADIENT_DEPTH) * M + m if k + GRADIENT_DEPTH < K else m + GRADIENT_VECTORS * lanes
            done = 0
            while done < count:
                left = -(-(count - done) // lanes)
                vectors = 2 if left in (1, 2, 4) else product.NV  # one alone would take twice its time
                columns = panel[: depth * vectors * lanes].reshape(depth, vectors * lanes)
                copy_columns(diff, k, m + done, min(vectors * lanes, count - done), columns)
                add_totals(columns, totals[done : done + vectors * lanes])
                fetched = GRADIENT_VECTORS if done == 0 else 0
                multiply_columns(first, k, columns, edge, first_sums[done:], vectors, diff, later, fetched)
                multiply_columns(second, k, columns, edge, second_sums[done:], vectors, diff, later, 0)
                done += vectors * lanes
        write_transposed(first_sums, first_gradient, m, count, first_grows)
        write_transposed(second_sums, second_gradient, m, count, second_grows)
        for column in range(count):
            known = bias_gradient[m + column] if bias_grows else 0
            bias_gradient[m + column] = known + totals[column]


@jit
def copy_columns(source, k, start, count, columns):
    """columns [depth, some lanes] = source[k : k + depth, start : start + count], then zeros."""
    lanes, (depth, length), M = simd.VECTOR_BYTES // source.itemsize, columns.shape, source.shape[1]
    flat, target = source.reshape(-1), columns.reshape(-1)
    for row in range(depth):
        for column in range(0, length, lanes):
            place = (k + row) * M + start + column
            simd.copy_first(target, row * length + column, flat, place, min(lanes, count - column))


@jit(fastmath=FASTMATH - {"reassoc"})
def add_totals(rows, totals):
    """The totals grow by these rows."""
    simd.prefer_widest_vectors()
    whole = len(rows) - len(rows) % GRADIENT_ROWS
    for k in range(0, whole, GRADIENT_ROWS):
        for m in range(rows.shape[1]):
            total = totals[m]
            for row in range(k, k + GRADIENT_ROWS):
                total += rows[row, m]
            totals[m] = total
    for k in range(whole, len(rows)):
        for m in range(rows.shape[1]):
            totals[m] += rows[k, m]


@jit
def multiply_columns(met, k, columns, edge, sums, vectors, diff, later, fetched):
    """The sums, or what they were before, and the products of columns of diff with all of what was met, from row k on.

    sums  rows as many as columns of what was met
    What comes to the second cache meanwhile: for every other tile, what was met for the tiles after the next; for the
    others, so many vectors of each row of diff from ``later`` on.
    """
    (depth, step), row, (D, M) = columns.shape, _row(columns.itemsize), (met.shape[1], diff.shape[1])
    flat, diffs, b = met.reshape(-1), diff.reshape(-1), columns.reshape(-1)
    for column in range(0, D, product.MR):
        a, i, a_step = flat, k * D + column, D
        if column + product.MR > D:
            a, i, a_step = edge, 0, _width(columns.itemsize)
            copy_columns(met, k, column, D - column, edge[: depth * a_step].reshape(depth, a_step))
        source, place, distance = flat, k * D + column + 2 * product.MR, D
        pair, second = divmod(column // product.MR, 2)
        if second and pair < fetched:
            source, place, distance = diffs, later + pair * (step // vectors), M
        c, grow = column * row, k > 0
        if vectors == product.NV:
            _multiply_3(a, i, 1, a_step, b, 0, step, depth, sums, c, row, grow, source, place, distance)
        else:
            _multiply_2(a, i, 1, a_step, b, 0, step, depth, sums, c, row, grow, source, place, distance)


_multiply_2, _multiply_3 = (simd.tile_product(vectors, fetches=True) for vectors in (2, product.NV))


@jit
def write_transposed(sums, gradient, m, count, grows):
    """gradient[m + column] (+)= the column of the sums, for so many."""
    lanes, row, D = simd.VECTOR_BYTES // gradient.itemsize, _row(gradient.itemsize), gradient.shape[1]
    flat, nothing, lowest = gradient.reshape(-1), stack.zeros(MOST_LANES, gradient.dtype), gradient.dtype.type(-np.inf)
    for column in range(0, count, lanes):
        rows = min(lanes, count - column)
        for d in range(0, D, lanes):
            place = (m + column) * D + d
            for c in range(rows):
                simd.fetch_to_write(flat, place + c * D + GRADIENT_AHEAD * lanes, lanes)
            simd.write_transposed(
                flat, place, D, rows, sums, d * row + column, row, nothing, 0, lowest, flat, grows, min(lanes, D - d)
            )
