"""on_nan: what is said, and what happens, when a loss or a gradient stops being finite."""

import logging
import math

import numpy as np
import pytest

from blobnet import solvers
from blobnet.errors import BlobnetError
from blobnet.io.weights import read_weights
from tests.solvers.small import Events, create

NET = """
name: "guarded"
layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 1 } } }
layer { name: "first" type: "InnerProduct" bottom: "x" top: "a" inner_product_param { num_output: 3
  weight_filler { type: "constant" value: 0.1 } } }
layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }
layer { name: "root" type: "Power" bottom: "a" top: "b" power_param { power: 0.5 } }
layer { name: "second" type: "InnerProduct" bottom: "b" top: "c" inner_product_param { num_output: 1
  weight_filler { type: "constant" value: 0.1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "c" bottom: "t" top: "loss" }
"""
QUIET = "snapshot_after_train: false"


class Feed(solvers.Callback):
    """Inputs of 1; of ``bad`` from iteration ``since`` on, ``times`` times."""

    def __init__(self, bad=1.0, since=3, times=10**9):
        self.bad, self.since, self.times = bad, since, times

    def on_forward(self, solver, net):
        wrong = solver.iter >= self.since and self.times > 0
        self.times -= wrong
        net.set_input("x", np.full((2, 3), self.bad if wrong else 1.0))
        net.set_input("t", [[1], [2]])


def stopped(solver, iterations=10) -> str:
    with pytest.raises(BlobnetError) as caught:
        solver.step(iterations)
    return str(caught.value)


def params(solver) -> list[np.ndarray]:
    return [blob.data.copy() for blob in solver.net.learnable_params]


@pytest.mark.parametrize("value, word", [(math.nan, "nan"), (math.inf, "inf")])
def test_bad_data_are_named_and_the_weights_stay(value, word, tmp_path):
    solver = create(tmp_path, QUIET, NET, callbacks=[Feed(value)])
    solver.step(3)
    before = params(solver)
    message = stopped(solver)
    assert f"iteration 3: the loss is {word}" in message
    assert 'layer "in" (Input): top blob "x" (2 x 3)' in message
    assert all(np.array_equal(old, new) for old, new in zip(before, params(solver), strict=True))


def test_the_layer_that_overflows_is_named(tmp_path):
    solver = create(tmp_path, QUIET, NET, callbacks=[Feed()])
    solver.net.params["first"][0].data[...] = 3e38
    message = stopped(solver)
    assert 'layer "first" (InnerProduct): top blob "a" (2 x 3)' in message


def test_in_place_layers_are_told_apart(tmp_path):
    net = NET.replace('"ReLU" bottom: "a" top: "a"', '"Exp" bottom: "a" top: "a"')
    solver = create(tmp_path, QUIET, net, callbacks=[Feed(1000.0)])
    assert 'layer "relu" (Exp): top blob "a"' in stopped(solver)


def test_weights_that_are_no_numbers_are_named(tmp_path):
    solver = create(tmp_path, QUIET, NET, callbacks=[Feed()])
    solver.net.params["second"][1].data[...] = math.nan
    assert 'layer "second" (InnerProduct): weights (blob 1)' in stopped(solver)


def test_a_gradient_is_named_where_the_loss_is_finite(tmp_path):
    """The root of 0 has an infinite slope."""
    net = NET.replace('layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }', "")
    solver = create(tmp_path, QUIET, net, callbacks=[Feed(0.0, since=0)])
    message = stopped(solver)
    assert "iteration 0: a gradient is not finite" in message
    assert 'layer "root" (Power): the gradient of bottom blob "a"' in message


def test_the_bad_batch_of_several_is_looked_at(tmp_path):
    solver = create(tmp_path, f"iter_size: 3 {QUIET}", NET, callbacks=[Feed(math.nan, since=2, times=1)])
    assert 'iteration 2: the loss is nan; the first value that is not finite is in layer "in"' in stopped(solver)


def test_warn_says_it_once_and_goes_on_as_caffe(tmp_path, caplog):
    solver = create(tmp_path, f'on_nan: "warn" {QUIET}', NET, callbacks=[Feed(math.nan)])
    with caplog.at_level(logging.WARNING, "blobnet"):
        solver.step(6)
    assert solver.iter == 6 and np.isnan(params(solver)[0]).all()
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == ["iteration 3: the loss is nan"]


