import itertools
import math

import pytest

from blobnet.errors import BlobnetError
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.solvers import lr_policies


def solver_param(fields: str) -> pb.SolverParameter:
    return text.parse(f"base_lr: 0.5\n{fields}", pb.SolverParameter(), "solver.prototxt")


def rates(fields: str, iterations: int) -> list[float]:
    param, step, found = solver_param(fields), 0, []
    for iteration in range(iterations):
        rate, step = lr_policies.learning_rate(param, iteration, step)
        found.append(rate)
    return found


@pytest.mark.parametrize(
    "fields, formula",
    [
        ('lr_policy: "fixed"', lambda i: 0.5),
        ('lr_policy: "step" gamma: 0.25 stepsize: 3', lambda i: 0.5 * 0.25 ** (i // 3)),
        ('lr_policy: "exp" gamma: 0.75', lambda i: 0.5 * 0.75**i),
        ('lr_policy: "inv" gamma: 0.25 power: 0.75', lambda i: 0.5 * (1 + 0.25 * i) ** -0.75),
        ('lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 3', lambda i: 0.5 * 0.5 ** ((i >= 2) + (i >= 3))),
        ('lr_policy: "poly" power: 0.5 max_iter: 8', lambda i: 0.5 * (1 - i / 8) ** 0.5 if i < 8 else 0),
        ('lr_policy: "sigmoid" gamma: 0.5 stepsize: 4', lambda i: 0.5 / (1 + math.exp(-0.5 * (i - 4)))),
        ('lr_policy: "sigmoid" gamma: -0.5 stepsize: 4', lambda i: 0.5 / (1 + math.exp(0.5 * (i - 4)))),
    ],
)
def test_policy_follows_its_formula(fields, formula):
    lr_policies.check(solver_param(fields))
    assert rates(fields, 12) == pytest.approx([formula(i) for i in range(12)], rel=1e-12)


def cosine(share: float) -> float:
    return 0.1 + 0.4 * (1 + math.cos(math.pi * share)) / 2


@pytest.mark.parametrize(
    "fields, lengths",
    [
        ("period: 4", [4, 4, 4, 4]),
        ("period: 2 p_mult: 2", [2, 4, 8]),
        ("period: 3 p_mult: 3", [3, 9]),
    ],
)
def test_cosine_restarts_with_each_cycle(fields, lengths):
    expected = [cosine(i / length) for length in lengths for i in range(length)]
    assert rates(f'lr_policy: "sgdr" min_lr: 0.1 {fields}', len(expected)) == pytest.approx(expected, rel=1e-6)


def test_cosine_without_period_ends_with_the_training():
    expected = [cosine(min(1, i / 5)) for i in range(8)]
    assert rates('lr_policy: "sgdr" min_lr: 0.1 max_iter: 5', 8) == pytest.approx(expected, rel=1e-6)


def test_cycles_are_the_steps_of_the_solverstate():
    param = solver_param('lr_policy: "sgdr" period: 10 p_mult: 2')
    starts = itertools.accumulate([10 * 2**cycle for cycle in range(20)])
    for cycle, start in enumerate(starts, 1):
        assert lr_policies.learning_rate(param, start - 1, 0)[1] == cycle - 1
        assert lr_policies.learning_rate(param, start, 0) == (0.5, cycle)


def test_warm_up_is_a_line_to_base_lr():
    found = rates('lr_policy: "step" gamma: 0.5 stepsize: 6 warmup_iter: 4 warmup_start_lr: 0.1', 7)
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.25], rel=1e-6)


def test_plateau_falls_with_the_steps_counted():
    param = solver_param('lr_policy: "plateau" gamma: 0.5 plateau_winsize: 9')
    assert [lr_policies.learning_rate(param, 100, step) for step in range(3)] == [(0.5, 0), (0.25, 1), (0.125, 2)]


def test_multistep_moves_one_step_an_iteration():
    assert rates('lr_policy: "multistep" gamma: 0.5 stepvalue: 1 stepvalue: 1', 4) == [0.5, 0.25, 0.125, 0.125]


def test_step_counts_for_the_solverstate():
    param = solver_param('lr_policy: "step" gamma: 0.5 stepsize: 4')
    assert lr_policies.learning_rate(param, 9, 0) == (0.125, 2)


@pytest.mark.parametrize("fields", ['lr_policy: "exp" gamma: 1e30', 'lr_policy: "inv" gamma: -1 power: 2'])
def test_overflow_is_infinity(fields):
    assert math.inf in rates(fields, 20)


@pytest.mark.parametrize(
    "fields, line, parts",
    [
        ("", None, ["lr_policy must be one of", "multistep", 'got ""']),
        ('lr_policy: "cosine"', 2, ["fixed", 'got "cosine"; "sgdr" is the cosine policy']),
        ('lr_policy: "sgdr"', 2, ['"sgdr" needs period or max_iter']),
        ('lr_policy: "sgdr" period: 3 p_mult: 0.5', 2, ["p_mult must be 1 or more; got 0.5"]),
        ('lr_policy: "fixed"\nwarmup_iter: -1', 3, ["warmup_iter must be 0 or more; got -1"]),
        ('lr_policy: "plateau" plateau_winsize: 5', None, ["needs gamma above 0"]),
        ('lr_policy: "plateau" gamma: 0.1', None, ["needs plateau_winsize", "got none"]),
        ('lr_policy: "plateau" gamma: 0.1\nplateau_winsize: [3, 0]', 3, ["each above 0; got [3, 0]"]),
        ('lr_policy: "stp"', 2, ['did you mean "step"']),
        ('lr_policy: "step" gamma: 0.1', None, ["stepsize above 0", "got 0"]),
        ('lr_policy: "step"\nstepsize: -2', 3, ["stepsize above 0", "got -2"]),
        ('lr_policy: "sigmoid"', None, ["stepsize above 0"]),
        ('lr_policy: "poly" power: 1', None, ["max_iter above 0"]),
    ],
)
def test_faulty_policy_names_line_rule_and_value(fields, line, parts):
    with pytest.raises(BlobnetError) as caught:
        lr_policies.check(solver_param(fields))
    assert caught.value.file == "solver.prototxt"
    assert line is None or caught.value.line == line
    for part in parts:
        assert part in str(caught.value)


def test_missing_base_lr_is_an_error():
    with pytest.raises(BlobnetError, match="solver.prototxt.*base_lr must be given"):
        lr_policies.check(text.parse('lr_policy: "fixed"', pb.SolverParameter(), "solver.prototxt"))


def test_a_policy_of_ones_own():
    @lr_policies.register("halves", positive=["power"])
    def halves(param, iteration, current_step):
        return param.base_lr * param.power / 2, current_step

    assert rates('lr_policy: "halves" power: 3', 1) == [0.75]
