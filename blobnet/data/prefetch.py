"""Prefetch: a thread fills batches ahead of the net and passes them through a free and a full queue.

A batch knows the position behind it, so that the state of a layer is that of the last batch it consumed,
however far the thread is ahead. An error in the thread is raised where the batch would have been taken.
"""

import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from blobnet.data.batch import Batch, Position

Load = Callable[[Position, Batch], Position]


class Prefetcher:
    """Runs ``load`` ahead in a thread, from ``position`` on, with ``depth`` batches.

    ``load(position, batch)`` fills the batch at a position and returns the next position. The thread ends with
    ``close``, with the garbage collection of the Prefetcher, with the interpreter, or with an error; so
    ``load`` must not lead back to whoever owns the Prefetcher.
    """

    def __init__(self, load: Load, position: Position, depth: int, dtype: np.dtype):
        self._free: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[Batch | BaseException] = queue.SimpleQueue()
        for _ in range(depth):
            self._free.put(Batch(dtype))
        stop = threading.Event()
        thread = threading.Thread(
            target=_run, args=(load, position, self._free, self._full, stop), name="blobnet-prefetch", daemon=True
        )
        self.close = weakref.finalize(self, _stop, thread, self._free, stop)
        thread.start()

    def take(self) -> Batch:
        """The next batch, filled; give it back when it has been read. Raises what stopped the thread."""
        item = self._full.get()
        if isinstance(item, BaseException):
            self._full.put(item)
            raise item
        return item

    def give_back(self, batch: Batch) -> None:
        self._free.put(batch)


def _run(
    load: Load,
    position: Position,
    free: "queue.SimpleQueue[Batch | None]",
    full: "queue.SimpleQueue[Batch | BaseException]",
    stop: threading.Event,
) -> None:
    while (batch := free.get()) is not None and not stop.is_set():
        try:
            position = batch.position = load(position, batch)
        except BaseException as error:
            full.put(error)
            return
        full.put(batch)


def _stop(thread: threading.Thread, free: "queue.SimpleQueue[Any]", stop: threading.Event) -> None:
    stop.set()
    free.put(None)
    if thread is not threading.current_thread():
        thread.join()
