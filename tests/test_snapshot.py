import contextlib
import json
import logging
import re
import resource
from pathlib import Path

import h5py
import numpy as np
import pytest

from blobnet import snapshot
from blobnet.errors import BlobnetError
from blobnet.io import files, weights
from blobnet.proto import blobnet_pb2 as pb
from blobnet.solvers import Action
from tests.recorded import ROOT
from tests.solvers.small import NET, Events, create, write

FORMATS = {"binary": "", "HDF5": "snapshot_format: HDF5"}
TYPES = ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"]
EXACT = "display: 1 average_loss: 3 test_iter: 2 test_interval: 2 snapshot_prefix: 's' snapshot: 3"


def everything(solver, events) -> tuple:
    params = [blob.data.tobytes() for blob in solver.net.learnable_params]
    records = [(record.iteration, record.loss, record.outputs, record.lr) for record in events.records]
    return solver.iter, params, [array.tobytes() for array in solver.history], records, events.tests


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", TYPES)
def test_a_resumed_training_goes_on_to_the_bit(kind, form, tmp_path, monkeypatch):
    """Data, dropout, history, smoothed losses and tests: the same without the random seed being the same."""
    monkeypatch.chdir(tmp_path)
    fields = f'type: "{kind}" weight_decay: 0.01 {EXACT} {FORMATS[form]} max_iter: 7'
    momentum = "" if kind in ("AdaGrad", "RMSProp") else "momentum: 0.9"
    straight, halves = Events(), Events()
    solver = create(tmp_path, f"{fields} {momentum} random_seed: 1", callbacks=[straight])
    solver.solve()
    [first, *_] = straight.snapshots
    resumed = create(tmp_path, f"{fields} {momentum} random_seed: 2", callbacks=[halves])
    resumed.solve(first)
    tests_before = 2  # at iterations 0 and 2
    straight.records, straight.tests = straight.records[3:], straight.tests[tests_before:]
    assert everything(solver, straight) == everything(resumed, halves)


SOURCES = {
    "Data": """data_param { source: "lmdb_raw" backend: LMDB batch_size: 3 }
               transform_param { mirror: true crop_size: 7 scale: 0.01 }""",
    "ImageData": """image_data_param { source: "list.txt" root_folder: "images/" batch_size: 3 shuffle: true }
                    transform_param { scale: 0.01 }""",
    "HDF5Data": 'hdf5_data_param { source: "h5_list.txt" batch_size: 3 shuffle: true }',
}
LSTM = """
layer { name: "flat" type: "Reshape" bottom: "%s" top: "flat" reshape_param { shape { dim: 3 dim: 1 dim: -1 } } }
layer { name: "go" type: "DummyData" top: "go" dummy_data_param { data_filler { value: 1 } shape { dim: 3 dim: 1 } } }
layer { name: "lstm" type: "LSTM" bottom: "flat" bottom: "go" top: "h"
  recurrent_param { num_output: 2 weight_filler { type: "uniform" min: -0.1 max: 0.1 } } }
layer { name: "loss" type: "Reduction" bottom: "h" top: "loss" loss_weight: 1 }
"""


@pytest.mark.parametrize("kind", SOURCES)
def test_data_go_on_at_the_next_record(kind, tmp_path, monkeypatch):
    """Order, crops and mirrors too, whatever the seed of the resumed net; and the state of a recurrent layer."""
    monkeypatch.chdir(ROOT / "files")
    top = h5_top() if kind == "HDF5Data" else "data"
    net = f'layer {{ name: "in" type: "{kind}" top: "{top}" {SOURCES[kind]} }} {LSTM % top}'
    fields = "max_iter: 9 base_lr: 0.001 display: 1 snapshot: 4 snapshot_after_train: false"
    straight, resumed = Events(), Events()
    create(tmp_path, f"{fields} random_seed: 1", net, callbacks=[straight]).solve()
    create(tmp_path, f"{fields} random_seed: 2", net, callbacks=[resumed]).solve(straight.snapshots[0])
    losses, again = ([record.loss for record in events.records] for events in (straight, resumed))
    assert losses[4:] == again and len(set(losses)) == len(losses)


def h5_top() -> str:
    with h5py.File("h5_0.h5") as file:
        return next(name for name in file if file[name].ndim > 1)


def test_a_snapshot_asked_for_during_a_test_resumes_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    straight, resumed = Events([Action.NONE, Action.SNAPSHOT]), Events()
    create(tmp_path, EXACT, callbacks=[straight]).solve()
    create(tmp_path, EXACT, callbacks=[resumed]).solve(straight.snapshots[0])
    assert straight.tests == resumed.tests


def test_a_stop_during_a_test_resumes_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    straight, resumed = Events(), Events()
    create(tmp_path, EXACT, callbacks=[straight]).solve()
    stopped = create(tmp_path, EXACT, callbacks=[Events([Action.NONE, Action.STOP])])
    stopped.solve()
    create(tmp_path, EXACT, callbacks=[resumed]).solve(tmp_path / "s_iter_0.solverstate")
    assert straight.tests == resumed.tests