def test_looking_changes_nothing(tmp_path):
    """A warned training has the bits of one whose guard sees nothing, random numbers and running means included."""
    extra = """
    layer { name: "norm" type: "BatchNorm" bottom: "x" top: "n" }
    layer { name: "drop" type: "Dropout" bottom: "n" top: "n" }
    layer { name: "sum" type: "Reduction" bottom: "n" top: "sum" loss_weight: 0.1 }
    """
    states = []
    for blind in (False, True):
        solver = create(tmp_path, f'on_nan: "warn" {QUIET}', NET + extra, callbacks=[Feed(math.inf, times=1)])
        if blind:
            solver._guard.check = lambda *args: None
        solver.step(5)
        blobs = [blob.data.tobytes() for layer in solver.net.layers for blob in layer.blobs]
        states.append((blobs, str(solver.net.state())))
    assert states[0] == states[1]


def test_rollback_goes_on_from_the_last_snapshot(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    events = Events()
    fields = 'on_nan: "rollback" snapshot: 2 snapshot_prefix: "s" max_iter: 6'
    solver = create(tmp_path, fields, NET, callbacks=[Feed(math.nan, times=2), events])
    with caplog.at_level(logging.WARNING, "blobnet"):
        solver.solve()
    assert solver.iter == 6 and all(np.isfinite(array).all() for array in params(solver))
    assert sum("rolling back to s_iter_2.solverstate" in record.getMessage() for record in caplog.records) == 2
    iterations = [event for event in events.events if event.startswith("iteration")]
    assert iterations == [f"iteration {i}" for i in (1, 2, 3, 3, 3, 4, 5, 6)]


def test_rollback_meets_other_batches(tmp_path, monkeypatch):
    """Sources go on where they are, so that a batch that is bad for once is not met again."""
    monkeypatch.chdir(tmp_path)
    source = """layer { name: "x" type: "DummyData" top: "x" dummy_data_param {
      shape { dim: 2 dim: 3 } data_filler { type: "uniform" min: 1 max: 2 } } }
    layer { name: "t" type: "DummyData" top: "t" dummy_data_param { shape { dim: 2 dim: 1 } } }"""
    seen = []

    class Spoil(solvers.Callback):
        def on_iteration(self, solver, loss):
            seen.append(solver.net.blobs["x"].data.copy())
            if len(seen) == 3:
                solver.net.params["first"][0].data[...] = math.nan

    net = source + NET[NET.index('layer { name: "first"') :]
    fields = 'on_nan: "rollback" snapshot: 2 snapshot_prefix: "s" max_iter: 6'
    create(tmp_path, fields, net, callbacks=[Spoil()]).solve()
    assert len(seen) == 7  # 1, 2, 3, and again 3, 4, 5, 6
    assert len({array.tobytes() for array in seen}) == 7


def test_rollback_ends_after_three_times(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fields = 'on_nan: "rollback" snapshot: 2 snapshot_prefix: "s"'
    solver = create(tmp_path, fields, NET, callbacks=[Feed(math.nan)])
    assert "rolled back 3 times to s_iter_2.solverstate" in stopped(solver)


def test_no_snapshot_holds_weights_that_overflowed(tmp_path, monkeypatch):
    """The gradient is finite, the step is not."""
    monkeypatch.chdir(tmp_path)
    solver = create(tmp_path, "base_lr: 3e38 snapshot: 1", NET, callbacks=[Feed(10.0)])
    message = stopped(solver)
    assert "no snapshot of weights that are not finite" in message or "the loss is" in message
    for path in tmp_path.glob("*.caffemodel"):
        assert all(np.isfinite(array).all() for arrays in read_weights(path).values() for array in arrays)
    assert 'layer "' in message


def test_rollback_needs_a_snapshot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    solver = create(tmp_path, 'on_nan: "rollback" snapshot: 9', NET, callbacks=[Feed(math.nan)])
    assert "there is no snapshot yet to roll back to" in stopped(solver)


@pytest.mark.parametrize(
    "fields, said",
    [
        ('on_nan: "panic"', 'on_nan must be "stop", "warn" or "rollback"; got "panic"'),
        ('on_nan: "rollback"', "on_nan: rollback needs snapshot above 0"),
    ],
)
def test_faulty_fields(fields, said, tmp_path):
    with pytest.raises(BlobnetError, match=said):
        create(tmp_path, fields, NET)
