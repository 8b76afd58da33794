"""Gradients of the weights and biases of recurrent layers: sums over all steps of all streams.

A sum has as many terms as there are rows of what a weight has met, and of the gradients of its outputs. Blocks of
outputs are independent work items. For each slice of the rows, vectors of outputs are copied to a panel that stays in
the first cache, and multiplied by single elements of all that was met, in panels packed beforehand for all threads.
What comes of it, sums with the outputs side by side, stays in the second cache, and is transposed at the end.
"""

from collections.abc import Sequence

import numpy as np

from blobnet import config
from blobnet.kernels import gemm, parallel, product, simd
from blobnet.kernels._jit import FASTMATH, jit
from blobnet.kernels.workspace import CACHE_LINE, work_array

# Rows of a slice. With more, a panel of outputs leaves too little of the first cache to the panels it is multiplied by.
DEPTH = 128

# Vectors of outputs in a block: two panels of three and one of two.
VECTORS = 8

# Rows that are added to the sums of a bias at a time.
TOGETHER = 8


def add_gradients(
    diff: np.ndarray, products: Sequence[tuple[np.ndarray, np.ndarray, bool]], sums: np.ndarray | None
) -> None:
    """From the gradients of outputs, diff [K, M], those of up to two weights and of a bias.

    products  what a weight has met [K, D], its gradient [M, D], and whether that grows, or is written:
              gradient[m] (+)= sum over k of diff[k, m] met[k]
    sums      [M], or None: sums[m] += sum over k of diff[k, m], taken in float64
    """
    if config.reference_kernels():
        for met, gradient, grows in products:
            gemm.gemm(diff, met, gradient, transpose_a=True, beta=int(grows))
        if sums is not None:
            sums += diff.sum(axis=0, dtype=float)
        return
    outputs, lanes = diff.shape[1], simd.lanes(diff.dtype)
    nothing = diff[:, :0], np.empty((outputs, 0), diff.dtype), False
    arrays, rows = [], 0
    for number, (met, gradient, grows) in zip(range(2), (*products, nothing, nothing), strict=False):
        panels = _packed(met, f"met {number}")
        arrays += [panels, gradient, grows]
        rows += panels.shape[1] * panels.shape[3]
    scratch = parallel.scratch(product.NV * lanes * DEPTH + rows * _row(diff.itemsize), diff.dtype)
    sums = np.empty(outputs, diff.dtype) if sums is None else sums
    parallel.parallel_for(add_blocks, outputs, diff, *arrays, sums, grain=VECTORS * lanes, scratch=scratch)


