"""The one door to several threads.

A kernel that can run in parallel takes ``(start, stop, *arrays)`` and handles the items start to stop.
Items are cut into blocks of ``grain``, whatever the number of threads; each block writes its own part of
the result. So the bits never depend on how many threads there are.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from blobnet import config

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def parallel_for(kernel: Callable, count: int, *args, grain: int = 1, scratch: np.ndarray | None = None) -> None:
    """Run ``kernel(start, stop, *args)`` over the items 0 to count, on as many threads as there are.

    grain    a thread gets a multiple of so many items: what is worth a thread's while
    scratch  a work array with one row per thread; the kernel gets its row as a last argument
    """
    workers = min(config.threads(), -(-count // grain))
    if scratch is not None:
        workers = min(workers, len(scratch))
    if workers <= 1 or not _lock.acquire(blocking=False):
        kernel(0, count, *args, *_row(scratch, 0))
        return
    try:
        blocks = -(-count // grain)
        bounds = [min(count, blocks * worker // workers * grain) for worker in range(workers + 1)]
        pool = _workers(workers - 1)
        others = [
            pool.submit(kernel, bounds[worker], bounds[worker + 1], *args, *_row(scratch, worker))
            for worker in range(1, workers)
        ]
        kernel(0, bounds[1], *args, *_row(scratch, 0))
        for other in others:
            other.result()
    finally:
        _lock.release()


def scratch(size: int, dtype) -> np.ndarray:
    """A work array for ``parallel_for``: one row of ``size`` elements per thread."""
    return np.empty((config.threads(), size), dtype)


def _row(scratch: np.ndarray | None, worker: int) -> tuple[np.ndarray, ...]:
    return () if scratch is None else (scratch[worker],)


def _workers(count: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    if _pool is None or _pool_size < count:
        if _pool is not None:
            _pool.shutdown()
        _pool, _pool_size = ThreadPoolExecutor(count, thread_name_prefix="blobnet"), count
    return _pool
