"""Arrays on the stack: what they hold, and that nothing but a constant gives their length."""

import numpy as np
import pytest
from numba.core.errors import TypingError

from blobnet.kernels import stack
from blobnet.kernels._jit import jit

LENGTH = 6


@jit(cache=False)
def squares(y):
    table = stack.empty(LENGTH, y.dtype)
    for i in range(LENGTH):
        table[i] = i * i
    pairs = table.reshape(3, 2)
    for i in range(3):
        y[i] = pairs[i, 0] + table[2 * i + 1 :][0]
    y[3], y[4] = len(table), table.itemsize


@jit(cache=False)
def sum_of_last(counts, y):
    for turn in range(len(counts)):
        table = stack.zeros(LENGTH, np.int64)
        table[turn] += counts[turn]
        y[turn] = table.sum()


@jit(cache=False)
def sum_of_any(count):
    return stack.zeros(count, np.float32).sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_they_are_arrays(dtype):
    y = np.zeros(5, dtype)
    squares(y)
    assert y.tolist() == [1, 4 + 9, 16 + 25, 6, y.itemsize]


def test_zeros_are_zeros_each_time():
    y = np.empty(4, np.int64)
    sum_of_last(np.array([1, 2, 3, 4]), y)
    assert y.tolist() == [1, 2, 3, 4]


def test_a_length_that_varies_is_refused():
    with pytest.raises(TypingError, match="the length is a constant"):
        sum_of_any(3)


def test_arrays_of_another_kind_are_refused():
    @jit(cache=False)
    def make(count):
        return np.zeros(count).sum()

    with pytest.raises(TypingError, match="Only accept returning of array passed"):
        make(3)