def _packed(met: np.ndarray, use: str) -> np.ndarray:
    """Slices of rows, in panels of neighbouring columns [slices, panels, DEPTH, width]."""
    rows, columns = met.shape
    width = max(product.MR, simd.lanes(met.dtype))
    panels = work_array(use, (-(-rows // DEPTH), -(-columns // width), DEPTH, width), met.dtype)
    parallel.parallel_for(pack_slices, len(panels), met.reshape(-1), rows, columns, panels)
    return panels


@jit
def _row(itemsize):
    """Elements from row to row of a block of sums: at a power of two they would share few places of a cache."""
    return (VECTORS * simd.VECTOR_BYTES + CACHE_LINE) // itemsize


@jit
def pack_slices(start, stop, met, rows, columns, panels):
    lanes, width = simd.VECTOR_BYTES // met.itemsize, panels.shape[3]
    target = panels.reshape(-1)
    for part in range(start, stop):
        for row in range(min(DEPTH, rows - part * DEPTH)):
            for column in range(0, columns, lanes):
                panel = part * panels.shape[1] + column // width
                place, source = (panel * DEPTH + row) * width + column % width, (part * DEPTH + row) * columns + column
                simd.copy_first(target, place, met, source, min(lanes, columns - column))


@jit
def add_blocks(start, stop, diff, first, first_gradient, first_grows,
               second, second_gradient, second_grows, sums, work):  # fmt: skip
    """``add_gradients`` for the outputs start to stop."""
    K = len(diff)
    lanes, row = simd.VECTOR_BYTES // diff.itemsize, _row(diff.itemsize)
    panel, first_sums = work[: product.NV * lanes * DEPTH], work[product.NV * lanes * DEPTH :]
    second_sums = first_sums[first.shape[1] * first.shape[3] * row :]
    totals = np.empty(VECTORS * lanes)
    for m in range(start, stop, VECTORS * lanes):
        count = min(VECTORS * lanes, stop - m)
        totals[:] = 0
        for k in range(0, K, DEPTH):
            depth = min(DEPTH, K - k)
            done = 0
            while done < count:
                left = -(-(count - done) // lanes)
                vectors = 2 if left == 4 else min(product.NV, left)  # one alone would take twice its time
                columns = panel[: depth * vectors * lanes].reshape(depth, vectors * lanes)
                copy_columns(diff, k, m + done, min(vectors * lanes, count - done), columns)
                add_totals(columns, totals[done : done + vectors * lanes])
                multiply_panels(first, k, columns, first_sums[done:], vectors, done == 0)
                multiply_panels(second, k, columns, second_sums[done:], vectors, done == 0)
                done += vectors * lanes
        write_transposed(first_sums, first_gradient, m, count, first_grows)
        write_transposed(second_sums, second_gradient, m, count, second_grows)
        for column in range(count):
            sums[m + column] += totals[column]


@jit
def copy_columns(diff, k, m, count, columns):
    """columns [depth, some lanes] = diff[k : k + depth, m : m + count], then zeros."""
    lanes, (depth, length) = simd.VECTOR_BYTES // diff.itemsize, columns.shape
    source, target = diff.reshape(-1), columns.reshape(-1)
    for row in range(depth):
        for column in range(0, length, lanes):
            place = (k + row) * diff.shape[1] + m + column
            simd.copy_first(target, row * length + column, source, place, min(lanes, count - column))


@jit(fastmath=FASTMATH - {"reassoc"})
def add_totals(rows, totals):
    """The totals grow by these rows."""
    simd.prefer_widest_vectors()
    whole = len(rows) - len(rows) % TOGETHER
    for k in range(0, whole, TOGETHER):
        for m in range(rows.shape[1]):
            total = totals[m]
            for row in range(k, k + TOGETHER):
                total += rows[row, m]
            totals[m] = total
    for k in range(whole, len(rows)):
        for m in range(rows.shape[1]):
            totals[m] += rows[k, m]


@jit
def multiply_panels(panels, k, columns, sums, vectors, fetches):
    """The sums, or what they were before, and the products of columns from row k on with a slice of the panels.

    sums  rows as many as elements of the panels side by side
    If it fetches, what it multiplies next comes to the second cache.
    """
    depth, row, width = len(columns), _row(columns.itemsize), panels.shape[3]
    met, b = panels.reshape(-1), columns.reshape(-1)
    for number in range(panels.shape[1]):
        start = (k // DEPTH * panels.shape[1] + number) * DEPTH * width
        for column in range(0, width, product.MR):
            a, c = start + column, (number * width + column) * row
            if fetches and vectors == product.NV:
                product.multiply_tile_and_fetch(
                    met, a, 1, width, b, 0, columns.shape[1], depth, sums, c, row, k > 0, met, a + DEPTH * width, width
                )
            else:
                product.multiply_tile(met, a, 1, width, b, 0, columns.shape[1], depth, sums, c, row, k > 0, vectors)


@jit
def write_transposed(sums, gradient, m, count, grows):
    """gradient[m + column] (+)= the column of the sums, for so many."""
    lanes, row, D = simd.VECTOR_BYTES // gradient.itemsize, _row(gradient.itemsize), gradient.shape[1]
    starts, tile = np.arange(lanes) * row, np.empty(lanes * lanes, gradient.dtype)
    for column in range(0, count, lanes):
        for d in range(0, D, lanes):
            _transpose(tile, 0, lanes, sums, d * row + column, starts, lanes)
            for c in range(min(lanes, count - column)):
                part = gradient[m + column + c, d : min(d + lanes, D)]
                for place in range(len(part)):
                    part[place] = tile[c * lanes + place] + (part[place] if grows else 0)


_transpose = simd.transposing_copy(simd.VECTOR_BYTES)
