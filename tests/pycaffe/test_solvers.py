import logging
from pathlib import Path

import numpy as np
import pytest

import blobnet.pycaffe as caffe
from blobnet.errors import BlobnetError


@pytest.fixture
def solver(folder):
    return caffe.SGDSolver("solver.prototxt")


def test_solve_trains_to_the_end(solver):
    assert (solver.iter, solver.max_iter) == (0, 10)
    weights = solver.net.params["score"][0].data.copy()
    solver.solve()
    assert solver.iter == 10
    assert np.abs(solver.net.params["score"][0].data - weights).max() > 0
    assert Path("small_iter_10.caffemodel").is_file()


def test_nets_are_pycaffe_nets_with_shared_weights(solver):
    assert solver.net is solver.net
    assert isinstance(solver.net, caffe.Net)
    assert [net._net.phase for net in solver.test_nets] == [caffe.TEST]
    solver.net.params["score"][0].data[...] = 3
    assert (solver.test_nets[0].params["score"][0].data == 3).all()


def test_nets_outlive_their_solver(solver):
    nets = [solver.net, *solver.test_nets]
    del solver
    assert len(nets) == 2
    assert all(np.isfinite(blob.data.sum() + blob.diff.sum()) for net in nets for blob in net.blobs.values())


def test_step_goes_on(solver):
    solver.step(1)
    solver.step(3)
    assert solver.iter == 4


def test_the_rate_follows_policy_and_base_lr(solver):
    assert solver.lr == pytest.approx(0.1)
    solver.step(4)
    assert solver.lr == pytest.approx(0.05)
    solver.param.base_lr = 1
    assert solver.lr == pytest.approx(0.5)


def test_apply_update_subtracts_rate_times_diff(solver):
    weights = solver.net.layers[1].blobs[0]
    weights.data[...] = 0
    weights.diff[...] = 1
    solver.apply_update()
    np.testing.assert_allclose(weights.data, -0.1, rtol=1e-6)


def test_snapshots_restore(solver):
    solver.step(3)
    assert solver.snapshot() is None
    resumed = caffe.SGDSolver("solver.prototxt")
    resumed.restore("small_iter_3.solverstate")
    assert resumed.iter == 3
    np.testing.assert_array_equal(resumed.net.params["score"][0].data, solver.net.params["score"][0].data)
    caffe.SGDSolver("solver.prototxt").solve("small_iter_3.solverstate")


def test_share_weights_with_a_net(solver):
    net = caffe.Net("deploy.prototxt", caffe.TEST)
    solver.share_weights(net)
    solver.step(1)
    np.testing.assert_array_equal(net.params["filter"][0].data, solver.net.params["filter"][0].data)


def test_callbacks_tell_of_each_iteration(folder):
    text = Path("solver.prototxt").read_text() + "iter_size: 2"
    Path("twice.prototxt").write_text(text.replace("test_iter: 2\ntest_interval: 5", ""))
    solver = caffe.SGDSolver("twice.prototxt")
    calls = []
    solver.add_callback(lambda: calls.append(("start", solver.iter)), lambda: calls.append(("ready", solver.iter)))
    solver.step(2)
    assert calls == [("start", 0), ("ready", 0), ("start", 1), ("ready", 1)]


@pytest.mark.parametrize(
    ("cls", "rule"),
    [
        (caffe.SGDSolver, "SGD"),
        (caffe.NesterovSolver, "Nesterov"),
        (caffe.AdaGradSolver, "AdaGrad"),
        (caffe.RMSPropSolver, "RMSProp"),
        (caffe.AdaDeltaSolver, "AdaDelta"),
        (caffe.AdamSolver, "Adam"),
    ],
)
def test_each_rule_has_a_class_whatever_the_file_states(folder, cls, rule):
    text = Path("solver.prototxt").read_text()
    if rule in ("AdaGrad", "RMSProp"):
        text = text.replace("momentum: 0.9", "")
    Path("typed.prototxt").write_text(text + f'type: "{rule}"')
    Path("untyped.prototxt").write_text(text)
    assert type(caffe.get_solver("typed.prototxt")) is cls
    solver = cls("untyped.prototxt")
    assert solver._solver.type == solver.param.type == rule
    solver.step(1)
    assert solver.iter == 1


def test_get_solver_lifts_old_types(folder):
    Path("old.prototxt").write_text(Path("solver.prototxt").read_text() + "solver_type: NESTEROV")
    assert type(caffe.get_solver("old.prototxt")) is caffe.NesterovSolver


def test_unknown_type_and_missing_file(folder):
    Path("odd.prototxt").write_text(Path("solver.prototxt").read_text() + 'type: "Adm"')
    with pytest.raises(BlobnetError, match='did you mean "Adam"'):
        caffe.get_solver("odd.prototxt")
    with pytest.raises(RuntimeError, match="missing.prototxt"):
        caffe.SGDSolver("missing.prototxt")


def test_training_logs_its_progress(solver, caplog):
    caplog.set_level(logging.INFO, "blobnet")
    solver.step(1)
    assert any(text.startswith("Iteration 0, loss = ") for text in caplog.messages)
    assert any("Test net output #0: cost = " in text for text in caplog.messages)
