"""The solver classes with pycaffe's names, around those of ``blobnet.solvers``."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import blobnet.net
import blobnet.solvers
from blobnet.cli.events import DisplayLog, EventLog
from blobnet.context import ANY_MODULE
from blobnet.passes import upgrade
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.pycaffe.net import Net, user_errors
from blobnet.solvers import lr_policies


class Solver:
    """A solver from a prototxt file; each subclass is one update rule, whatever ``type`` the file states."""

    type: ClassVar[str] = ""

    def __init__(self, solver_file: str):
        param = _read(solver_file)
        param.type = self.type or param.type
        with user_errors():
            solver = blobnet.solvers.create(param, callbacks=[EventLog(), DisplayLog()], allowed_modules=[ANY_MODULE])
        self._solver = solver

    @cached_property
    def net(self) -> Net:
        return Net.around(self._solver.net)

    @cached_property
    def test_nets(self) -> list[Net]:
        return [Net.around(net) for net in self._solver.test_nets]

    @property
    def iter(self) -> int:
        """How often the weights have been updated."""
        return self._solver.iter

    @property
    def max_iter(self) -> int:
        return self.param.max_iter

    @property
    def param(self) -> pb.SolverParameter:
        """The solver's settings; a ``base_lr`` written here counts from the next iteration on."""
        return self._solver.param

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return lr_policies.learning_rate(self.param, self.iter, self._solver.current_step)[0]

    def step(self, iterations: int) -> None:
        with user_errors():
            self._solver.step(iterations)

    def solve(self, resume_file: str | None = None) -> None:
        """Train until max_iter, from a solverstate where one is given."""
        with user_errors():
            self._solver.solve(resume_file)

    def apply_update(self) -> None:
        """Update the weights from the gradients in the param diffs."""
        self._solver.apply_update()

    def snapshot(self) -> None:
        """Write the weights and the solverstate."""
        self._solver.snapshot()

    def restore(self, state_file: str) -> None:
        self._solver.restore(state_file)

    def share_weights(self, net: Net) -> None:
        """Let the net use the weights of this solver's net, in the layers of the same names."""
        net.share_with(self.net)

    def add_callback(self, on_start: Callable[[], object], on_gradients_ready: Callable[[], object]) -> None:
        """Call ``on_start()`` before each iteration, and ``on_gradients_ready()`` before each update."""
        self._solver.callbacks.append(_Callbacks(on_start, on_gradients_ready))


class SGDSolver(Solver):
    type = "SGD"


class NesterovSolver(Solver):
    type = "Nesterov"


class AdaGradSolver(Solver):
    type = "AdaGrad"


class RMSPropSolver(Solver):
    type = "RMSProp"


class AdaDeltaSolver(Solver):
    type = "AdaDelta"


class AdamSolver(Solver):
    type = "Adam"


def get_solver(solver_file: str) -> Solver:
    """A solver of the ``type`` that the file states."""
    rules = (SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver, AdamSolver)
    classes: dict[str, type[Solver]] = {rule.type: rule for rule in rules}
    return classes.get(_read(solver_file).type, Solver)(solver_file)


class _Callbacks(blobnet.solvers.Callback):
    """The two moments that pycaffe tells of."""

    def __init__(self, on_start: Callable[[], object], on_gradients_ready: Callable[[], object]):
        self._on_start = on_start
        self._on_gradients_ready = on_gradients_ready
        self._started = False

    def on_forward(self, solver: blobnet.solvers.Solver, net: blobnet.net.Net) -> None:
        if net is solver.net and not self._started:
            self._started = True
            self._on_start()

    def on_gradients(self, solver: blobnet.solvers.Solver) -> None:
        self._started = False
        self._on_gradients_ready()


def _read(solver_file: str | Path) -> pb.SolverParameter:
    return upgrade.upgrade_solver(text.read(solver_file, pb.SolverParameter()), str(solver_file))
