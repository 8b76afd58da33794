"""Rules for solvers."""

from collections.abc import Iterator

from blobnet.check.findings import ERROR, WARNING, Place, rule
from blobnet.check.subjects import SolverSubject
from blobnet.errors import BlobnetError, did_you_mean, element
from blobnet.solvers import lr_policies, solver_types


@rule(SolverSubject, ERROR)
def unknown_solver(solver: SolverSubject) -> Iterator[Place]:
    """A type of solver that does not exist."""
    known = solver_types()
    if solver.param.type not in known:
        hint = did_you_mean(solver.param.type, known)
        yield solver.param, f'unknown solver type "{solver.param.type}"{hint} (types: {", ".join(known)})', "type"


@rule(SolverSubject, ERROR)
def learning_policy(solver: SolverSubject) -> Iterator[Place]:
    """A learning-rate policy that does not exist or lacks a field."""
    try:
        lr_policies.check(solver.param)
    except BlobnetError as error:
        yield solver.param, error.message, "lr_policy"


@rule(SolverSubject, ERROR)
def no_loss(solver: SolverSubject) -> Iterator[Place]:
    """A train net without a loss."""
    net = solver.train_net
    if net is not None and net.is_whole and not net.losses:
        yield net.param, "the train net has no loss, so that nothing learns; add a loss layer", ""


@rule(SolverSubject, WARNING)
def zero_learning_rate(solver: SolverSubject) -> Iterator[Place]:
    """base_lr 0, or none."""
    if solver.param.base_lr == 0:
        yield solver.param, "base_lr is 0, so that no weight changes; set it, to 0.01 for a start", "base_lr"


@rule(SolverSubject, WARNING)
def no_iterations(solver: SolverSubject) -> Iterator[Place]:
    """Neither max_iter nor max_epoch."""
    if solver.param.max_iter <= 0 and solver.param.max_epoch <= 0:
        yield solver.param, "neither max_iter nor max_epoch is above 0, so that training ends at once", "max_iter"


@rule(SolverSubject, WARNING)
def momentum_of_one(solver: SolverSubject) -> Iterator[Place]:
    """A history that never fades."""
    if not 0 <= solver.param.momentum < 1:
        text = f"momentum must be from 0 to below 1 for old gradients to fade; got {solver.param.momentum:g}"
        yield solver.param, text, "momentum"


@rule(SolverSubject, WARNING)
def step_never_reached(solver: SolverSubject) -> Iterator[Place]:
    """Values of stepvalue that do not ascend, or come after the end."""
    steps, last = list(solver.param.stepvalue), solver.param.max_iter
    for index, step in enumerate(steps):
        if index and step <= steps[index - 1]:
            text = f"stepvalue must ascend; {step} follows {steps[index - 1]}"
            yield solver.param, text, element("stepvalue", index)
        elif 0 < last <= step:
            text = f"stepvalue {step} is never reached: training ends at max_iter {last}"
            yield solver.param, text, element("stepvalue", index)


@rule(SolverSubject, WARNING)
def no_snapshot(solver: SolverSubject) -> Iterator[Place]:
    """A training that leaves nothing behind."""
    if not solver.param.snapshot and not solver.param.snapshot_after_train:
        text = "snapshot is 0 and snapshot_after_train false, so that the trained weights are lost"
        yield solver.param, text, "snapshot_after_train"
