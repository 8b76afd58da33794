"""Rows of an operand of the matrix product, side by side in panels as its innermost loop reads them.

An operand is ``product``'s: an array with tables of offsets. Whole vectors are copied along runs of neighbouring
elements, of the outer axis where that one runs through memory, else of the inner one with a transposition.
"""

import numpy as np

from blobnet.kernels import simd, stack
from blobnet.kernels._jit import jit
from blobnet.kernels.instructions import MOST_LANES
from blobnet.kernels.tiles import BLOCK_COLUMNS, BLOCK_DEPTH, RECURRENT_DEPTH, TILE_ROWS, TILE_VECTORS

# Rows, columns or depth of whatever is packed or written at once, and numbers of a table of so many runs.
MOST_RUNS = max(BLOCK_COLUMNS, BLOCK_DEPTH, RECURRENT_DEPTH)
RUN_TABLE = 3 * MOST_RUNS


@jit
def pack(source, layout, member, row, row_stop, k, k_stop, panels, panel, unit, lanes):
    """Rows of an operand into panels [panel, k, width].

    A panel is ``panel`` rows wide; the last one so wide as its rows need, in units.
    """
    runs = stack.empty(RUN_TABLE, np.int64).reshape(3, MOST_RUNS)
    starts, full = stack.empty(MOST_LANES, np.int64)[:lanes], TILE_VECTORS * lanes
    if layout.inner_runs:
        count = find_runs(layout.inner, k, k_stop, lanes, runs)
    for first in range(row, row_stop, panel):
        stop = min(first + panel, row_stop)
        target = (first - row) * (k_stop - k)
        width = -(-(stop - first) // unit) * unit
        if layout.inner_runs:
            transpose_runs(source, layout, member, first, stop, runs[:, :count], starts, panels, target, width)
        elif stop - first == full and find_runs(layout.outer, first, stop, full, runs) == 1:
            copy_panel(source, layout, member, k, k_stop, first, panels, target, lanes)
        else:
            count = find_runs(layout.outer, first, stop, lanes, runs)
            copy_runs(source, layout, member, k, k_stop, runs[:, :count], lanes, panels, target, width)


@jit
def find_runs(offsets, first, last, lanes, runs):
    """Cut offsets[first:last] into runs of neighbours, at most ``lanes`` long: (place, offset, length) each."""
    count = 0
    i = first
    while i < last:
        length = 1
        while length < lanes and i + length < last and offsets[i + length] == offsets[i] + length:
            length += 1
        runs[0, count] = i - first
        runs[1, count] = offsets[i]
        runs[2, count] = length
        count += 1
        i += length
    return count


@jit
def copy_panel(source, layout, member, k, k_stop, row, panels, target, lanes):
    """One panel of TILE_VECTORS vectors whose rows are all neighbours in memory."""
    first = layout.starts[member] + layout.outer[row]
    for depth in range(k, k_stop):
        _copy_vectors(panels, target, source, first + layout.inner[depth])
        target += TILE_VECTORS * lanes


_copy_vectors = simd.whole_copy(TILE_VECTORS)


@jit
def copy_runs(source, layout, member, k, k_stop, runs, lanes, panels, target, width):
    """One panel whose rows are neighbours in memory: for each k, the runs along the panel.

    A run is read and written as a whole vector, unless the array ends there; what follows overwrites the surplus.
    """
    last_whole = len(source) - lanes
    for depth in range(k, k_stop):
        start = layout.starts[member] + layout.inner[depth]
        for run in range(runs.shape[1]):
            place = start + runs[1, run]
            count = lanes if place <= last_whole else runs[2, run]
            simd.copy_first(panels, target + runs[0, run], source, place, count)
        target += width


@jit
def transpose_runs(source, layout, member, first, last, runs, starts, panels, target, width):
    """One panel whose depth runs through memory: blocks of rows, transposed run by run, read as in ``copy_runs``."""
    lanes = len(starts)
    block = min(width, lanes)
    for row in range(0, width, block):
        last_whole = len(source) - lanes
        for r in range(block):
            starts[r] = layout.starts[member] + layout.outer[min(first + row + r, last - 1)]
            last_whole = min(last_whole, len(source) - lanes - starts[r])
        for run in range(runs.shape[1]):
            place = target + row + runs[0, run] * width
            count = lanes if runs[1, run] <= last_whole else runs[2, run]
            if width == TILE_ROWS:
                _transpose_tile(panels, place, width, source, runs[1, run], starts, count)
            else:
                _transpose_vectors(panels, place, width, source, runs[1, run], starts, count)


_transpose_tile = simd.transposing_copy(TILE_ROWS)
_transpose_vectors = simd.transposing_copy(simd.VECTOR_BYTES)
