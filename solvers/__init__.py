"""The optimisers: the training loop, the learning-rate policies and one module per update rule.

solver = blobnet.solvers.create("solver.prototxt")
solver.solve()
"""

if __name__ != "blobnet.solvers":
    raise ImportError("import blobnet.solvers, not solvers: a second copy of every class would be made")

from blobnet.solvers import adadelta, adagrad, adam, nesterov, rmsprop, sgd  # noqa: F401  (registers every type)
from blobnet.solvers.callbacks import Action, Callback, DisplayRecord, Output, TestResult
from blobnet.solvers.registry import create, register, solver_types
from blobnet.solvers.solver import Solver

__all__ = [
    "Action",
    "Callback",
    "DisplayRecord",
    "Output",
    "Solver",
    "TestResult",
    "create",
    "register",
    "solver_types",
]
