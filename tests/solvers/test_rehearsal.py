"""The process that helps a first training to compile: what it finds to do, and that nothing depends on it."""

import os
import subprocess
import sys

import numba
import pytest

from blobnet import config, solvers
from blobnet.cli import compiling
from blobnet.kernels import parallel, region
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.solvers import rehearsal
from tests import determinism

SOLVER = """
type: "Nesterov" base_lr: 0.1 lr_policy: "fixed" random_seed: 1
train_net_param {
  layer {
    name: "data" type: "DummyData" top: "x" top: "y"
    dummy_data_param { shape { dim: 4 dim: 3 } data_filler { type: "gaussian" } }
  }
  layer { name: "bias" type: "Bias" bottom: "x" top: "sum" bias_param { filler { type: "gaussian" } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "sum" bottom: "y" top: "loss" }
  layer { name: "file" type: "HDF5Output" bottom: "x" bottom: "y" hdf5_output_param { file_name: "out.h5" } }
}
"""
TRAINING = f"""
from numba.core import event
from blobnet import solvers
from blobnet.proto import blobnet_pb2 as pb, text
with event.install_recorder("numba:compile") as compiled:
    solvers.create(text.parse('''{SOLVER}''', pb.SolverParameter()), lean=True).step(1)
print(*(about.data["dispatcher"].__name__ for _, about in compiled.buffer))
"""


@pytest.fixture
def solver(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return solvers.create(text.parse(SOLVER, pb.SolverParameter()), lean=True)


@pytest.mark.parametrize("model", ["lenet", "mnist_autoencoder", "char_rnn", "resnet20"])
def test_it_calls_the_kernels_of_an_iteration(model):
    solver = solvers.create(determinism.solver_of(model), lean=True, callbacks=[determinism.Feed()])
    ran = {}
    with parallel.observed(lambda kernel, seconds: ran.setdefault(region.starter(kernel))):
        solver.step(1)
    rehearsed = rehearsal.rehearse(rehearsal.script(solver))
    assert set(ran) <= {function for function, _ in rehearsed}
    assert all(types in function.overloads for function, types in rehearsed if function in ran)


@pytest.mark.parametrize(
    ("sizes", "order"),
    [
        ([], []),
        ([1, 1, 1], [2, 1, 0]),
        ([3, 2, 4, 1, 2], [2, 4, 3, 1, 0]),
        ([3, 2, 4, 1, 3, 2, 1], [2, 4, 5, 6, 3, 1, 0]),
        ([3, 2, 6, 1, 2], [4, 3, 2, 1, 0]),  # the training comes to the third one too early
        ([9, 1, 2], [2, 1, 0]),
    ],
)
def test_the_kernel_in_the_middle_comes_first_then_the_largest_behind_it(sizes, order):
    assert rehearsal.order(sizes) == order


def test_it_neither_touches_files_nor_fills_weights(solver):
    net = rehearsal.script(solver).train_net_param
    assert [layer.type for layer in net.layer if not layer.bottom] == ["Input"]
    assert "HDF5Output" not in {layer.type for layer in net.layer}
    assert not any("filler {" in str(layer) for layer in net.layer)


def test_the_training_finds_what_was_compiled(solver, tmp_path, monkeypatch):
    monkeypatch.setenv("BLOBNET_CACHE_DIR", str(tmp_path))
    assert rehearsal.start(solver).wait(timeout=120) == 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", TRAINING]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)
    assert not [name for name in done.stdout.split() if name.startswith("start_")]


@pytest.fixture
def started(monkeypatch):
    """The processes that are started; they take their time."""
    processes = []

    def start(solver):
        processes.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        return processes[-1]

    monkeypatch.setattr(rehearsal, "start", start)
    return processes


@pytest.fixture
def threads():
    before = config.threads()
    yield config.set_threads
    config.set_threads(before)


def compile_two():
    for factor in (2, 3):
        numba.njit(lambda x, factor=factor: factor * x)(1)


def test_one_process_helps_until_the_training_ends(solver, started, threads):
    threads(2)
    with compiling.helped(solver):
        assert not started
        compile_two()
        assert [process.poll() for process in started] == [None]
    assert [process.returncode is None for process in started] == [False]


def test_nobody_helps_on_one_thread_or_where_all_is_compiled(solver, started, threads):
    threads(1)
    with compiling.helped(solver):
        compile_two()
    threads(2)
    solver.step(1)
    with compiling.helped(solver):
        solver.step(1)
    assert not started


def test_a_training_goes_on_without_a_process(solver, threads, monkeypatch):
    def fail(*args, **options):
        raise OSError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", fail)
    threads(2)
    with compiling.helped(solver):
        compile_two()
        solver.step(1)
    assert solver.iter == 1
