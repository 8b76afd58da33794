"""What a training run says, worded as Caffe words it: callbacks that turn the solver's events into log lines."""

import logging
from pathlib import Path

from blobnet.solvers.callbacks import Callback, DisplayRecord, Output
from blobnet.solvers.solver import Solver

log = logging.getLogger("blobnet")


def describe_output(output: Output) -> str:
    """``loss = 0.25 (* 1 = 0.25 loss)``: a value of a net's output blob, with its part in the loss where it has one."""
    part = output.loss_weight * output.value
    suffix = f" (* {output.loss_weight:g} = {part:g} loss)" if output.loss_weight else ""
    return f"{output.name} = {output.value:g}{suffix}"


class EventLog(Callback):
    """Tests, snapshots, the end."""

    def __init__(self) -> None:
        self._last_tests: dict[int, str] = {}
        self._model: Path | None = None

    def on_start(self, solver: Solver) -> None:
        log.info("Solving %s", solver.net.name)
        log.info("Learning Rate Policy: %s", solver.param.lr_policy)

    def on_test(self, solver: Solver, index: int, outputs: list[Output], loss: float | None) -> None:
        log.info("Iteration %d, Testing net (#%d)", solver.iter, index)
        if loss is not None:
            log.info("Test loss: %g", loss)
        for number, output in enumerate(outputs):
            log.info("    Test net output #%d: %s", number, describe_output(output))
        values = ", ".join(f"{output.name} = {output.value:g}" for output in outputs)
        self._last_tests[index] = f"Last test, at iteration {solver.iter}: {values}"

    def on_snapshot(self, solver: Solver, model_path: Path, state_path: Path) -> None:
        log.info("Snapshotting to %s and %s", model_path, state_path)
        self._model = model_path

    def on_finish(self, solver: Solver) -> None:
        if solver.iter < solver.param.max_iter:
            log.info("Optimization stopped early, at iteration %d.", solver.iter)
        else:
            log.info("Optimization Done.")
        for line in self._last_tests.values():
            log.info(line)
        if self._model:
            log.info("Weights: %s", self._model)


class DisplayLog(Callback):
    """The lines that ``display: N`` asks for, every N iterations."""

    def __init__(self) -> None:
        self._last: int | None = None

    def on_display(self, solver: Solver, record: DisplayRecord) -> None:
        log.info("Iteration %d%s, loss = %g", record.iteration, self._speed(record), record.loss)
        for number, output in enumerate(record.outputs):
            log.info("    Train net output #%d: %s", number, describe_output(output))
        log.info("Iteration %d, lr = %g", record.iteration, record.lr)
        self._last = record.iteration

    def _speed(self, record: DisplayRecord) -> str:
        if self._last is None:
            return ""
        iterations = record.iteration - self._last
        return f" ({iterations / record.seconds:g} iter/s, {record.seconds:g}s/{iterations} iters)"
