"""The one door to several threads.

A kernel that can run in parallel takes ``(start, stop, *arrays)`` and handles the items start to stop.
Items are cut into blocks of ``grain``, whatever the number of threads; each block writes its own part of
the result. So the bits never depend on how many threads there are.

The threads are ordinary Python threads in compiled code, without the GIL, where ``region`` hands them their parts.
One that finds no work for a while waits on a lock, and is woken for the next region, which does not wait for it.
One region runs at a time; a kernel called meanwhile from another thread runs alone.
"""

import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple, TypeVar

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

_Result = TypeVar("_Result")


class _Worker(threading.Thread):
    """A thread that runs parts of the regions on the board."""

    def __init__(self, board: np.ndarray, number: int):
        super().__init__(name="blobnet-kernel", daemon=True)
        self._board, self._number = board, number
        self._called = threading.Lock()
        self._asleep = False
        self.start()

    def wake(self) -> None:
        if self._asleep:
            self._asleep = False
            self._called.release()

    def run(self) -> None:
        self._called.acquire()
        while True:
            region.serve(self._board, self._number)
            self._asleep = True
            self._called.acquire()


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
    calls: "list[Callable[[], bool] | _Region]" = _UNHEARD


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
    began = perf_counter() if _observer else 0.0
    compiled = _compiled(kernel)
    if compiled is None:
        unrepeatable()
        kernel(0, count, *args, *([] if scratch is None else [scratch[0]]))
    elif _run(*compiled, count, args, grain, scratch):
        raise MemoryError(kernel.__name__)
    if _observer:
        _observer(kernel, perf_counter() - began)


@functools.cache
def _compiled(kernel: Callable) -> tuple[Callable, list[int]] | None:
    """What starts the kernel's regions, and the places of named tuples among its arguments; None if it is Python."""
    return (region.starter(kernel), [*region.named_arguments(kernel)]) if isinstance(kernel, Kernel) else None


def _run(
    start: Callable, named: Sequence[int], count: int, args: tuple, grain: int, scratch: np.ndarray | None
) -> bool:
    """Run a region; returns whether a part of it failed."""
    blocks = -(-count // grain)
    threads = min(config.threads(), blocks)
    plain = list(args)
    for place in named:
        plain[place] = tuple(plain[place])
    if _rehearsal is not None:
        unrepeatable()
        arguments = (np.zeros(region.BOARD_SIZE, np.int64), count, blocks, grain, 1, 1, scratch, tuple(plain))
        _rehearsal[start, tuple(map(start.typeof_pyval, arguments))] = None
        return False
    cut = count, blocks, grain, min(blocks, PARTS_OF_A_THREAD * threads), threads
    _own.calls.append(_Region(start, cut, scratch, plain))
    with _taken_board(threads) as (board, alone):
        return start(board, *(cut[:3] + (1, 1) if alone else cut), scratch, *plain)


@contextmanager
def _taken_board(threads: int) -> Iterator[tuple[np.ndarray, bool]]:
    """The board of all threads, so many of which are there, or one's own where one is alone; whether it is."""
    if threads > 1 and _busy.acquire(blocking=False):
        try:
            for number in range(len(_pool) + 1, threads):
                _pool.append(_Worker(_board(), number))
            for worker in _pool[: threads - 1]:
                worker.wake()
            yield _board(), False
        finally:
            _busy.release()
    else:
        if _own.board is None:
            _own.board = region.board()
        yield _own.board, True


class _Region(NamedTuple):
    """A region that was run."""

    start: Callable
    cut: tuple[int, ...]  # count, blocks, grain, parts, threads
    scratch: np.ndarray | None
    args: list


class _Regions:
    """Regions to be run again, one after the other in compiled code, with the arguments as they are in memory."""

    def __init__(self, regions: Iterable[_Region]):
        self._regions = list(regions)
        kept = [region.kept(each.start, each.scratch, each.args) for each in self._regions]
        self._table = np.array([(*places, *each.cut) for (*places, _), each in zip(kept, self._regions, strict=True)])
        self._arguments = [memory for *_, memory in kept]
        self._threads = max(each.cut[-1] for each in self._regions)

    def __call__(self) -> bool:
        with _taken_board(self._threads) as (board, alone):
            if region.run_regions(board, self._table, alone):
                raise MemoryError(", ".join(each.start.__name__ for each in self._regions))
        return False


def record(run: Callable[[], object]) -> list[Callable[[], bool]] | None:
    """Run something: the calls that run its regions again, and what is ``repeated``, and look again at what ``holds``.

    They are to be made until one returns True. None where that would not do what it has done.
    """
    calls: list[Callable[[], bool] | _Region] = []
    _recorded_by(calls, run)
    if _fail in calls:
        return None
    runs = itertools.groupby(calls, lambda call: isinstance(call, _Region))
    return [call for are_regions, run in runs for call in ([_Regions(run)] if are_regions else run)]


def repeated(function: Callable, *args, **options) -> None:
    """Call a function between regions that does its work again when called again with the same arguments."""
    call = functools.partial(_done, function, *args, **options)
    _own.calls.append(call)
    _recorded_by(_UNHEARD, call)


def unrepeatable() -> None:
    """Say that what runs does more than a recording of it would."""
    _own.calls.append(_fail)


def holds(condition: Callable[..., bool], *args) -> bool:
    """Whether a condition holds on which depends what runs next."""
    found = _recorded_by(_UNHEARD, functools.partial(condition, *args))
    _own.calls.append((lambda: not condition(*args)) if found else _fail)
    return found


def _recorded_by(calls: list[Callable[[], bool] | _Region], run: Callable[[], _Result]) -> _Result:
    """What ``run`` returns, while others record its calls."""
    others, _own.calls = _own.calls, calls
    try:
        return run()
    finally:
        _own.calls = others


def _done(function: Callable, *args, **options) -> bool:
    """Call a function; False: it has not failed."""
    function(*args, **options)
    return False


def _fail() -> bool:
    """A call in place of one that cannot be made again."""
    return True


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
