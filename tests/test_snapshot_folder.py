"""The folder of snapshots: which one is the newest whole pair, what is kept, and what training does without a disk."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from blobnet import snapshot_folder
from blobnet.errors import BlobnetError
from blobnet.io import files
from blobnet.io.weights import read_weights
from blobnet.solvers import Callback
from tests.solvers.small import NET, Events, create
from tests.test_snapshot import FORMATS, largest_file

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def iterations(folder, ending="caffemodel") -> list[int]:
    return sorted(int(path.name.split("_iter_")[1].split(".")[0]) for path in folder.glob(f"s_iter_*.{ending}*"))


def trained(folder, fields, **options):
    solver = create(folder, f"snapshot_prefix: 's' {fields}", **options)
    solver.solve()
    return solver


# One training at a time

HOLDER = """
import time
from pathlib import Path
from blobnet.io import files
with files.locked(Path(".s.lock")):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_training_with_the_prefix_is_refused_until_the_first_is_gone(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, env={"PYTHONPATH": str(ROOT)})
    try:
        assert holder.stdout.readline() == b"held\n"
        left = tmp_path / ".s_iter_3.solverstate.left.tmp"
        left.mkdir()
        rule = rf"is held by process {holder.pid} on .*, which trains with this snapshot_prefix; wait for it, or give"
        with pytest.raises(BlobnetError, match=rule):
            trained(tmp_path, "snapshot: 2")
        assert left.exists() and iterations(tmp_path) == []
        create(tmp_path, "snapshot: 2 snapshot_prefix: 'other'").solve()
    finally:
        holder.kill()
        holder.communicate()
    trained(tmp_path, "snapshot: 2")
    assert iterations(tmp_path) == [2, 4, 6]
    assert not left.exists() and not (tmp_path / ".s.lock").exists()


def test_a_lock_goes_with_the_training_that_fails(tmp_path):
    with pytest.raises(BlobnetError, match="the loss is inf"):
        trained(tmp_path, "base_lr: 1e30 snapshot: 2 max_iter: 50")
    assert not (tmp_path / ".s.lock").exists()


