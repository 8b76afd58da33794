"""Whole trainings recorded from Caffe: data from HDF5, tests, snapshots in both formats, resumes, the log."""

import re
import shutil

import h5py
import numpy as np
import pytest

from blobnet import snapshot, solvers
from blobnet.io import files, weights
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from tests.recorded import ROOT, assert_close
from tests.recorded import files as recorded_files
from tests.solvers.small import Events

FILES = ROOT / "files"
ROUNDING = 1e-7  # what is left of a gradient that is 0: a bias before BatchNorm
TRAININGS = [path.stem.removeprefix("tiny_solver") for path in recorded_files("files", "tiny_solver*.prototxt")]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Prototxts, data and initial weights, in the working folder; what is snapshotted appears beside them."""
    for path in FILES.glob("tiny_*"):
        if "_iter_" not in path.name:
            shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(variant: str, resume=None, **fields) -> Events:
    param = text.read(f"tiny_solver{variant}.prototxt", pb.SolverParameter())
    if resume is None:
        param.weights.append("tiny_init.caffemodel")
    param.MergeFrom(pb.SolverParameter(**fields))
    events = Events()
    solvers.create(param, callbacks=[events]).solve(resume)
    return events


def recorded(variant: str) -> list:
    """The snapshots that Caffe wrote in a training."""
    return [path for path in FILES.glob(f"tiny{variant}_iter_*") if "structure" not in path.name]


def assert_same_snapshot(name: str) -> None:
    if ".solverstate" in name:
        assert_same_state(snapshot.read(name), snapshot.read(FILES / name))
    else:
        assert_same_blobs(weights.read_weights(name), weights.read_weights(FILES / name))
        assert_same_layout(name)


def assert_same_state(found: snapshot.State, expected: snapshot.State) -> None:
    for field in ("iteration", "learned_net", "current_step"):
        assert getattr(found, field) == getattr(expected, field)
    assert_same_blobs({"history": found.history}, {"history": expected.history})


def assert_same_blobs(found, expected) -> None:
    assert list(found) == list(expected)
    for layer, arrays in expected.items():
        assert len(found[layer]) == len(arrays)
        for index, array in enumerate(arrays):
            if np.abs(array).max(initial=0) < ROUNDING:
                assert (
                    found[layer][index].shape == array.shape and np.abs(found[layer][index]).max(initial=0) < ROUNDING
                )
            else:
                assert_close(found[layer][index], array, f"{layer}[{index}]", 2e-5)


def assert_same_layout(name: str) -> None:
    """The same message fields, or the same HDF5 tree; diffs included."""
    if name.endswith(".h5"):
        found, expected = hdf5_tree(name), hdf5_tree(FILES / name)
        assert_same_blobs({"tree": list(found.values())}, {"tree": list(expected.values())})
        assert list(found) == list(expected)
        return
    found, expected = (files.read_message(path, pb.NetParameter()) for path in (name, FILES / name))
    assert blob_diffs(found).keys() == blob_diffs(expected).keys()
    assert_same_blobs(blob_diffs(found), blob_diffs(expected))
    for net in (found, expected):
        for blob in (blob for layer in net.layer for blob in layer.blobs):
            del blob.data[:], blob.diff[:]
    assert found == expected


def blob_diffs(net: pb.NetParameter) -> dict[str, list]:
    return {layer.name: [np.array(blob.diff, np.float32) for blob in layer.blobs] for layer in net.layer}


def hdf5_tree(path) -> dict[str, np.ndarray]:
    members = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, node: members.__setitem__(name, np.array(node if hasattr(node, "shape") else [])))
    return members


@pytest.mark.parametrize("variant", [variant for variant in TRAININGS if variant not in ("_debug", "_resumed")])
def test_training_ends_where_caffe_ended(variant, workplace):
    train(variant)
    written = {path.name for path in workplace.glob(f"tiny{variant}_iter_*")}
    assert len(written) == 4 and {path.name for path in recorded(variant)} <= written
    for path in recorded(variant):
        assert_same_snapshot(path.name)


def test_resumed_from_caffes_own_snapshot(workplace):
    for path in FILES.glob("tiny_iter_5.*"):
        shutil.copy(path, workplace)
    train("_resumed", "tiny_iter_5.solverstate")
    for path in recorded("_resumed"):
        assert_same_snapshot(path.name)


@pytest.mark.parametrize("variant", ["", "_h5"])
def test_resumed_from_our_own_snapshot_to_the_bit(variant, workplace):
    train(variant)
    ending = ".h5" if variant else ""
    model = workplace / f"tiny{variant}_iter_10.caffemodel{ending}"
    state = workplace / f"tiny{variant}_iter_10.solverstate{ending}"
    straight = weights.read_weights(model), snapshot.read(state)
    model.unlink(), state.unlink()
    train(variant, f"tiny{variant}_iter_5.solverstate{ending}")
    resumed = weights.read_weights(model), snapshot.read(state)
    for name, arrays in straight[0].items():
        np.testing.assert_array_equal(
            np.concatenate([a.ravel() for a in arrays] or [[]]),
            np.concatenate([a.ravel() for a in resumed[0][name]] or [[]]),
        )
    assert all(np.array_equal(a, b) for a, b in zip(straight[1].history, resumed[1].history, strict=True))
    assert straight[1].resume == resumed[1].resume


def test_log_lines_hold_caffes_numbers(workplace):
    log = (FILES / "logs" / "train_tiny.txt").read_text()
    losses = [float(value) for value in re.findall(r"Iteration \d+.*, loss = (\S+)", log)]
    rates = [float(value) for value in re.findall(r"Iteration \d+, lr = (\S+)", log)]
    tests = [float(value) for value in re.findall(r"Test net output #\d: \w+ = (\S+)", log)]
    events = train("")
    # Caffe's last test sees BatchNorm averages that its last display has moved; ours sees the saved ones.
    final = (FILES / "logs" / "test_tiny.txt").read_text()
    tests[-2:] = [float(value) for value in re.findall(r"\] (?:accuracy|loss) = (\S+)", final)]
    assert [record.loss for record in events.records] == pytest.approx(losses, rel=1e-5)
    assert [record.lr for record in events.records][:-1] == pytest.approx(rates, rel=1e-5)
    assert [output.value for test in events.tests for output in test.outputs] == pytest.approx(tests, rel=1e-5)


def test_debug_info_holds_caffes_numbers(workplace, caplog):
    with caplog.at_level("INFO", "blobnet"):
        train("_debug")
    found = debug_values("\n".join(record.getMessage() for record in caplog.records))
    expected = debug_values((FILES / "logs" / "train_tiny_debug.txt").read_text())
    # Caffe lists the statistics of BatchNorm, whose gradient is always 0.
    expected = [entry for entry in expected if entry[0] != "[Backward] Layer bn1, param blob"]
    assert [place for place, _ in found] == [place for place, _ in expected]
    for (place, ours), (_, caffes) in zip(found, expected, strict=True):
        assert ours == pytest.approx(caffes, rel=2e-5, abs=ROUNDING), place


def debug_values(log: str) -> list[tuple[str, list[float]]]:
    """(what a line is about, the numbers at its end), for each line of debug_info up to the last backward pass."""
    log = log[: log.index("\n", log.rindex("All net params"))]
    lines = re.findall(r"\[(?:Forward|Backward)\] .*", log)
    places = [re.match(r"\S+ (?:All net params|Layer \S+ (?:top|bottom|param) blob)", line)[0] for line in lines]
    numbers = [re.findall(r"-?\d+\.?\d*(?:e-?\d+)?(?![\w])", line.partition("blob")[2] or line) for line in lines]
    return [(place, [float(value) for value in values]) for place, values in zip(places, numbers, strict=True)]
