"""Copies between an array and its parts along an axis, called by Concat and Slice.

The array is seen as rows, one for each place on the axes before; a part has a piece of each row.
"""

import math
from collections.abc import Sequence

import numpy as np

from blobnet.kernels import elements
from blobnet.kernels._jit import jit


def join(parts: Sequence[np.ndarray], whole: np.ndarray, axis: int) -> None:
    """The whole from all of its parts."""
    rows, first = _rows(whole, axis), 0
    for part in parts:
        pieces = _rows(part, axis)
        elements.run_rows(put, *pieces.shape, pieces, first, rows)
        first += pieces.shape[1]


def split(whole: np.ndarray, extents: Sequence[int], parts: Sequence[np.ndarray | None], axis: int) -> None:
    """The parts from the whole, of these extents along the axis; None: not wanted."""
    rows, first = _rows(whole, axis), 0
    for extent, part in zip(extents, parts, strict=True):
        if part is not None:
            pieces = _rows(part, axis)
            elements.run_rows(take, *pieces.shape, rows, first, pieces)
        first += extent * math.prod(whole.shape[axis + 1 :])


def _rows(array: np.ndarray, axis: int) -> np.ndarray:
    return array.reshape(math.prod(array.shape[:axis]), -1)


@jit
def put(start, stop, part, first, whole):
    """The piece of the whole that begins at ``first`` becomes the part."""
    for row in range(start, stop):
        source, target = part[row], whole[row, first : first + part.shape[1]]
        for i in range(source.size):
            target[i] = source[i]


@jit
def take(start, stop, whole, first, part):
    """The part becomes the piece of the whole that begins at ``first``."""
    for row in range(start, stop):
        source, target = whole[row, first : first + part.shape[1]], part[row]
        for i in range(target.size):
            target[i] = source[i]
