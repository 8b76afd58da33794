"""How fast a training runs, tests not counted."""

import time


class Stopwatch:
    """Iterations since the last reset, and the seconds that they took."""

    def __init__(self) -> None:
        self._now = time.monotonic()
        self.reset()

    def lap(self) -> None:
        """An iteration is done."""
        before, self._now = self._now, time.monotonic()
        self.iterations += 1
        self.seconds += self._now - before

    def skip(self) -> None:
        """What ran since the last lap was no training."""
        self._now = time.monotonic()

    def reset(self) -> None:
        self.iterations, self.seconds = 0, 0.0

    @property
    def seconds_per_iteration(self) -> float | None:
        """None before the first lap."""
        return self.seconds / self.iterations if self.iterations else None