def test_a_forked_process_does_not_hold_the_lock(tmp_path):
    with files.locked(tmp_path / "lock"):
        child = os.fork()
        if child == 0:
            time.sleep(600)
    try:
        with files.locked(tmp_path / "lock"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_folder_that_is_made_is_named(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "blobnet"):
        create(tmp_path, "snapshot_prefix: 'runs/new/s' max_iter: 1").solve()
    assert "runs/new: no such folder was there; made it" in caplog.text


# The newest whole pair


@pytest.mark.parametrize("form", FORMATS)
def test_newest_by_iteration(form, tmp_path):
    solver = trained(tmp_path, f"snapshot: 2 max_iter: 12 {FORMATS[form]}")
    assert snapshot_folder.newest(solver.snapshot_prefix).name.startswith("s_iter_12.solverstate")


def test_nothing_is_there(tmp_path):
    assert create(tmp_path, "snapshot_prefix: 's'").newest_snapshot() is None
    assert create(tmp_path, "snapshot_prefix: 'none/s'").newest_snapshot() is None


def test_other_prefixes_do_not_count(tmp_path):
    solver = trained(tmp_path, "")
    for name in ("s2_iter_99", "ss_iter_99", "s_iter_99_iter_99", "s_best"):
        shutil.copy(tmp_path / "s_iter_6.solverstate", tmp_path / f"{name}.solverstate")
    assert solver.newest_snapshot().name == "s_iter_6.solverstate"


def halve(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("harm", ["model missing", "state missing", "model halved", "state halved", "state empty"])
def test_a_harmed_pair_is_passed_over(harm, form, tmp_path, caplog):
    solver = trained(tmp_path, f"snapshot: 2 {FORMATS[form]}")
    part, what = harm.split()
    path = next(tmp_path.glob(f"s_iter_6.{'caffemodel' if part == 'model' else 'solverstate'}*"))
    {"missing": path.unlink, "halved": lambda: halve(path), "empty": lambda: path.write_bytes(b"")}[what]()
    assert solver.newest_snapshot().name.startswith("s_iter_4.solverstate")
    assert (harm == "state missing") == (caplog.records == [])


@pytest.mark.parametrize("form", FORMATS)
def test_a_pair_of_two_writings_is_found_out(form, tmp_path):
    """A kill between the two renames, when a snapshot takes the place of another one."""
    solver = trained(tmp_path, f"snapshot: 3 {FORMATS[form]}")
    paths = snapshot_folder.paths(solver.snapshot_prefix, 6, form == "HDF5")
    old_state = paths.state.read_bytes()
    solver.net.params["ip"][0].data[...] += 1
    solver.snapshot()
    paths.state.write_bytes(old_state)
    with pytest.raises(BlobnetError, match=r"s_iter_6.caffemodel.*: its weights were not written with the state"):
        solver.restore(paths.state)
    assert solver.newest_snapshot().name.startswith("s_iter_3.solverstate")


def test_snapshots_of_a_later_iteration_are_warned_of(tmp_path, caplog):
    trained(tmp_path, "max_iter: 8")
    trained(tmp_path, "max_iter: 2")
    [warning] = caplog.records
    assert warning.getMessage().endswith(
        "s_iter_8.solverstate: left by an earlier training; --resume auto would go on from it unless it is moved away"
    )


# Keeping


@pytest.mark.parametrize("form", FORMATS)
def test_so_many_snapshots_are_kept(form, tmp_path):
    trained(tmp_path, f"snapshot: 2 snapshot_keep: 2 max_iter: 9 {FORMATS[form]}")
    assert iterations(tmp_path) == iterations(tmp_path, "solverstate") == [8, 9]


def test_snapshots_of_others_are_left_alone(tmp_path):
    trained(tmp_path, "snapshot: 3 max_iter: 3")
    trained(tmp_path, "snapshot: 2 snapshot_keep: 1 max_iter: 6")
    assert iterations(tmp_path) == [3, 6]


def test_a_resumed_training_removes_what_it_wrote_before(tmp_path):
    trained(tmp_path, "snapshot: 2 snapshot_keep: 2 max_iter: 4")
    solver = create(tmp_path, "snapshot_prefix: 's' snapshot: 2 snapshot_keep: 2 max_iter: 8")
    solver.solve(solver.newest_snapshot())
    assert iterations(tmp_path) == [6, 8]


def test_a_training_resumed_elsewhere_removes_nothing_there(tmp_path):
    trained(tmp_path, "snapshot: 2 max_iter: 4")
    other = create(tmp_path, "snapshot_prefix: 'other/s' snapshot: 2 snapshot_keep: 1 max_iter: 8")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "s_iter_2.caffemodel").write_bytes(b"someone's")
    other.solve(tmp_path / "s_iter_4.solverstate")
    assert iterations(tmp_path) == [2, 4] and iterations(tmp_path / "other") == [2, 8]


class Score(Callback):
    """Makes the test output ``score`` what it should be."""

    def __init__(self, values):
        self.values = list(values)
        self.weights = []

    def on_forward(self, solver, net):
        if net is not solver.net:
            net.blobs["score"].data[...] = self.values[len(self.weights)]
            self.weights.append(solver.net.params["ip"][0].data.copy())


SCORED = (
    NET
    + """
layer { name: "score" type: "Input" top: "score" include { phase: TEST } input_param { shape { } } }
"""
)


@pytest.mark.parametrize(
    "fields, best",
    [("", 3), ('lower_is_better: "score"', 1)],
)
@pytest.mark.parametrize("form", FORMATS)
def test_the_best_weights_stay(form, fields, best, tmp_path):
    scores = Score([0.5, 0.2, float("nan"), 0.7, 0.6, 0.7])
    tested = "test_iter: 1 test_interval: 1 max_iter: 5"
    trained(tmp_path, f'{tested} snapshot_best: "score" {fields} {FORMATS[form]}', net=SCORED, callbacks=[scores])
    kept = read_weights(next(tmp_path.glob("s_best.caffemodel*")))["ip"][0]
    np.testing.assert_array_equal(kept, scores.weights[best])


@pytest.mark.parametrize(
    "fields, said",
    [
        (
            'snapshot_best: "scor"',
            r'snapshot_best must name an output of a test net: error, score; got "scor".*"score"',
        ),
        ('early_stop: "ip"', "early_stop must name an output of a test net"),
        ('early_stop: "score" early_stop_tests: 0', "early_stop_tests must be 1 or more; got 0"),
        ("snapshot_keep: -1", "snapshot_keep must be 0 or more; got -1"),
    ],
)
def test_faulty_fields(fields, said, tmp_path):
    with pytest.raises(BlobnetError, match=rf"solver.prototxt:2: {said}"):
        create(tmp_path, f"test_iter: 1 test_interval: 1 {fields}", SCORED)


# Without a disk


class At(Callback):
    """Does something after an iteration."""

    def __init__(self, iteration, action):
        self.iteration, self.do = iteration, action

    def on_iteration(self, solver, loss):
        if solver.iter == self.iteration:
            self.do()


LARGE = NET.replace("dim: 4 dim: 3", "dim: 4 dim: 3000")


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_that_stays_full(form, tmp_path, caplog):
    """A limit on the size of files stands for it. Training goes on to its end, which is an error."""
    solver = create(tmp_path, f"snapshot_prefix: 's' snapshot: 2 {FORMATS[form]}", LARGE)
    solver.step(2)
    [good] = tmp_path.glob("s_iter_2.solverstate*")
    with largest_file(1000), pytest.raises(BlobnetError, match="the last snapshot is missing: .*File too large"):
        solver.solve()
    assert solver.iter == 6
    missed = [record.getMessage() for record in caplog.records]
    assert [line.partition(": ")[0] for line in missed] == ["Iteration 4", "Iteration 6"]
    assert all("no snapshot, training goes on" in line and "File too large" in line for line in missed)
    assert create(tmp_path, "snapshot_prefix: 's'", LARGE).newest_snapshot().name == good.name
    assert list(tmp_path.glob(".*")) == []


def test_a_full_disk_that_has_room_again(tmp_path, caplog):
    events = Events()
    solver = create(tmp_path, "snapshot_prefix: 's' snapshot: 2", LARGE, callbacks=[events])
    with largest_file(1000):
        solver.step(4)
    solver.solve()
    assert [path.name for path in events.snapshots] == ["s_iter_6.solverstate"]
    assert len(caplog.records) == 2


def test_a_folder_that_is_deleted_comes_back(tmp_path):
    gone = At(3, lambda: shutil.rmtree(tmp_path / "runs"))
    create(tmp_path, "snapshot_prefix: 'runs/s' snapshot: 2", callbacks=[gone]).solve()
    assert iterations(tmp_path / "runs") == iterations(tmp_path / "runs", "solverstate") == [4, 6]


def test_a_folder_that_is_replaced_by_a_file(tmp_path, caplog):
    def replace():
        (tmp_path / "runs").rename(tmp_path / "moved")
        (tmp_path / "runs").write_text("")

    solver = create(tmp_path, "snapshot_prefix: 'runs/s' snapshot: 2", callbacks=[At(3, replace)])
    with pytest.raises(BlobnetError, match="the last snapshot is missing: .*cannot write a snapshot"):
        solver.solve()
    assert solver.iter == 6 and iterations(tmp_path / "moved") == [2]


def test_a_best_that_cannot_be_written_is_missed(tmp_path, caplog):
    fields = 'snapshot_best: "score" test_iter: 1 test_interval: 1 snapshot_prefix: "s" snapshot_after_train: false'
    solver = create(tmp_path, fields, SCORED, callbacks=[Score([1, 2, 3])])
    with largest_file(10):
        solver.step(1)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    solver.step(1)
    assert (tmp_path / "s_best.caffemodel").exists()
