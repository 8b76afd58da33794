"""The search for NaN and infinity."""

import numpy as np

from blobnet.kernels import rows, stack
from blobnet.kernels._jit import jit
from blobnet.kernels.instructions import MOST_LANES
from blobnet.kernels.parallel import parallel_for, succeeds
from blobnet.kernels.rows import at
from blobnet.kernels.tiles import SEARCHED_AT_ONCE


def all_finite(array: np.ndarray) -> bool:
    """Whether there is neither NaN nor infinity. A recording is repeated as long as the answer is yes."""
    values = array.reshape(-1)
    if len(values) <= SEARCHED_AT_ONCE:
        return succeeds(expect_finite, len(values), values, grain=SEARCHED_AT_ONCE)
    sums = np.zeros(blocks(len(values)), values.dtype)
    search(values, sums)
    return all_finite(sums)


def blocks(count: int) -> int:
    """How many blocks so many elements have."""
    return -(-count // SEARCHED_AT_ONCE)


def search(values: np.ndarray, sums: np.ndarray) -> None:
    """sums[i] = 0 where all of block i of the flat values is finite, else NaN."""
    parallel_for(search_blocks, len(sums), values, sums)


@jit
def search_blocks(start, stop, values, sums):
    """sums[i] = ``sum_of_nothing`` of block i."""
    for block in range(start, stop):
        sums[block] = sum_of_nothing(values[block * SEARCHED_AT_ONCE : (block + 1) * SEARCHED_AT_ONCE])


def _nothing(emitter, numbers, x):
    return [], [emitter.builder.fmul(x, emitter.zero())]


_add_nothing = rows.loop(_nothing, 1)


@jit
def expect_finite(start, stop, values):
    """Fails where one of the values is NaN or infinite."""
    if sum_of_nothing(values[start:stop]) != 0:
        raise FloatingPointError


@jit
def sum_of_nothing(values):
    """The sum of 0 times each value, which is fetched ahead: a number gives 0, NaN and infinity give NaN."""
    nothing = stack.zeros(MOST_LANES, np.float64)
    _add_nothing(len(values), (), (at(values, 0),), (), at(nothing, 0))
    return nothing.sum()
