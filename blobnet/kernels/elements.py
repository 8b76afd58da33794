"""Loops over elements: how they are shared out to threads, and how they work in place.

A kernel that works in place gets None for its output. That is a type of its own to the compiler, so it knows
that input and output are the same memory; given one array twice it would have to expect any overlap, and
could not use vector instructions.
"""

from collections.abc import Callable

from blobnet.kernels import parallel
from blobnet.kernels._jit import jit

# Elements that are worth a thread's while: with fewer, half the work takes as long as all of it.
_GRAIN = 1 << 14


@jit
def span(start, stop, x, y):
    """The items start to stop of input and output; an output of None is the input."""
    x = x[start:stop]
    if y is None:
        return x, x
    return x, y[start:stop]


@jit
def at_least(least, value):
    """The value where it is more than ``least`` or NaN, else ``least``."""
    return least if value <= least else value


def run(kernel: Callable, count: int, *args) -> None:
    """Run ``kernel(start, stop, *args)`` over flat arrays of ``count`` elements."""
    parallel.parallel_for(kernel, count, *args, grain=_GRAIN)


def run_rows(kernel: Callable, rows: int, row_size: int, *args, **scratch) -> None:
    """Run ``kernel(start, stop, *args)`` over arrays of ``rows`` rows of ``row_size`` elements.

    scratch  as that of ``parallel_for``
    """
    parallel.parallel_for(kernel, rows, *args, grain=_rows_at_once(row_size), **scratch)


def rows_succeed(kernel: Callable, rows: int, row_size: int, *args) -> bool:
    """``run_rows`` of a kernel that may raise; whether it did not, as of ``parallel.succeeds``."""
    return parallel.succeeds(kernel, rows, *args, grain=_rows_at_once(row_size))


def _rows_at_once(row_size: int) -> int:
    return max(1, _GRAIN // max(1, row_size))
