"""Updates and searches that run again without Python do what they do when somebody watches and nothing is recorded."""

import contextlib

import numpy as np
import pytest

from blobnet.blob import Blob
from blobnet.errors import BlobnetError
from blobnet.kernels import parallel
from blobnet.solvers import solver as solver_module
from tests.solvers.small import create

NET = """
layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } } }
layer { name: "fixed" type: "InnerProduct" bottom: "x" top: "a" param { lr_mult: 0 } param { lr_mult: 0 decay_mult: 0 }
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "learns" type: "InnerProduct" bottom: "a" top: "b" param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "normal" type: "BatchNorm" bottom: "b" top: "c" }
layer { name: "last" type: "InnerProduct" bottom: "c" top: "d"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "d" bottom: "t" top: "loss" }
"""
RULES = {
    "SGD": "momentum: 0.9",
    "Nesterov": "momentum: 0.9",
    "AdaGrad": "",
    "RMSProp": "rms_decay: 0.9",
    "AdaDelta": "momentum: 0.9 delta: 1e-6",
    "Adam": "momentum: 0.9",
}
SETTINGS = [
    'lr_policy: "inv" gamma: 0.5 power: 0.75 weight_decay: 0.1',
    'lr_policy: "step" stepsize: 2 gamma: 0.1 weight_decay: 0.01 regularization_type: "L1" iter_size: 2',
    'lr_policy: "exp" gamma: 0.7 clip_gradients: 0.5',
]
ITERATIONS = 6


def trained(folder, fields, watched, meddle=lambda solver: None):
    """The solver after its iterations; ``meddle`` is called before each."""
    solver = create(folder, f"random_seed: 3 base_lr: 0.1 snapshot_after_train: false {fields}", NET)
    random = np.random.default_rng(7)
    for _ in range(ITERATIONS):
        solver.net.set_input("x", random.normal(size=(4, 3)))
        solver.net.set_input("t", random.normal(size=(4, 2)))
        meddle(solver)
        with parallel.observed(lambda kernel, seconds: None) if watched else contextlib.nullcontext():
            solver.step(1)
    return solver


def assert_same_bits(solver, other):
    for blob, expected in zip(solver.net.learnable_params, other.net.learnable_params, strict=True):
        assert blob.data.tobytes() == expected.data.tobytes()
        assert blob.diff.tobytes() == expected.diff.tobytes()
    for array, expected in zip(solver.history, other.history, strict=True):
        assert array.tobytes() == expected.tobytes()


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("rule", RULES)
def test_same_bits_as_updates_one_by_one(tmp_path, rule, settings):
    fields = f'type: "{rule}" {RULES[rule]} {settings}'
    assert_same_bits(trained(tmp_path / "a", fields, False), trained(tmp_path / "b", fields, True))


def test_they_are_left_out(tmp_path, monkeypatch):
    called = []
    real = solver_module.parallel_for
    monkeypatch.setattr(solver_module, "parallel_for", lambda *args, **options: called.append(real(*args, **options)))
    solver = trained(tmp_path, "momentum: 0.9", False)
    assert len(called) == 2 * len(solver.net.learnable_params)  # the first time, and to be recorded


def test_weights_that_have_moved_are_updated_where_they_are(tmp_path):
    def move(solver):
        if solver.iter == 4:
            for blob in solver.net.learnable_params:
                elsewhere = Blob(blob.shape, blob.dtype)
                elsewhere.data[...] = blob.data
                blob.share_data(elsewhere)

    fields = "momentum: 0.9 weight_decay: 0.1"
    assert_same_bits(trained(tmp_path / "a", fields, False, move), trained(tmp_path / "b", fields, True))


def test_a_history_that_is_restored_goes_on(tmp_path):
    fields = f'momentum: 0.9 snapshot_prefix: "{tmp_path}/w"'
    solver = trained(tmp_path / "a", fields, False)
    state = solver.snapshot().state
    other = trained(tmp_path / "b", fields, False)
    for array in other.history:
        array[...] = 1
    other.restore(state)
    for each in (solver, other):
        each.step(2)
    assert_same_bits(solver, other)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("position", range(3))
def test_a_gradient_that_is_not_finite_is_still_found(tmp_path, value, position):
    solver = trained(tmp_path, "", False)
    solver.net.layers[3].backward = lambda *_: solver.net.learnable_params[position].gradient.reshape(-1).put(-1, value)
    with pytest.raises(BlobnetError, match="iteration 6: a gradient is not finite"):
        solver.step(1)
