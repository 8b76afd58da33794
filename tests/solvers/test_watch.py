"""Plateau, early stopping: what training does about its progress."""

import logging
import math

import pytest

from blobnet import solvers
from tests.solvers.small import NET, Events, create

SCORED = (
    NET
    + """
layer { name: "score" type: "Input" top: "score" include { phase: TEST } input_param { shape { } } }
"""
)
TESTED = "test_iter: 1 test_interval: 1 max_iter: 20 snapshot_after_train: false"


class Score(solvers.Callback):
    """Gives the test output ``score`` a value for each iteration."""

    def __init__(self, values):
        self.values = values

    def on_forward(self, solver, net):
        if net is not solver.net:
            net.blobs["score"].data[...] = self.values[min(solver.iter, len(self.values) - 1)]


def trained(folder, fields, values):
    events = Events()
    solver = create(folder, f"{TESTED} {fields}", SCORED, callbacks=[Score(values), events])
    solver.solve()
    return solver, events


@pytest.mark.parametrize(
    "fields, values, end",
    [
        ("", [1, 2, 3, 3, 2, 3], 5),  # best at 2, then three tests no better
        ('lower_is_better: "score"', [3, 2, 1, 1, 2, 0.5, 1, 1, 1], 8),
        ("", [math.nan, math.nan, math.nan], 2),
        ("", list(range(30)), 20),
    ],
)
def test_early_stop_after_tests_that_bring_nothing(fields, values, end, tmp_path):
    solver, events = trained(tmp_path, f'early_stop: "score" early_stop_tests: 3 {fields}', values)
    assert solver.iter == end
    assert events.events[-1] == "finish"


def test_early_stop_says_why_and_snapshots(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    fields = 'early_stop: "score" early_stop_tests: 2 snapshot_prefix: "s"'
    solver = create(
        tmp_path,
        f"{TESTED.replace('false', 'true')} {fields}",
        SCORED,
        callbacks=[Score([1, 5, 4, 3])],
    )
    with caplog.at_level(logging.INFO, "blobnet"):
        solver.solve()
    assert "Early stop: score was best in iteration 1 (5) and no better in 2 tests since" in caplog.text
    assert (tmp_path / "s_iter_3.solverstate").exists()
    again = create(tmp_path, f"{TESTED} {fields}", SCORED, callbacks=[Score([1, 5, 4, 3])])
    again.solve(tmp_path / "s_iter_3.solverstate")
    assert again.iter == 3


def test_losses_are_the_better_the_lower(tmp_path):
    solver = create(tmp_path, f'{TESTED} early_stop: "error"', SCORED)
    assert solver.watches["early_stop"].lower


PLATEAU = 'lr_policy: "plateau" gamma: 0.5 base_lr: 1'


def test_plateau_of_a_test_output(tmp_path):
    values = [1, 2, 3, 3, 3, 4, 4, 4, 4]  # better in 0, 1, 2, 5
    fields = f'{PLATEAU} plateau_winsize: [2, 3, 1] plateau_output: "score" display: 1 base_lr: 0.001'
    _, events = trained(tmp_path, fields.replace("base_lr: 1 ", ""), values)
    steps = [round(math.log2(0.001 / record.lr)) for record in events.records[:14]]
    assert steps == [0, 0, 0, 0, 1, 1, 1, 1, 2, 3, 3, 3, 3, 3]


def test_plateau_of_the_training_loss(tmp_path):
    """As in the SSD branch: the rate of an iteration knows the loss of that iteration."""
    net = """
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 } } }
    layer { name: "loss" type: "Reduction" bottom: "x" top: "loss" loss_weight: 1 }
    """
    losses = [5, 4, 4, 4, 3, 3, 3, 3, 3]

    class Feed(solvers.Callback):
        def on_forward(self, solver, net):
            net.blobs["x"].data[...] = losses[solver.iter]

    events = Events()
    fields = f"{PLATEAU} plateau_winsize: 2 plateau_winsize: 3 display: 1 max_iter: 9 snapshot_after_train: false"
    create(tmp_path, fields, net, callbacks=[Feed(), events]).step(9)
    assert [record.lr for record in events.records] == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
