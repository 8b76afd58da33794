"""The matrix product that reads its second operand, and writes the result, where they lie: only the first is packed.

The innermost loop takes neighbours in a row for vectors. That suits convolution by one pixel of few channels, and
products of short sums: to pack the second operand would take much of the time.
"""

import math

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from blobnet import config
from blobnet.kernels import elements, simd, stack
from blobnet.kernels._jit import jit
from blobnet.kernels.instructions import constant, opened
from blobnet.kernels.parallel import parallel_for
from blobnet.kernels.product import WORTH_A_THREAD, even_part
from blobnet.kernels.tiles import (
    TILE_ROWS,
    TILE_VECTORS,
    UNPACKED_AHEAD,
    UNPACKED_DEPTH,
    UNPACKED_ELEMENTS,
    UNPACKED_ROWS,
)
from blobnet.kernels.workspace import work_array


def panels(a: np.ndarray, keep: bool = False, transposed: bool = False) -> np.ndarray:
    """a [M, K] as ``multiply`` reads it: TILE_ROWS rows side by side, the last one again where there are no more.

    keep        in memory of their own
    transposed  a is given as [K, M]
    """
    rows, depth = reversed(a.shape) if transposed else a.shape
    shape = -(-rows // TILE_ROWS), depth, TILE_ROWS
    packed = np.empty(shape, a.dtype) if keep else work_array("filters", shape, a.dtype)
    steps = (1, rows) if transposed else (depth, 1)
    elements.run_rows(pack_panels, len(packed), depth * TILE_ROWS, a.reshape(-1), rows, steps, packed)
    return packed


@jit
def pack_panels(start, stop, a, rows, steps, packed):
    """Panels start to stop of a matrix with so many rows; steps: from a row to the next, and from a column."""
    for panel in range(start, stop):
        for k in range(packed.shape[1]):
            for r in range(TILE_ROWS):
                row = min(panel * TILE_ROWS + r, rows - 1)
                packed[panel, k, r] = a[row * steps[0] + k * steps[1]]


def multiply(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    bias: np.ndarray | None = None,
    least: float = -math.inf,
    addend: np.ndarray | None = None,
    first: int = 0,
) -> None:
    """c [G, M, N] = a [M, K] b [G, K, N] + bias [M] + addend [G, M, N], or ``least`` where that is less.

    a       in ``panels``
    addend  may be c
    first   where c has more rows, and there is a bias but no addend: the first of those that are written
    """
    bias = np.zeros(c.shape[1], c.dtype) if bias is None else bias
    (members, _, columns), rows = c.shape, len(bias)
    block_rows = even_part(rows, UNPACKED_ROWS, TILE_ROWS)
    others = members * -(-rows // block_rows)
    column_blocks = -(-columns * min(UNPACKED_DEPTH, b.shape[1]) // UNPACKED_ELEMENTS)
    column_blocks = max(1, column_blocks + -(others * column_blocks) % config.threads())  # as many for each thread
    block = block_rows, even_part(columns, -(-columns // column_blocks), TILE_VECTORS * simd.lanes(c.dtype))
    count = others * -(-columns // block[1])
    grain = max(1, WORTH_A_THREAD // (block[0] * block[1] * max(1, b.shape[1])))
    rest = block, bias, c.dtype.type(least), c if addend is None else addend, addend is not None
    parallel_for(multiply_blocks, count, a, b, c, first, *rest, grain=grain)


@jit
def multiply_blocks(start, stop, a, b, c, c_first, block, bias, least, addend, accumulate):
    """Blocks start to stop of the result, in the order member, columns, rows."""
    (_, all_rows, columns), rows, depth = c.shape, bias.size, b.shape[1]
    row_blocks, column_blocks = -(-rows // block[0]), -(-columns // block[1])
    lanes, nothing, lowest = simd.VECTOR_BYTES // c.itemsize, stack.zeros(TILE_ROWS, c.dtype), c.dtype.type(-np.inf)
    panels, source, target, known = a.reshape(-1), b.reshape(-1), c.reshape(-1), addend.reshape(-1)
    for item in range(start, stop):
        member, rest = divmod(item, row_blocks * column_blocks)
        first, top = rest // row_blocks * block[1], rest % row_blocks * block[0]
        last, bottom = min(first + block[1], columns), min(top + block[0], rows)
        for k in range(0, max(1, depth), UNPACKED_DEPTH):
            length = min(UNPACKED_DEPTH, depth - k)
            adds, shifts = accumulate or k > 0, nothing if k > 0 else bias
            sums = target if k > 0 else known
            floor = least if k + length == depth else lowest
            for row in range(top, bottom, TILE_ROWS):
                count, panel, column = min(TILE_ROWS, rows - row), row * depth + k * TILE_ROWS, first
                shift = 0 if k > 0 else row
                while column < last:
                    place = (member * depth + k) * columns + column
                    spot = (member * all_rows + c_first + row) * columns + column
                    left = last - column
                    if left >= TILE_VECTORS * lanes:
                        _multiply_whole(
                            panels, panel, source, place, columns, length, target, spot, count, left,
                            shifts, shift, floor, sums, adds,
                        )  # fmt: skip
                        column += TILE_VECTORS * lanes
                    else:
                        _multiply_part(
                            panels, panel, source, place, columns, length, target, spot, count, left,
                            shifts, shift, floor, sums, adds,
                        )  # fmt: skip
                        column += lanes


def _tile(vectors: int, whole: bool):
    """The intrinsic for a tile of the result: TILE_ROWS rows, so many vectors of columns."""

    @intrinsic
    def multiply_tile(typing, a, i, b, j, step, depth, c, k, rows, columns, bias, row, least, addend, accumulate):
        """c[k + r step + n] = sum over d of a[i + d TILE_ROWS + r] b[j + d step + n] + bias[row + r], or least.

        For r below ``rows``, and n below ``columns`` unless the tile is whole. Beyond, a and c have the last row again.
        What is at the same place of the addend is added where it accumulates.
        """

        def emit(context, builder, signature, arguments):
            emitter, a, b, c, bias, addend = opened(context, builder, signature, arguments, 0, 2, 6, 10, 13)
            _, i, _, j, step, depth, _, k, rows, columns, _, row, least, _, accumulate = arguments
            last, mask = builder.sub(rows, constant(1)), emitter.first(columns)

            def load(memory, place):
                return emitter.load(memory, place) if whole else emitter.load_masked(memory, place, mask)

            sums, spots = [], []
            for r in range(TILE_ROWS):
                number = builder.select(builder.icmp_signed("<", constant(r), last), constant(r), last)
                shift = emitter.splat(builder.load(emitter.address(bias, builder.add(row, number))))
                first = builder.add(k, builder.mul(step, number))
                for v in range(vectors):
                    sums.append(cgutils.alloca_once_value(builder, shift))
                    spots.append(builder.add(first, constant(v * emitter.lanes)))
            with builder.if_then(accumulate):
                for total, spot in zip(sums, spots, strict=True):
                    builder.store(builder.fadd(builder.load(total), load(addend, spot)), total)
            with cgutils.for_range(builder, depth) as loop:
                factors = builder.add(i, builder.mul(loop.index, constant(TILE_ROWS)))
                place = builder.add(j, builder.mul(loop.index, step))
                ahead = builder.add(place, builder.mul(step, constant(UNPACKED_AHEAD)))
                for v in range(vectors):
                    emitter.fetch(b, builder.add(ahead, constant(v * emitter.lanes)), cache=1)
                met = [load(b, builder.add(place, constant(v * emitter.lanes))) for v in range(vectors)]
                for r in range(TILE_ROWS):
                    emitter.keep_order()
                    factor = emitter.splat(builder.load(emitter.address(a, builder.add(factors, constant(r)))))
                    for v in range(vectors):
                        total = sums[r * vectors + v]
                        builder.store(emitter.multiply_add(factor, met[v], builder.load(total)), total)
            least = emitter.splat(least)
            for total, spot in zip(sums, spots, strict=True):
                result = emitter.at_least(least, builder.load(total))
                if whole:
                    emitter.store(result, c, spot)
                else:
                    emitter.store_first(result, c, spot, columns)
            return context.get_dummy_value()

        index = types.intp
        return types.void(
            a, index, b, index, index, index, c, index, index, index, bias, index, least, addend, types.boolean
        ), emit

    return multiply_tile


_multiply_whole, _multiply_part = _tile(TILE_VECTORS, True), _tile(1, False)
