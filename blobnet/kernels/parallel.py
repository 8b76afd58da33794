"""The one door to several threads.

A kernel that can run in parallel takes ``(start, stop, *arrays)`` and handles the items start to stop.
Items are cut into blocks of ``grain``, whatever the number of threads; each block writes its own part of
the result. So the bits never depend on how many threads there are.

The threads are ordinary Python threads in compiled code, without the GIL, where ``region`` hands them their parts.
One that finds no work for a while falls asleep, and is woken for the next region, which does not wait for it.
One region runs at a time; a kernel called meanwhile from another thread runs alone.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numba.core.dispatcher import Dispatcher

from blobnet import config
from blobnet.kernels import region
from blobnet.kernels._jit import Kernel
from blobnet.kernels.workspace import CACHE_LINE, work_array

# Elements between the rows of scratch of two threads. Side by side, processors fetch ahead into each other's rows:
# small depthwise planes take up to four times as long.
APART = 1 << 12

# Parts of a region for each thread: more than one, so that a thread which falls behind leaves some to the others.
PARTS_OF_A_THREAD = 4


class _Worker(threading.Thread):
    """A thread that runs parts of the regions on the board."""

    def __init__(self, board: np.ndarray, number: int):
        super().__init__(name="blobnet-kernel", daemon=True)
        self._board, self._number = board, number
        self._called = threading.Event()
        self._asleep = False
        self.start()

    def wake(self) -> None:
        """Have the thread look at the board, which is taken by now: whoever falls asleep has looked at that since."""
        if self._asleep:
            self._called.set()

    def run(self) -> None:
        while True:
            region.serve(self._board, self._number)
            self._asleep = True
            if not self._board[region.TAKEN]:
                self._called.wait()
            self._called.clear()
            self._asleep = False


_busy = threading.Lock()
_board = functools.cache(region.board)  # of all threads together; what it takes is compiled with the first kernel
_pool: list[_Worker] = []


class _Unheard(list):
    """Takes in what nobody records."""

    def append(self, item: object) -> None:
        """Nothing is kept."""


_UNHEARD = _Unheard()


class _Own(threading.local):
    """Of each thread: its board when it runs alone, and the calls that are recorded."""

    board: np.ndarray | None = None
    calls: "list[Recorded]" = _UNHEARD


_own = _Own()


def _forget_threads() -> None:
    """In a forked child the threads are gone, and the lock may be held by one of them."""
    global _busy
    _busy = threading.Lock()
    _board.cache_clear()
    _pool.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def parallel_for(kernel: Callable, count: int, *args, grain: int = 1, scratch: np.ndarray | None = None) -> None:
    """Run ``kernel(start, stop, *args)`` over the items 0 to count, on as many threads as there are.

    grain    a thread gets a multiple of so many items: what is worth a thread's while
    scratch  a work array with one row per thread; the kernel gets its row as a last argument
    """
    compiled = _compiled(kernel)
    if compiled is None:
        unrepeatable()
        kernel(0, count, *args, *([] if scratch is None else [scratch[0]]))
    elif _run(*compiled, count, args, grain, scratch):
        raise RuntimeError(f"{kernel.__name__} failed")


@functools.cache
def _compiled(kernel: Callable) -> tuple[Callable, list[int]] | None:
    """What starts the kernel's regions, and the places of named tuples among its arguments; None if it is Python."""
    return (region.starter(kernel), [*region.named_arguments(kernel)]) if isinstance(kernel, Kernel) else None


def succeeds(kernel: Callable, count: int, *args, grain: int = 1) -> bool:
    """``parallel_for`` of a kernel that raises where something else is to run next; whether it did not.

    What is recorded is repeated as long as the kernel succeeds.
    """
    failed = _run(*_compiled(kernel), count, args, grain, None, may_fail=True)
    if failed:
        _own.calls.append(Obstacle.VALUES)
    return not failed