@pytest.mark.parametrize("form, ending", [("binary", ""), ("HDF5", ".h5")])
def test_names_and_content_of_the_pair(form, ending, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    solver = create(tmp_path, f'momentum: 0.5 snapshot_prefix: "net" {FORMATS[form]}')
    solver.step(2)
    model, state = solver.snapshot()
    assert (str(model), str(state)) == (f"net_iter_2.caffemodel{ending}", f"net_iter_2.solverstate{ending}")
    np.testing.assert_array_equal(weights.read_weights(model)["ip"][0], solver.net.params["ip"][0].data)
    read = snapshot.read(state)
    assert (read.iteration, read.learned_net, read.current_step) == (2, str(model), 0)
    assert all(np.array_equal(found, own) for found, own in zip(read.history, solver.history, strict=True))


def test_float64_histories_keep_their_digits(tmp_path):
    solver = create(tmp_path, "momentum: 0.5", dtype=np.float64)
    solver.step(1)
    [found, *_] = snapshot.read(solver.snapshot().state).history
    assert found.dtype == np.float64 and np.array_equal(found, solver.history[0])


@pytest.mark.parametrize(
    "prefix, there, expected",
    [
        ("", [], "solver/solver_iter_0"),  # the solver's file
        ("net", [], "work/net_iter_0"),
        ("kept", ["work/kept"], "work/kept/solver_iter_0"),  # a folder
        ("kept", ["solver/kept"], "solver/kept/solver_iter_0"),
        ("kept/net", ["solver/kept"], "solver/kept/net_iter_0"),
        ("kept/net", ["solver/kept", "work/kept"], "work/kept/net_iter_0"),
        ("new/deep/net", [], "work/new/deep/net_iter_0"),
        ("new/deep/", [], "work/new/deep/solver_iter_0"),
    ],
)
def test_where_snapshots_go(prefix, there, expected, tmp_path, monkeypatch):
    for folder in ("work", *there):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    path = write(tmp_path / "solver", f'snapshot_prefix: "{prefix}"')
    monkeypatch.chdir(tmp_path / "work")
    from blobnet import solvers

    model = solvers.create(path).snapshot().model
    assert model.resolve() == tmp_path / f"{expected}.caffemodel" and model.exists()


def test_the_folder_is_made_when_training_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    solver = create(tmp_path, 'snapshot_prefix: "new/net"', callbacks=[folder_seen := FolderSeen(tmp_path / "new")])
    assert not (tmp_path / "new").exists()
    solver.solve()
    assert folder_seen.at_start


def test_what_a_killed_training_left_is_swept_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for left in (".s_iter_3.solverstate.x.tmp", ".other_iter_3.solverstate.x.tmp"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "s_iter_3.caffemodel").write_text("half")
    create(tmp_path, "snapshot_prefix: 's'").solve()
    assert [path.name for path in tmp_path.glob(".*")] == [".other_iter_3.solverstate.x.tmp"]


class FolderSeen(Events):
    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def on_start(self, solver):
        self.at_start = self.folder.is_dir()


def test_a_prefix_in_a_place_that_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BlobnetError, match="^file: cannot write snapshots here: this is a file, .*; move it away"):
        create(tmp_path, 'snapshot_prefix: "file/net"').solve()


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_leaves_the_last_snapshot_whole(form, tmp_path, monkeypatch):
    """A limit on the size of files stands for the end of the disk."""
    monkeypatch.chdir(tmp_path)
    net = NET.replace("dim: 4 dim: 3", "dim: 4 dim: 3000")
    solver = create(tmp_path, f"type: 'Adam' snapshot_prefix: 's' {FORMATS[form]}", net)
    paths = solver.snapshot()
    before = [path.read_bytes() for path in paths]
    solver.net.params["ip"][0].data[...] = 7
    for size, failing in ((1000, paths.model), (len(before[1]) - 1, paths.state)):
        with largest_file(size), pytest.raises(BlobnetError) as caught:
            solver.snapshot()
        assert str(caught.value) == f"{failing}: cannot write: File too large"
        assert [path.read_bytes() for path in paths] == before
        assert list(tmp_path.glob(".*")) == []
    solver.snapshot()
    assert [path.read_bytes() for path in paths] != before


@contextlib.contextmanager
def largest_file(size):
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_a_pair_may_move_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    solver = create(tmp_path, 'snapshot_prefix: "s"')
    paths = solver.snapshot()
    kept = solver.net.params["ip"][0].data.copy()
    (tmp_path / "moved, too").mkdir()
    moved = [path.rename(tmp_path / "moved, too" / path.name) for path in paths]
    other = create(tmp_path, "random_seed: 8 snapshot_prefix: 's'")
    other.snapshot()  # of the same name, and not to be taken
    other.restore(moved[1])
    np.testing.assert_array_equal(other.net.params["ip"][0].data, kept)


