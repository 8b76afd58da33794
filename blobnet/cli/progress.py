"""The live line of a training run on a terminal."""

import shutil
import time
from datetime import timedelta
from typing import TextIO

from blobnet.cli.log import CLEAR_LINE
from blobnet.cli.stopwatch import Stopwatch
from blobnet.net import Net
from blobnet.solvers.callbacks import Callback, Output
from blobnet.solvers.solver import Solver

_SECONDS_BETWEEN_DRAWINGS = 0.1
_SMOOTHING = 0.9


class LiveLine(Callback):
    """Iteration, loss, learning rate, images per second and time left, redrawn in place ten times a second."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._seconds_per_iteration = 0.0

    def on_start(self, solver: Solver) -> None:
        self._images = batch_size(solver.net) * solver.param.iter_size
        self._watch = Stopwatch()
        self._drawn = time.monotonic()

    def on_iteration(self, solver: Solver, loss: float) -> None:
        self._watch.lap()
        if time.monotonic() - self._drawn >= _SECONDS_BETWEEN_DRAWINGS:
            self._measure()
            self._draw(solver, loss)

    def on_test(self, solver: Solver, index: int, outputs: list[Output], loss: float | None) -> None:
        self._watch.skip()

    def on_finish(self, solver: Solver) -> None:
        self._stream.write(CLEAR_LINE)
        self._stream.flush()

    def _measure(self) -> None:
        latest = self._watch.seconds / self._watch.iterations
        smoothing = _SMOOTHING if self._seconds_per_iteration else 0.0
        self._seconds_per_iteration = smoothing * self._seconds_per_iteration + (1 - smoothing) * latest
        self._watch.reset()

    def _draw(self, solver: Solver, loss: float) -> None:
        left = timedelta(seconds=round((solver.param.max_iter - solver.iter) * self._seconds_per_iteration))
        line = (
            f"Iteration {solver.iter}/{solver.param.max_iter}  loss {loss:.4g}  lr {solver.lr:.4g}  "
            f"{self._images / self._seconds_per_iteration:.0f} images/s  {left} left"
        )
        self._stream.write(CLEAR_LINE + line[: shutil.get_terminal_size().columns - 1])
        self._stream.flush()
        self._drawn = time.monotonic()


def batch_size(net: Net) -> int:
    """Images of one forward pass: the first extent of the first top that is made from no bottom."""
    return next((top[0].shape[0] for bottom, top in zip(net.bottoms, net.tops, strict=True) if not bottom), 1)
