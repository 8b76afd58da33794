"""Engines in processes of their own, taken in turns: A B A B.

Whatever slows the machine for a while slows neighbours alike, so a ratio is taken turn by turn, and the median of
those counts. A process that waits for its turn sleeps. The libraries' threads spin for some milliseconds after their
work, hence the pause between turns.
"""

import multiprocessing
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

PAUSE = 0.05  # seconds

# Settings that would choose a library's kernels for it.
_FOREIGN_SETTINGS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


class Worker:
    """A process that holds one engine, made there by ``make(*args)``: an object with a method ``run(task)``."""

    def __init__(self, name: str, threads: int):
        self.name = name
        self._connection, other = multiprocessing.Pipe()
        serve = f"from benchmarks import turns; turns.serve({other.fileno()})"  # and nothing else that takes memory
        self._process = subprocess.Popen(
            [sys.executable, "-c", serve], env=_environment(threads), pass_fds=[other.fileno()]
        )
        other.close()

    def hold(self, make: Callable, *args: Any) -> None:
        """Make an engine, in place of the one before."""
        self._ask(_hold, make, args)

    def call(self, method: str, *args: Any) -> Any:
        """What a method of the engine returns."""
        return self._ask(_call, method, args)

    def warm_up(self, task: str, seconds: float) -> None:
        """Run a task twice at least, and forget the peak of the memory that it took to get so far."""
        self._ask(_warm_up, task, seconds)

    def lap(self, task: str, seconds: float) -> float:
        """Milliseconds of a run of the task: the median of all that fit into some seconds, of one at least."""
        return self._ask(_lap, task, seconds)

    def peak_memory(self) -> float:
        """MB that the process has held at most since it was warm."""
        return self._ask(_peak_memory)

    def close(self) -> None:
        self._connection.close()
        self._process.wait()

    def _ask(self, function: Callable, *args: Any) -> Any:
        self._connection.send((function, args))
        try:
            answer = self._connection.recv()
        except EOFError:
            raise RuntimeError(f"the process of {self.name} ended with code {self._process.wait()}") from None
        if isinstance(answer, _Fault):
            raise RuntimeError(f"{self.name}: {answer.text}")
        return answer


def _environment(threads: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN_SETTINGS}
    counts = dict.fromkeys(("OMP_NUM_THREADS", "BLOBNET_NUM_THREADS"), str(threads))
    return {**kept, **counts, "PYTHONPATH": os.pathsep.join(sys.path)}


class _Fault(NamedTuple):
    text: str


class _Holder:
    engine: Any = None


def serve(file: int) -> None:
    """Answer the requests that come through a pipe, until it is closed."""
    connection = Connection(file)
    holder = _Holder()
    while True:
        try:
            function, args = connection.recv()
        except EOFError:
            return
        try:
            answer = function(holder, *args)
        except Exception:
            answer = _Fault(traceback.format_exc())
        connection.send(answer)


def _hold(holder: _Holder, make: Callable, args: Sequence) -> None:
    holder.engine = None
    holder.engine = make(*args)


def _call(holder: _Holder, method: str, args: Sequence) -> Any:
    return getattr(holder.engine, method)(*args)


def _warm_up(holder: _Holder, task: str, seconds: float) -> None:
    holder.engine.run(task)
    Path("/proc/self/clear_refs").write_text("5")
    _lap(holder, task, seconds)


def _lap(holder: _Holder, task: str, seconds: float) -> float:
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        holder.engine.run(task)
        times.append(time.perf_counter() - start)
    return 1000 * median(times)


def _peak_memory(holder: _Holder) -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s*(\d+)", status)[0]) / 1000


def race(workers: Sequence[Worker], task: str, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of the task in each round, for each worker; every one is warmed up first."""
    for worker in workers:
        worker.warm_up(task, seconds)
        time.sleep(PAUSE)
    times: dict[str, list[float]] = {worker.name: [] for worker in workers}
    for _ in range(rounds):
        for worker in workers:
            times[worker.name].append(worker.lap(task, seconds))
            time.sleep(PAUSE)
    return times


class Ratio(NamedTuple):
    """How many times faster than the peer: the median of the rounds, the least and the most."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def ratio(ours: Sequence[float], peer: Sequence[float]) -> Ratio:
    ratios = [theirs / own for own, theirs in zip(ours, peer, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


def best(times: dict[str, list[float]], names: Sequence[str]) -> str:
    """The name of the fastest of some, by its median."""
    return min(names, key=lambda name: median(times[name]))