def _run(
    start: Callable,
    named: Sequence[int],
    count: int,
    args: tuple,
    grain: int,
    scratch: np.ndarray | None,
    may_fail: bool = False,
) -> bool:
    """Run a region; returns whether a part of it failed."""
    blocks = -(-count // grain)
    threads = min(config.threads(), blocks)
    plain = list(args)
    for place in named:
        plain[place] = tuple(plain[place])
    if _rehearsal is not None:
        unrepeatable()
        _rehearsal[start, _types(start, scratch, plain)] = None
        return False
    if not start.overloads:  # compiled while the board is taken, it would have the threads wait for it at work
        start.compile(_types(start, scratch, plain))
    cut = count, blocks, grain, min(blocks, PARTS_OF_A_THREAD * threads), threads
    _own.calls.append(Region(start, cut, scratch, plain, may_fail))
    began = perf_counter() if _observer else 0.0
    with _taken_board(threads) as (board, alone):
        failed = start(board, *(cut[:3] + (1, 1) if alone else cut), scratch, *plain)
    if _observer:
        _observer(start.kernel, perf_counter() - began)
    return failed


def _types(start: Callable, scratch: np.ndarray | None, args: list) -> tuple:
    """The types of the arguments that start a region."""
    return tuple(map(start.typeof_pyval, (np.zeros(region.BOARD_SIZE, np.int64), 0, 0, 0, 0, 0, scratch, tuple(args))))


@contextmanager
def _taken_board(threads: int) -> Iterator[tuple[np.ndarray, bool]]:
    """The board of all threads, so many of which are there, or one's own where one is alone; whether it is."""
    if threads > 1 and _busy.acquire(blocking=False):
        board = _board()
        board[region.TAKEN] = 1
        try:
            for number in range(len(_pool) + 1, threads):
                _pool.append(_Worker(board, number))
            for worker in _pool[: threads - 1]:
                worker.wake()
            yield board, False
        finally:
            board[region.TAKEN] = 0
            _busy.release()
    else:
        if _own.board is None:
            _own.board = region.board()
        yield _own.board, True


class Region(NamedTuple):
    """A region that was run."""

    start: Callable
    cut: tuple[int, ...]  # count, blocks, grain, parts, threads
    scratch: np.ndarray | None
    args: list
    may_fail: bool


class Call(NamedTuple):
    """A call between regions."""

    function: Callable[[], object]
    in_order: bool  # what follows needs what it does


class Obstacle(Enum):
    """Why what has run cannot be done by its regions and calls alone."""

    PYTHON = "it does more"
    VALUES = "with other values, it would run other regions"


class Regions:
    """Regions to be run again, one after the other in compiled code, with the arguments as they are in memory."""

    def __init__(self, regions: Iterable[Region]):
        self._regions = list(regions)
        kept = [region.kept(each.start, each.scratch, each.args) for each in self._regions]
        self._table = np.array([(*places, *each.cut) for (*places, _), each in zip(kept, self._regions, strict=True)])
        self._arguments = [memory for *_, memory in kept]
        self._threads = max(each.cut[-1] for each in self._regions)

    def run(self) -> int:
        """Run the regions up to one that does not succeed; returns how many did."""
        with _taken_board(self._threads) as (board, alone):
            done = region.run_regions(board, self._table, alone)
        if done < len(self._regions) and not self._regions[done].may_fail:
            raise RuntimeError(f"{self._regions[done].start.__name__} failed")
        return done


Recorded = Region | Call | Obstacle


def record(run: Callable[[], object]) -> list[Recorded]:
    """Run something: the regions and calls that do it again, and what speaks against that."""
    recorded: list[Recorded] = []
    _recorded_by(recorded, run)
    return recorded


def repeated(function: Callable, *args, in_order: bool = True, **options) -> None:
    """Call a function between regions that does its work again when called again with the same arguments.

    in_order  if not, it may as well come after regions that follow: they do not read what it changes
    """
    call = functools.partial(function, *args, **options)
    _own.calls.append(Call(call, in_order))
    _recorded_by(_UNHEARD, call)


def unrepeatable() -> None:
    """Say that what runs does more than a recording of it would."""
    _own.calls.append(Obstacle.PYTHON)


def _recorded_by(calls: list[Recorded], run: Callable[[], object]) -> None:
    """Run something while others record its calls."""
    others, _own.calls = _own.calls, calls
    try:
        run()
    finally:
        _own.calls = others


_observer: Callable[[Callable, float], None] | None = None


@contextmanager
def observed(observer: Callable[[Callable, float], None]) -> Iterator[None]:
    """While the context is open, tell the observer each kernel that has run and its seconds."""
    global _observer
    _observer = observer
    try:
        yield
    finally:
        _observer = None


_rehearsal: dict[tuple[Dispatcher, tuple], None] | None = None


@contextmanager
def rehearsed() -> Iterator[dict[tuple[Dispatcher, tuple], None]]:
    """While the context is open, run no region; collect what would have to be compiled first, in order.

    What kernels would have written stays as it was, and those that are called otherwise run.
    """
    global _rehearsal
    _rehearsal = {}
    try:
        yield _rehearsal
    finally:
        _rehearsal = None


def is_watched() -> bool:
    """Whether somebody observes or rehearses."""
    return _observer is not None or _rehearsal is not None


def scratch(size: int, dtype) -> np.ndarray:
    """A work array for ``parallel_for``: one row of ``size`` elements, or some more, per thread."""
    lanes = CACHE_LINE // np.dtype(dtype).itemsize
    return work_array("scratch", (config.threads(), -(-size // lanes) * lanes + APART), dtype)
