"""The one door to several threads.

A kernel that can run in parallel takes ``(start, stop, *arrays)`` and handles the items start to stop.
Items are cut into blocks of ``grain``, whatever the number of threads; each block writes its own part of
the result. So the bits never depend on how many threads there are.

The threads are ordinary Python threads that wait on a lock: kernels run without the GIL, and handing one over
takes about 10 microseconds. One region runs at a time; a kernel called meanwhile from another thread runs alone.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np

from blobnet import config
from blobnet.kernels.workspace import CACHE_LINE, work_array


class _Worker(threading.Thread):
    """A thread that waits for a call, runs it, and reports back."""

    def __init__(self) -> None:
        super().__init__(name="blobnet-kernel", daemon=True)
        self._called, self._returned = threading.Lock(), threading.Lock()
        self._called.acquire()
        self._returned.acquire()
        self._error: BaseException | None = None
        self.start()

    def call(self, kernel: Callable, *args: Any) -> None:
        self._kernel, self._args = kernel, args
        self._called.release()

    def wait(self) -> BaseException | None:
        """Wait for the call to end; returns what it raised."""
        self._returned.acquire()
        return self._error

    def run(self) -> None:
        while True:
            self._called.acquire()
            self._error = None
            try:
                self._kernel(*self._args)
            except BaseException as error:  # handed to the caller
                self._error = error
            del self._kernel, self._args
            self._returned.release()


_busy = threading.Lock()
_pool: list[_Worker] = []


def _forget_threads() -> None:
    """In a forked child the threads are gone, and the lock may be held by one of them."""
    global _busy
    _busy = threading.Lock()
    _pool.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def parallel_for(kernel: Callable, count: int, *args, grain: int = 1, scratch: np.ndarray | None = None) -> None:
    """Run ``kernel(start, stop, *args)`` over the items 0 to count, on as many threads as there are.

    grain    a thread gets a multiple of so many items: what is worth a thread's while
    scratch  a work array with one row per thread; the kernel gets its row as a last argument
    """
    start = perf_counter() if _observer else 0.0
    _run(kernel, count, args, grain, scratch)
    if _observer:
        _observer(kernel, perf_counter() - start)


def _run(kernel: Callable, count: int, args: tuple, grain: int, scratch: np.ndarray | None) -> None:
    blocks = -(-count // grain)
    parts = min(config.threads(), blocks if scratch is None else min(blocks, len(scratch)))
    if parts <= 1 or not _busy.acquire(blocking=False):
        kernel(0, count, *args, *_row(scratch, 0))
        return
    try:
        while len(_pool) < parts - 1:
            _pool.append(_Worker())
        bounds = [min(count, blocks * part // parts * grain) for part in range(parts + 1)]
        others = _pool[: parts - 1]
        for part, worker in enumerate(others, start=1):
            worker.call(kernel, bounds[part], bounds[part + 1], *args, *_row(scratch, part))
        try:
            kernel(0, bounds[1], *args, *_row(scratch, 0))
        finally:
            errors = [error for worker in others if (error := worker.wait()) is not None]
        if errors:
            raise errors[0]
    finally:
        _busy.release()


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


def scratch(size: int, dtype) -> np.ndarray:
    """A work array for ``parallel_for``: one row of ``size`` elements, or a few more, per thread."""
    lanes = CACHE_LINE // np.dtype(dtype).itemsize
    return work_array("scratch", (config.threads(), -(-size // lanes) * lanes), dtype)


def _row(scratch: np.ndarray | None, part: int) -> tuple[np.ndarray, ...]:
    return () if scratch is None else (scratch[part],)
