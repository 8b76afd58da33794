"""What a solver tells the outside, and what it asks: logs, progress lines, signals and metrics are callbacks."""

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from blobnet.net import Net
    from blobnet.solvers.solver import Solver


class Action(enum.Flag):
    """What a callback may ask of the solver; SNAPSHOT | STOP asks for both."""

    NONE = 0
    SNAPSHOT = enum.auto()
    STOP = enum.auto()


@dataclass(frozen=True)
class Output:
    """One number that a net puts out: the index-th of all values of its output blobs, in their order."""

    name: str  # of the blob
    index: int
    value: float
    loss_weight: float  # of the blob; 0 where it is no loss


class DisplayRecord(NamedTuple):
    """What is worth a log line every ``display`` iterations."""

    iteration: int
    loss: float  # mean over the last average_loss iterations
    outputs: list[Output]  # of the train net, in the last forward pass
    lr: float
    seconds: float  # since the last record


class TestResult(NamedTuple):
    """Means over the test_iter batches of one test net."""

    outputs: list[Output]
    loss: float | None  # the weighted sum of all losses; only with test_compute_loss


class Callback:
    """Base of all callbacks: every method does nothing until a subclass says otherwise.

    In one iteration the order is: tests when they are due, ``on_forward`` before each of the iter_size forward
    passes, ``on_display`` when it is due, ``on_gradients``, the update, ``on_iteration``, ``action``,
    ``on_snapshot`` when a snapshot is due or asked for.
    """

    def on_start(self, solver: "Solver") -> None:
        """``solve`` begins, after a resume."""

    def on_forward(self, solver: "Solver", net: "Net") -> None:
        """The train net or a test net is about to run forward: the moment to fill its Input blobs."""

    def on_gradients(self, solver: "Solver") -> None:
        """The param diffs hold the gradients summed over iter_size passes; the update comes next."""

    def on_iteration(self, solver: "Solver", loss: float) -> None:
        """The weights are updated and ``solver.iter`` counts it. ``loss``: mean over the iter_size passes."""

    def on_display(self, solver: "Solver", record: DisplayRecord) -> None:
        """Iteration ``record.iteration`` ran forward and backward, and ``display`` divides it."""

    def on_test(self, solver: "Solver", index: int, outputs: list[Output], loss: float | None) -> None:
        """Test net ``index`` ran over its test_iter batches."""

    def on_snapshot(self, solver: "Solver", model_path: Path, state_path: Path) -> None:
        """Both files of a snapshot are on the disk."""

    def on_finish(self, solver: "Solver") -> None:
        """``solve`` ends, at max_iter or early."""

    def action(self, solver: "Solver") -> Action:
        """Asked after each iteration and before each test batch; whatever any callback asks for is done."""
        return Action.NONE
