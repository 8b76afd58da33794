"""What training does about the progress it makes: drops of the rate on a plateau, early stopping, the best weights.

Each follows one number, a test output or the training loss, and its state stands in the snapshots.
"""

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from blobnet.errors import did_you_mean, error_at
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.solvers.callbacks import Callback, Output

if TYPE_CHECKING:
    from blobnet.solvers.solver import Solver

log = logging.getLogger("blobnet")


class Watch(Callback):
    """Base: follows ``output``, a test output that is the better the higher it is, or the ``lower``.

    best        the best value so far, None before the first; what is no number is never better
    best_iter   the iteration it was seen in
    """

    def __init__(self, output: str, lower: bool):
        self.output = output
        self.lower = lower
        self.best: float | None = None
        self.best_iter = 0

    def see(self, value: float, iteration: int) -> bool:
        """Whether the value is the best one so far."""
        better = not math.isnan(value) and (
            self.best is None or (value < self.best if self.lower else value > self.best)
        )
        if better:
            self.best, self.best_iter = value, iteration
        return better

    def on_test(self, solver: "Solver", index: int, outputs: list[Output], loss: float | None) -> None:
        for output in outputs:
            if output.name == self.output:
                self.judge(solver, self.see(output.value, solver.iter))

    def judge(self, solver: "Solver", better: bool) -> None:
        """The output was tested; ``better``: it is the best one so far."""

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "best_iter": self.best_iter}

    def restore(self, state: dict[str, Any]) -> None:
        self.best, self.best_iter = state["best"], state["best_iter"]


class Plateau(Watch):
    """``lr_policy: "plateau"``: counts a step when the value has not got better for plateau_winsize iterations.

    The n-th step waits for the n-th plateau_winsize, counted from the last step or best value, whatever is later.
    Without ``plateau_output`` the value is the training loss, averaged over average_loss iterations.
    """

    def __init__(self, output: str, lower: bool, windows: Sequence[int]):
        super().__init__(output, lower)
        self._windows = windows
        self._event_iter = 0

    def on_loss(self, solver: "Solver", loss: float) -> None:
        if not self.output:
            self.judge(solver, self.see(loss, solver.iter))
        step = solver.current_step
        if step < len(self._windows) and solver.iter >= self._event_iter + self._windows[step]:
            solver.current_step += 1
            self._event_iter = solver.iter
            log.info("Plateau: %s not below its best in iteration %d", self.output or "loss", self.best_iter)

    def judge(self, solver: "Solver", better: bool) -> None:
        if better:
            self._event_iter = solver.iter

    def state(self) -> dict[str, Any]:
        return {**super().state(), "event_iter": self._event_iter}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._event_iter = state["event_iter"]


class EarlyStop(Watch):
    """``early_stop``: ends the training when so many tests in a row brought nothing better."""

    def __init__(self, output: str, lower: bool, patience: int):
        super().__init__(output, lower)
        self._patience = patience
        self._worse = 0

    def judge(self, solver: "Solver", better: bool) -> None:
        self._worse = 0 if better else self._worse + 1
        if self._worse >= self._patience:
            log.info(
                "Early stop: %s was best in iteration %d (%g) and no better in %d tests since",
                self.output,
                self.best_iter,
                math.nan if self.best is None else self.best,
                self._worse,
            )
            solver.stopped = True

    def state(self) -> dict[str, Any]:
        return {**super().state(), "worse": self._worse}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._worse = state["worse"]


class KeepBest(Watch):
    """``snapshot_best``: writes the weights of the best test so far."""

    def judge(self, solver: "Solver", better: bool) -> None:
        if better:
            log.info("Best %s so far: %g", self.output, self.best)
            solver.save_best()


def watches(param: pb.SolverParameter, test_nets: Sequence[Net]) -> dict[str, Watch]:
    """What a SolverParameter asks for, by the field that does."""
    found: dict[str, Watch] = {}
    if param.lr_policy == "plateau":
        lower = not param.plateau_output or _lower(param, test_nets, "plateau_output")
        found["plateau"] = Plateau(param.plateau_output, lower, param.plateau_winsize)
    if param.early_stop:
        if param.early_stop_tests < 1:
            text = f"early_stop_tests must be 1 or more; got {param.early_stop_tests}"
            raise error_at(param, text, "early_stop_tests")
        lower = _lower(param, test_nets, "early_stop")
        found["early_stop"] = EarlyStop(param.early_stop, lower, param.early_stop_tests)
    if param.snapshot_best:
        found["snapshot_best"] = KeepBest(param.snapshot_best, _lower(param, test_nets, "snapshot_best"))
    return found


def _lower(param: pb.SolverParameter, test_nets: Sequence[Net], field: str) -> bool:
    """Whether the test output that a field names gets better as it falls: losses, and what lower_is_better names."""
    name = getattr(param, field)
    outputs = {output: net for net in reversed(test_nets) for output in net.outputs}
    if name not in outputs:
        known = ", ".join(outputs) or "none"
        hint = did_you_mean(name, outputs)
        raise error_at(param, f'{field} must name an output of a test net: {known}; got "{name}"{hint}', field)
    blob = outputs[name].blobs[name]
    if blob.count != 1:
        raise error_at(param, f'{field} must name an output of one value; "{name}" has {blob.count}', field)
    return outputs[name].loss_weights.get(name, 0) > 0 or name in param.lower_is_better