def test_caffes_own_state_says_what_it_lacks(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(ROOT / "files")
    from blobnet import solvers

    solver = solvers.create("tiny_solver.prototxt")
    with caplog.at_level(logging.INFO, "blobnet"):
        solver.restore("tiny_iter_5.solverstate")
    assert solver.iter == 5 and solver.current_step == 1
    assert "holds no random state, data positions or losses" in caplog.text


def test_shared_blobs_stand_once_in_hdf5(tmp_path):
    net = NET.replace('name: "ip" type', 'name: "first" type').replace("param { lr_mult: 1 }", 'param { name: "w" }')
    twin = """layer { name: "twin" type: "InnerProduct" bottom: "x" top: "y" param { name: "w" }
                inner_product_param { num_output: 2 bias_term: false } }
              layer { name: "silence" type: "Silence" bottom: "y" }"""
    solver = create(tmp_path, "snapshot_format: HDF5 snapshot_diff: true", net + twin)
    solver.step(1)
    with h5py.File(solver.snapshot().model) as file:
        assert list(file["data/first"]) == ["0", "1"] and list(file["data/twin"]) == []
        assert list(file["diff/twin"]) == ["0"] and list(file["data/drop"]) == []


def state_of(folder, **fields) -> Path:
    """A valid solverstate with some fields changed."""
    solver = create(folder, 'momentum: 0.9 snapshot_prefix: "s"')
    state = pb.SolverState()
    path = solver.snapshot().state
    files.read_message(path, state)
    for field, value in fields.items():
        state.ClearField(field)
        state.MergeFrom(pb.SolverState(**{field: value}))
    files.write_message(path, state)
    return path


def restore_error(folder, path, fields="momentum: 0.9") -> str:
    solver = create(folder, fields)
    with pytest.raises(BlobnetError) as caught:
        solver.restore(path)
    return str(caught.value)


def test_wrong_solver_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = restore_error(tmp_path, state_of(tmp_path), 'type: "Nesterov"')
    assert "s_iter_0.solverstate: was written by a solver of type SGD; this one is Nesterov" in error


def test_wrong_number_of_histories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = state_of(tmp_path, history=[pb.BlobProto(shape=pb.BlobShape(dim=[0]))])
    assert "holds 1 history blobs; SGD needs 2 for this net" in restore_error(tmp_path, path)


def test_wrong_shape_of_a_history(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blobs = [pb.BlobProto(shape=pb.BlobShape(dim=[3]), data=[0, 0, 0])] * 2
    assert "history blob 0 with shape (3,); this net needs (2, 3)" in restore_error(
        tmp_path, state_of(tmp_path, history=blobs)
    )


def test_a_history_with_too_few_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blobs = [pb.BlobProto(shape=pb.BlobShape(dim=[3]), data=[0])] * 2
    assert "history: a blob of shape 3 must hold 3 values" in restore_error(tmp_path, state_of(tmp_path, history=blobs))


def test_missing_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = state_of(tmp_path, learned_net="gone.caffemodel")
    assert "gone.caffemodel: cannot read" in restore_error(tmp_path, path)


@pytest.mark.parametrize("name", [b"\xff.caffemodel", b"s\0.caffemodel"])
def test_weights_named_by_no_text(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = state_of(tmp_path)
    path.write_bytes(path.read_bytes() + b"\x12" + bytes([len(name)]) + name)  # field 2 again: the last one counts
    assert re.search(
        r"s_iter_0.solverstate: .*learned_net .*is no (file name|UTF-8 text)", restore_error(tmp_path, path)
    )


@pytest.mark.parametrize("form", FORMATS)
def test_weights_given_as_state(form, tmp_path):
    solver = create(tmp_path, FORMATS[form])
    model = solver.snapshot().model
    assert "holds weights, not the state of a solver" in restore_error(tmp_path, model)


@pytest.mark.parametrize(
    "resume", ["{", "[]", '{"type": "SGD"}', json.dumps({"type": "SGD", "losses": [1], "train_net": 3})]
)
def test_damaged_resume_field(resume, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "s_iter_0.solverstate: its " in restore_error(tmp_path, state_of(tmp_path, resume=resume))


@pytest.mark.parametrize("form", FORMATS)
def test_truncated_state(form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = create(tmp_path, FORMATS[form]).snapshot().state
    whole = path.read_bytes()
    solver = create(tmp_path)
    for size in [*range(0, min(len(whole), 300), 7), len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(BlobnetError, match=str(path)):
            solver.restore(path)


def test_missing_state(tmp_path):
    assert "nothing.solverstate: cannot read" in restore_error(tmp_path, "nothing.solverstate")


def test_arrays_in_layer_states_survive_json():
    state = {"hidden": np.array([[1.5, np.nan, np.inf]], np.float32), "count": np.int64(3), "nested": [{"x": 1}]}
    back = snapshot._from_json(snapshot._to_json(state), "s.solverstate")
    assert back["hidden"].dtype == np.float32
    np.testing.assert_array_equal(back["hidden"], state["hidden"])
    assert (back["count"], back["nested"]) == (3, [{"x": 1}])
