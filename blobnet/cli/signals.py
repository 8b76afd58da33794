"""Signals, as a solver's callback: what a signal asks for is done after the iteration or test batch under way."""

import signal
from types import FrameType

from blobnet.solvers.callbacks import Action, Callback
from blobnet.solvers.solver import Solver


class Signals(Callback):
    """Maps SIGINT and SIGHUP to the given effects, "stop", "snapshot" or "none"; SIGTERM snapshots and stops.

    A second SIGINT after one that stops interrupts at once. A context manager: the handlers last as long as it is open.
    """

    def __init__(self, sigint: str, sighup: str):
        self._actions = {signal.SIGINT: Action[sigint.upper()], signal.SIGTERM: Action.SNAPSHOT | Action.STOP}
        if hasattr(signal, "SIGHUP"):
            self._actions[signal.SIGHUP] = Action[sighup.upper()]
        self._asked = Action.NONE
        self._stopping = False

    def __enter__(self) -> "Signals":
        self._previous = {number: signal.signal(number, self._handle) for number in self._actions}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        action = self._actions[signal.Signals(number)]
        if number == signal.SIGINT and self._stopping:
            raise KeyboardInterrupt
        self._asked |= action
        self._stopping |= Action.STOP in action

    def action(self, solver: Solver) -> Action:
        asked, self._asked = self._asked, Action.NONE
        return asked
