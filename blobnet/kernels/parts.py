"""Copies between an array and its parts along an axis, called by Concat and Slice.

The array is seen as rows, one for each place on the axes before; a part has a piece of each row. Pieces are copied by
the C library, which writes long ones without reading what they overwrite.
"""

import math
from collections.abc import Sequence

import numpy as np

from blobnet.kernels import elements
from blobnet.kernels._jit import jit
from blobnet.kernels.memory import copy_bytes


def join(parts: Sequence[np.ndarray], whole: np.ndarray, axis: int) -> None:
    """The whole from all of its parts."""
    _copy(parts, [part.shape[axis] for part in parts], whole, axis, joined=True)


def split(whole: np.ndarray, extents: Sequence[int], parts: Sequence[np.ndarray | None], axis: int) -> None:
    """The parts from the whole, of these extents along the axis; None: not wanted."""
    _copy(parts, extents, whole, axis, joined=False)


def _copy(
    parts: Sequence[np.ndarray | None], extents: Sequence[int], whole: np.ndarray, axis: int, joined: bool
) -> None:
    """Both ways, with a row (address, first byte in a row of the whole, bytes) for each part."""
    sizes = np.array(extents) * math.prod(whole.shape[axis + 1 :]) * whole.itemsize
    firsts = np.cumsum(sizes) - sizes
    pieces = [
        (part.ctypes.data, first, size)
        for part, first, size in zip(parts, firsts, sizes, strict=True)
        if part is not None
    ]
    rows, row_size = math.prod(whole.shape[:axis]), math.prod(whole.shape[axis:])
    table = np.array(pieces, np.int64).reshape(-1, 3)
    elements.run_rows(copy_pieces, rows, row_size, table, whole.ctypes.data, row_size * whole.itemsize, joined)


@jit
def copy_pieces(start, stop, pieces, whole, row_bytes, joined):
    """Rows start to stop of the whole, which lies at that address, from its pieces, or the pieces from them."""
    for row in range(start, stop):
        for part in range(len(pieces)):
            address, first, size = pieces[part]
            inside, outside = whole + row * row_bytes + first, address + row * size
            if joined:
                copy_bytes(inside, outside, size)
            else:
                copy_bytes(outside, inside, size)
