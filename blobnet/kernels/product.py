"""The blocked matrix product that gemm and every convolution run on.

An operand need not be a matrix in memory. It is an array with two tables of offsets: element (i, k) of member
g of a batch is ``data[starts[g] + outer[i] + inner[k]]``. Tables for a matrix count in its stride; tables for
the patches of an image give convolution without im2col (Matthews 2018, "High-performance tensor contraction
without transposition", calls this the scatter layout). The product sums over the inner axis of both operands:

    c[g, m, n] = alpha sum over k of a[g, m, k] b[g, n, k] + beta d[g, m, n] + bias[g, m]

It is cut into blocks of c, which are independent work items. For each block (Goto and van de Geijn 2008):

    for each slice of k:  pack a's rows into panels of MR, b's into panels of NR;  multiply panel by panel
    write the block out

A panel (``packing``) holds the elements of its rows side by side for each k, as the innermost loop
(``simd.tile_product``) reads them.

The innermost loop multiplies vectors of one operand by single elements of the other, which need not be packed to
be read. So b may be taken *in place*: the block is computed as its transpose, vectors of a times elements of b.
That pays for the patches of a convolution, of which each element meets few filters, and lies at any stride.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from blobnet import config
from blobnet.kernels import parallel, simd, stack
from blobnet.kernels._jit import jit
from blobnet.kernels.elements import at_least
from blobnet.kernels.instructions import MOST_LANES
from blobnet.kernels.packing import MOST_RUNS, RUN_TABLE, find_runs, pack
from blobnet.kernels.tiles import (
    BLOCK_COLUMNS,
    BLOCK_DEPTH,
    BLOCK_DEPTH_KEPT,
    BLOCK_ROWS,
    BLOCK_ROWS_KEPT,
    ROWS_AHEAD,
    TILE_ROWS,
    TILE_VECTORS,
)
from blobnet.kernels.workspace import CACHE_LINE, work_array

MR = TILE_ROWS
NV = TILE_VECTORS

# Multiplications below which a second thread costs more than it gives.
WORTH_A_THREAD = 1 << 20

# From this part of a's vectors in use it pays to read b in place: 50 filters gain nothing, 20 lose a fifth.
LEAST_FILL = 0.75

# Blocks of columns from which a is packed once for all of them, and how many elements it then has at least and at
# most: 256 channels of 1024, 14 x 14, batch 8, on one thread 6.37 to 6.05 ms, their gradients 6.98 to 6.36.
SHARED_BY, LEAST_SHARED, MOST_SHARED = 3, 1 << 16, 1 << 21

# Sums of k are taken apart where the result would give fewer blocks than this. It fixes the order of sums.
MOST_PARTS = 8


class Layout(NamedTuple):
    """Where the elements of a batch of matrices lie: (g, i, k) at starts[g] + outer[i] + inner[k]."""

    starts: np.ndarray
    outer: np.ndarray
    inner: np.ndarray
    inner_runs: bool  # neighbours in memory are neighbours along the inner axis, not the outer one

    def transposed(self) -> "Layout":
        return Layout(self.starts, self.inner, self.outer, not self.inner_runs)


@functools.lru_cache(maxsize=256)
def matrix_layout(rows: int, columns: int, transposed: bool = False, batch: int = 1) -> Layout:
    """C-contiguous matrices, one after the other, with their rows as the outer axis; columns if transposed."""
    layout = Layout(np.arange(batch) * (rows * columns), np.arange(rows) * columns, np.arange(columns), True)
    return layout.transposed() if transposed else layout


def multiply(
    a: np.ndarray,
    a_layout: Layout,
    b: np.ndarray,
    b_layout: Layout,
    c: np.ndarray,
    c_layout: Layout,
    alpha: float = 1.0,
    beta: float = 0.0,
    bias: np.ndarray | None = None,
    least: float = -math.inf,
    addend: np.ndarray | None = None,
    in_place: bool = False,
    kept: bool = False,
) -> None:
    """c = alpha a b + beta d, as above, for C-contiguous arrays of one dtype; with beta 0 d is not read.

    addend    d, which lies as c does; c itself where it is left out
    bias      [batch x M]: one number is added to every element of a row
    least     no element becomes less
    in_place  b is not packed
    kept      a was packed by ``panels``, for the same layout and in_place
    Every sum is taken in one order, whatever the number of threads.
    """
    batch, m, n = len(c_layout.starts), len(c_layout.outer), len(c_layout.inner)
    shape = shape_of(batch, m, n, len(a_layout.inner), c.dtype, in_place, kept, config.threads())
    if not kept and shape.column_blocks >= SHARED_BY and LEAST_SHARED <= a.size <= MOST_SHARED:
        shape = shape._replace(kept=True)
        packed = work_array("panels", _packed_shape(batch, shape), a.dtype)
        parallel.parallel_for(pack_blocks, len(packed), a.reshape(-1), a_layout, packed, shape)
        a = packed
    number = c.dtype.type
    bias = np.empty(0, c.dtype) if bias is None else bias
    factors = number(alpha), number(beta), (c if addend is None else addend).reshape(-1), bias, number(least)
    operands = a.reshape(-1), a_layout, b.reshape(-1), b_layout
    cut = {"grain": shape.grain, "scratch": parallel.scratch(shape.work, c.dtype)}
    if shape.parts == 1:
        results = c.reshape(-1), c_layout, *factors
        parallel.parallel_for(multiply_blocks, shape.count, *operands, *results, shape, **cut)
    else:
        partial = work_array("parts", (shape.parts, batch * m, n), c.dtype)
        layout = matrix_layout(m, n, batch=shape.parts * batch)
        sums = partial.reshape(-1)
        results = sums, layout, number(1), number(0), sums, bias[:0], number(-math.inf)
        parallel.parallel_for(multiply_blocks, shape.count, *operands, *results, shape, **cut)
        parallel.parallel_for(add_parts, batch * m, partial, c.reshape(-1), c_layout, *factors, grain=64)


def panels(a: np.ndarray, layout: Layout, in_place: bool = False) -> np.ndarray:
    """The first operand packed for good, for many products with ``kept``."""
    batch, m, k = len(layout.starts), len(layout.outer), len(layout.inner)
    shape = shape_of(batch, m, 1, k, a.dtype, in_place, True, 1)
    packed = np.empty(_packed_shape(batch, shape), a.dtype)
    parallel.parallel_for(pack_blocks, len(packed), a.reshape(-1), layout, packed, shape)
    return packed


def _packed_shape(batch: int, shape: "Shape") -> tuple[int, int]:
    return batch * shape.row_blocks * shape.slices, shape.a_size


def pays_in_place(rows: int, depth: int, dtype: np.dtype) -> bool:
    """Whether b is better read in place: a fills vectors, and sums are long for the results to be transposed."""
    lanes = simd.lanes(dtype)
    return depth > rows and rows / lanes >= LEAST_FILL * -(-rows // lanes)


class Shape(NamedTuple):
    """How a product is cut into blocks, and what follows from it."""

    in_place: bool
    kept: bool
    rows: int  # of a block
    columns: int  # of the widest block
    depth: int  # of a slice of k
    slices: int
    row_blocks: int
    column_blocks: int
    tile: int  # rows of a full panel of a: MR, or up to NR
    unit: int  # to which the last one is rounded up
    panel: int  # columns of a full panel of b: NR; of what is read in place, those of the innermost loop
    lanes: int
    parts: int  # of k that are summed apart, so that small results with long sums keep all threads busy
    part_depth: int
    count: int  # blocks in all
    grain: int  # blocks worth a thread's while
    a_size: int  # elements of a's panels
    b_size: int  # of b's panels, or of the block's sums before they are transposed
    work: int  # of the work array: these and the block's sums


@functools.lru_cache(maxsize=1024)
def shape_of(batch: int, m: int, n: int, k: int, dtype: np.dtype, in_place: bool, kept: bool, threads: int) -> Shape:
    """The shape of a product of [batch, m, k] and [batch, n, k]; what it tells of parts and grain is for all of it."""
    scale = dtype.itemsize // 4
    lanes = simd.lanes(dtype)
    most_rows, most_depth = (BLOCK_ROWS_KEPT, BLOCK_DEPTH_KEPT) if kept and in_place else (BLOCK_ROWS, BLOCK_DEPTH)
    depth = even_part(k, most_depth // scale, 1)
    unit, panel = (lanes, max(MR, lanes)) if in_place else (MR, NV * lanes)
    rows = even_part(m, most_rows, unit)
    tile = even_part(rows, NV * lanes, lanes) if in_place else MR
    row_blocks = -(-m // rows)
    panels = -(-n // panel)
    slices = max(1, -(-k // depth))
    parts = max(1, min(slices, MOST_PARTS // (batch * row_blocks * panels)))
    part_depth = -(-slices // parts) * depth
    parts = max(1, -(-k // part_depth))
    others = batch * row_blocks * parts
    column_blocks = -(-n // (BLOCK_COLUMNS // scale))
    column_blocks += -(others * column_blocks) % threads  # as many blocks for each thread
    column_blocks = max(1, min(panels, column_blocks))
    columns = -(-panels // column_blocks) * panel
    count = others * column_blocks
    grain = max(1, WORTH_A_THREAD * count // (batch * m * max(MR, n) * max(1, k)))
    slack = lanes * NV * lanes
    a_size, b_size = rows * depth + slack, rows * columns if in_place else columns * depth + slack
    a_size, b_size = (-(-size // CACHE_LINE) * CACHE_LINE for size in (a_size, b_size))  # each begins at one
    return Shape(
        in_place, kept, rows, columns, depth, slices, row_blocks, column_blocks, tile, unit, panel, lanes, parts,
        part_depth, count, grain, a_size, b_size, a_size + b_size + rows * columns,
    )  # fmt: skip


def even_part(extent: int, most: int, unit: int) -> int:
    """The length of equal parts of an extent, at most ``most``, rounded up to whole units."""
    parts = max(1, -(-extent // most))
    return max(unit, -(-extent // parts // unit) * unit)


@jit
def multiply_blocks(start, stop, a, a_layout: Layout, b, b_layout: Layout, c, c_layout: Layout,
                    alpha, beta, addend, bias, least, shape: Shape, work):  # fmt: skip
    """Blocks start to stop of the product, in the order part of k, batch member, rows, columns."""
    blocks = shape.row_blocks * shape.column_blocks
    a_panels, rest = work[: shape.a_size], work[shape.a_size :]
    b_panels, sums = rest[: shape.b_size], rest[shape.b_size :]
    panels = -(-len(b_layout.outer) // shape.panel)
    for item in range(start, stop):
        part, member = divmod(item // blocks, len(a_layout.starts))
        row = item % blocks // shape.column_blocks * shape.rows
        column_block = item % shape.column_blocks
        column = column_block * panels // shape.column_blocks * shape.panel
        next_block = (column_block + 1) * panels // shape.column_blocks * shape.panel
        row_stop, column_stop = min(row + shape.rows, len(a_layout.outer)), min(next_block, len(b_layout.outer))
        k_start = part * shape.part_depth
        k_end = min(k_start + shape.part_depth, len(a_layout.inner))
        for k in range(k_start, max(k_end, k_start + 1), shape.depth):
            k_stop = min(k + shape.depth, k_end)
            extents = row_stop - row, column_stop - column, k_stop - k
            if shape.kept:
                block = member * shape.row_blocks + row // shape.rows
                a_panels = a[(block * shape.slices + k // shape.depth) * shape.a_size :]
            else:
                pack(a, a_layout, member, row, row_stop, k, k_stop, a_panels, shape.tile, shape.unit, shape.lanes)
            if shape.in_place:
                multiply_in_place(a_panels, b, b_layout, member, column, k, b_panels, extents, shape, k > k_start)
                continue
            pack(b, b_layout, member, column, column_stop, k, k_stop, b_panels, shape.panel, shape.lanes, shape.lanes)
            next_column, next_k = (column, k_stop) if k_stop < k_end else (column_stop, k_start)
            later = ahead(b, b_layout, member, next_column, next_k, k_end)
            multiply_panels(a_panels, b_panels, sums, extents, shape, k > k_start, later)
        if shape.in_place:
            transpose(b_panels, sums, shape)
        extents = row, row_stop, column, column_stop
        write_block(c, c_layout, item // blocks, extents, sums, shape.columns, alpha, beta, addend, bias, least)


class Ahead(NamedTuple):
    """What is packed next, and is fetched meanwhile: row i and depth d lie at source[place + outer[i] + d distance]."""

    source: np.ndarray
    outer: np.ndarray
    place: int
    distance: int  # 0: nothing is


@jit
def ahead(source, layout, member, row, k, k_end):
    """The operand from (row, k) on, unless it lies row by row or ends there."""
    if row >= len(layout.outer) or k + 1 >= k_end or layout.inner_runs:
        return Ahead(source, layout.outer, 0, 0)
    place = layout.starts[member] + layout.inner[k]
    return Ahead(source, layout.outer[row:], place, layout.inner[k + 1] - layout.inner[k])


@jit
def pack_blocks(start, stop, a, layout: Layout, packed, shape: Shape):
    """The panels of each block of rows and slice of k, packed [member x row block x slice, panels]."""
    for item in range(start, stop):
        member, row_block = divmod(item // shape.slices, shape.row_blocks)
        row, k = row_block * shape.rows, item % shape.slices * shape.depth
        row_stop, k_stop = min(row + shape.rows, len(layout.outer)), min(k + shape.depth, len(layout.inner))
        pack(a, layout, member, row, row_stop, k, k_stop, packed[item], shape.tile, shape.unit, shape.lanes)


_multiply_1, _multiply_2, _multiply_3 = (simd.tile_product(vectors) for vectors in (1, 2, 3))
_multiply_2_and_fetch, _multiply_3_and_fetch = (simd.tile_product(vectors, fetches=True) for vectors in (2, 3))


@jit
def multiply_panels(a_panels, b_panels, sums, extents, shape, accumulate, later):
    """The block's sums (+)= every panel of a times every panel of b; the first rows of a fetch a vector of each row."""
    rows, columns, depth = extents
    step, lanes, row = shape.tile, shape.lanes, shape.columns
    for j in range(0, columns, shape.panel):
        width = min(shape.panel, -(-(columns - j) // lanes) * lanes)
        b, vectors = j * depth, width // lanes
        place = later.place + later.outer[min(j, len(later.outer) - 1)]
        for i in range(0, rows, step):
            a, c, number = i * depth, i * row + j, i // step
            if later.distance and vectors == NV and number < NV:
                multiply_tile_and_fetch(
                    a_panels, a, 1, step, b_panels, b, width, depth, sums, c, row, accumulate,
                    later.source, place + number * lanes, later.distance,
                )  # fmt: skip
            else:
                multiply_tile(a_panels, a, 1, step, b_panels, b, width, depth, sums, c, row, accumulate, vectors)


@jit
def multiply_in_place(a_panels, b, layout, member, column, k, sums, extents, shape, accumulate):
    """The block's sums, transposed, (+)= rows of b where they lie times every panel of a.

    The next panel may come from far away if it was kept. Of NV vectors, the first tiles fetch one of each row; of 2,
    each tile fetches its share, which would slow loops over tiles of NV by a fifth.
    """
    rows, columns, depth = extents
    steps = layout.inner[k : k + depth]
    starts = stack.empty(MR, np.int64)
    tiles = -(-columns // MR)
    for i in range(0, rows, shape.tile):
        width = min(shape.tile, -(-(rows - i) // shape.lanes) * shape.lanes)
        panel, vectors = i * depth, width // shape.lanes
        for j in range(0, columns, MR):
            for r in range(MR):
                starts[r] = layout.starts[member] + layout.outer[column + min(j + r, columns - 1)]
            c, number = j * shape.rows + i, j // MR
            if shape.kept and vectors == NV and number < NV:
                multiply_tile_and_fetch(
                    b, 0, starts, steps, a_panels, panel, width, depth, sums, c, shape.rows, accumulate,
                    a_panels, panel + width * depth + number * shape.lanes, width,
                )  # fmt: skip
            elif shape.kept and vectors == 2:
                distance = -(-width // tiles)
                multiply_pair_and_fetch(
                    b, 0, starts, steps, a_panels, panel, width, depth, sums, c, shape.rows, accumulate,
                    a_panels, panel + width * depth + number * distance * depth, distance,
                )  # fmt: skip
            else:
                multiply_tile(
                    b, 0, starts, steps, a_panels, panel, width, depth, sums, c, shape.rows, accumulate, vectors
                )


@jit
def transpose(source, target, shape):
    """target [rows, columns] = source [columns, rows] of a block."""
    starts = stack.empty(MOST_LANES, np.int64)
    for r in range(shape.lanes):
        starts[r] = r * shape.rows
    for j in range(0, shape.columns, shape.lanes):
        for i in range(0, shape.rows, shape.lanes):
            place = i * shape.columns + j
            _transpose_vectors(target, place, shape.columns, source, j * shape.rows + i, starts, shape.lanes)


_transpose_vectors = simd.transposing_copy(simd.VECTOR_BYTES)


@jit
def multiply_tile(a, i, a_row, a_step, b, j, b_step, depth, c, k, c_row, accumulate, vectors):
    """``simd.tile_product`` for 1 to NV vectors."""
    if vectors == 3:
        _multiply_3(a, i, a_row, a_step, b, j, b_step, depth, c, k, c_row, accumulate)
    elif vectors == 2:
        _multiply_2(a, i, a_row, a_step, b, j, b_step, depth, c, k, c_row, accumulate)
    else:
        _multiply_1(a, i, a_row, a_step, b, j, b_step, depth, c, k, c_row, accumulate)


@jit
def multiply_tile_and_fetch(a, i, a_row, a_step, b, j, b_step, depth, c, k, c_row, accumulate, later, place, distance):
    """Likewise for NV vectors, with ``later`` from ``place`` on coming nearer."""
    _multiply_3_and_fetch(a, i, a_row, a_step, b, j, b_step, depth, c, k, c_row, accumulate, later, place, distance)


@jit
def multiply_pair_and_fetch(a, i, a_row, a_step, b, j, b_step, depth, c, k, c_row, accumulate, later, place, distance):
    """Likewise for 2 vectors; in one function with the other, both are slower."""
    _multiply_2_and_fetch(a, i, a_row, a_step, b, j, b_step, depth, c, k, c_row, accumulate, later, place, distance)


@jit
def write_block(c, layout, member, extents, sums, stride, alpha, beta, addend, bias, least):
    """c = alpha sums + beta addend + bias, or ``least``, over the block; with beta 0 the addend is not read."""
    row, row_stop, column, column_stop = extents
    columns = column_stop - column
    runs = stack.empty(RUN_TABLE, np.int64).reshape(3, MOST_RUNS)
    count = find_runs(layout.inner, column, column_stop, columns, runs)
    scattered = count == columns
    for i in range(row, row_stop):
        start = layout.starts[member] + layout.outer[i]
        shift = bias[member * len(layout.outer) + i] if len(bias) else alpha * 0
        first = (i - row) * stride
        if scattered:
            write_scattered(c, start, runs[1], sums[first : first + columns], alpha, beta, addend, shift, least)
            continue
        ahead = layout.starts[member] + layout.outer[min(i + ROWS_AHEAD, row_stop - 1)]
        for run in range(count):
            place, length = first + runs[0, run], runs[2, run]
            simd.fetch_to_write(c, ahead + runs[1, run], length)
            target, known = c[start + runs[1, run] :][:length], addend[start + runs[1, run] :][:length]
            values = sums[place : place + length]
            if beta == 0:
                for j in range(length):
                    target[j] = at_least(least, alpha * values[j] + shift)
            else:
                for j in range(length):
                    values[j] = alpha * values[j] + shift + beta * known[j]
                for j in range(length):
                    target[j] = at_least(least, values[j])


@jit
def write_scattered(c, start, offsets, values, alpha, beta, addend, shift, least):
    """c[start + offsets[j]] = alpha values[j] + shift + beta addend[start + offsets[j]], or ``least``."""
    for j in range(len(values)):
        place = start + offsets[j]
        c[place] = at_least(least, alpha * values[j] + shift + (beta * addend[place] if beta != 0 else 0))


@jit
def add_parts(start, stop, partial, c, layout: Layout, alpha, beta, addend, bias, least):
    """c = alpha (sum of the parts) + beta addend + bias, or ``least``, for the rows start to stop of all members."""
    for i in range(start, stop):
        origin = layout.starts[i // len(layout.outer)] + layout.outer[i % len(layout.outer)]
        shift = bias[i] if len(bias) else alpha * 0
        for j in range(len(layout.inner)):
            total = partial[0, i, j]
            for part in range(1, len(partial)):
                total += partial[part, i, j]
            place = origin + layout.inner[j]
            c[place] = at_least(least, alpha * total + shift + (beta * addend[place] if beta != 0 else 0))
