"""Exact resume over the table: six solvers x five sources x five nets, prefetching on, in whatever way they mix.

What a source needs from its user: Data, ImageData and HDF5Data nothing; MemoryData the same arrays again, before or
after the resume; Input whatever the program fed at that iteration.
"""

from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from blobnet import snapshot, solvers
from blobnet.data.lmdb import write_database
from blobnet.errors import BlobnetError
from blobnet.proto import blobnet_pb2 as pb
from blobnet.solvers import resume
from tests.solvers.small import Events

EXAMPLES, BATCH, SIDE, CLASSES = 10, 3, 5, 3
PIXELS = np.random.default_rng(3).integers(0, 256, (EXAMPLES, 1, SIDE, SIDE), np.uint8)
LABELS = np.arange(EXAMPLES) % CLASSES

SOLVERS = {
    "SGD": "momentum: 0.9 weight_decay: 0.01",
    "Nesterov": "momentum: 0.9 regularization_type: 'L1' weight_decay: 0.001",
    "AdaGrad": "",
    "RMSProp": "rms_decay: 0.9",
    "AdaDelta": "momentum: 0.95 delta: 1e-6",
    "Adam": "momentum: 0.9",
}

TRANSFORM = "transform_param { scale: 0.01 mirror: true crop_size: 4 mean_value: 100 }"
SOURCES = {
    "Data": f'data_param {{ source: "lmdb" backend: LMDB batch_size: {BATCH} rand_skip: 4 }} {TRANSFORM}',
    "ImageData": f"""image_data_param {{ source: "list.txt" batch_size: {BATCH} shuffle: true is_color: false }}
                     {TRANSFORM}""",
    "HDF5Data": f'hdf5_data_param {{ source: "h5_list.txt" batch_size: {BATCH} shuffle: true }}',
    "MemoryData": f"memory_data_param {{ batch_size: {BATCH} channels: 1 height: {SIDE} width: {SIDE} }}",
    "Input": f"input_param {{ shape {{ dim: {BATCH} dim: 1 dim: {SIDE} dim: {SIDE} }} shape {{ dim: {BATCH} }} }}",
}

FILLER = 'weight_filler { type: "gaussian" std: 0.3 }'
HIDDEN = f"""
layer {{ name: "hidden" type: "InnerProduct" bottom: "data" top: "h" inner_product_param {{ num_output: 4 {FILLER} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "h" top: "h" }}
"""
DROPOUT = 'layer { name: "drop" type: "Dropout" bottom: "h" top: "h" dropout_param { dropout_ratio: 0.3 } }'
NORM = """
layer { name: "norm" type: "BatchNorm" bottom: "h" top: "h" }
layer { name: "scale" type: "Scale" bottom: "h" top: "h" scale_param { bias_term: true } }
"""
LSTM = f"""
layer {{ name: "steps" type: "Reshape" bottom: "data" top: "steps"
  reshape_param {{ shape {{ dim: {BATCH} dim: 1 dim: -1 }} }} }}
layer {{ name: "go" type: "DummyData" top: "go"
  dummy_data_param {{ data_filler {{ value: 1 }} shape {{ dim: {BATCH} dim: 1 }} }} }}
layer {{ name: "lstm" type: "LSTM" bottom: "steps" bottom: "go" top: "states"
  recurrent_param {{ num_output: 4 {FILLER} }} }}
layer {{ name: "flat" type: "Reshape" bottom: "states" top: "h" reshape_param {{ shape {{ dim: {BATCH} dim: -1 }} }} }}
"""
LOSS = f"""
layer {{ name: "score" type: "InnerProduct" bottom: "h" top: "score"
  inner_product_param {{ num_output: {CLASSES} {FILLER} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }}
layer {{ name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy" include {{ phase: TEST }} }}
"""
BODIES = {
    "plain": (HIDDEN, ""),
    "dropout": (HIDDEN + DROPOUT, ""),
    "BatchNorm": (HIDDEN + NORM, ""),
    "iter_size 2": (HIDDEN, "iter_size: 2"),
    "LSTM": (LSTM, ""),
}

ITERATIONS, CUT = 7, 3
COMMON = f"""
net: "net.prototxt" base_lr: 0.05 lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 5 clip_gradients: 5
max_iter: {ITERATIONS} display: 1 average_loss: 4 test_iter: 2 test_interval: 2 snapshot: {CUT}
"""


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    records = [
        pb.Datum(channels=1, height=SIDE, width=SIDE, data=pixels.tobytes(), label=label).SerializeToString()
        for pixels, label in zip(PIXELS, LABELS, strict=True)
    ]
    write_database(folder / "lmdb", [(b"%03d" % number, record) for number, record in enumerate(records)])
    for number, pixels in enumerate(PIXELS):
        Image.fromarray(pixels[0]).save(folder / f"{number}.png")
    (folder / "list.txt").write_text("".join(f"{number}.png {label}\n" for number, label in enumerate(LABELS)))
    for name, part in (("a.h5", slice(0, 4)), ("b.h5", slice(4, None))):
        with h5py.File(folder / name, "w") as file:
            file["data"], file["label"] = PIXELS[part] / np.float32(255), LABELS[part].astype(np.float32)
    (folder / "h5_list.txt").write_text("a.h5\nb.h5\n")
    return folder


class Feed(solvers.Callback):
    """Fills Input blobs with what belongs to the iteration and the pass within it."""

    def __init__(self):
        self.passes = 0

    def on_forward(self, solver, net):
        rows = [(solver.iter * 2 + self.passes * BATCH + index) % EXAMPLES for index in range(BATCH)]
        net.set_input("data", PIXELS[rows] / 255)
        net.set_input("label", LABELS[rows])
        self.passes += 1

    def on_iteration(self, solver, loss):
        self.passes = 0

    def on_test(self, solver, index, outputs, loss):
        self.passes = 0


def give_data(solver) -> None:
    for net in (solver.net, *solver.test_nets):
        net.layers[0].reset(PIXELS[:9] / 255, LABELS[:9])


def make(folder: Path, source: str, body: str, kind: str, seed: int, extra: str = "", common: str = COMMON):
    """A solver and the events it will tell."""
    layers, fields = BODIES[body]
    folder.mkdir(exist_ok=True)
    data = f'layer {{ name: "data" type: "{source}" top: "data" top: "label" {SOURCES[source]} }}'
    (folder / "net.prototxt").write_text(data + layers + LOSS)
    path = folder / "solver.prototxt"
    path.write_text(f"{common} type: '{kind}' {SOLVERS[kind]} {fields} random_seed: {seed} {extra}")
    events = Events()
    solver = solvers.create(path, callbacks=[events, Feed()] if source == "Input" else [events], lean=True)
    if source == "MemoryData":
        give_data(solver)
    return solver, events


def everything(solver, events) -> tuple:
    """Weights, history and all that the next iterations depend on, to the bit; and what was displayed and tested."""
    params = [blob.data.tobytes() for layer in solver.net.layers for blob in layer.blobs]
    records = [record[:-1] for record in events.records]
    moment = {**resume.moment(solver), "snapshots": None}
    history = [array.tobytes() for array in solver.history]
    return params, history, snapshot._to_json(moment), records, events.tests


@pytest.mark.parametrize("kind", SOLVERS)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("source", SOURCES)
def test_stopped_and_resumed_is_straight(source, body, kind, data_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(data_folder)
    straight, seen = make(tmp_path / "straight", source, body, kind, seed=1)
    straight.solve()
    resumed, seen_again = make(tmp_path / "resumed", source, body, kind, seed=2)
    resumed.solve(tmp_path / "straight" / f"solver_iter_{CUT}.solverstate")
    tests_before = 2  # in iterations 0 and 2
    seen.records, seen.tests = seen.records[CUT:], seen.tests[tests_before:]
    assert len(seen.tests) == 2
    assert everything(resumed, seen_again) == everything(straight, seen)


@pytest.mark.parametrize("cut", range(1, ITERATIONS + 1))
def test_every_iteration_is_a_place_to_cut(cut, data_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(data_folder)
    straight, _ = make(tmp_path / "straight", "Data", "dropout", "Adam", seed=1, extra="snapshot_format: HDF5")
    straight.solve()
    first, _ = make(tmp_path / "first", "Data", "dropout", "Adam", seed=1, extra="snapshot_format: HDF5")
    first.step(cut)
    state = first.snapshot().state
    second, _ = make(tmp_path / "second", "Data", "dropout", "Adam", seed=2)
    second.solve(state)
    unseen = Events()
    assert everything(second, unseen) == everything(straight, unseen)


def test_arrays_may_come_after_the_resume(data_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(data_folder)
    straight, _ = make(tmp_path / "straight", "MemoryData", "plain", "SGD", seed=1)
    straight.solve()
    resumed, _ = make(tmp_path / "resumed", "MemoryData", "plain", "SGD", seed=2)
    fresh = solvers.create(tmp_path / "resumed" / "solver.prototxt")
    fresh.restore(tmp_path / "straight" / f"solver_iter_{CUT}.solverstate")
    give_data(fresh)
    fresh.solve()
    unseen = Events()
    assert everything(fresh, unseen) == everything(straight, unseen)


PLATEAU = 'plateau_winsize: 2 plateau_winsize: 1 plateau_output: "accuracy" early_stop: "loss" early_stop_tests: 3'


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_watches_go_on(cut, data_folder, tmp_path, monkeypatch):
    """The best values and the waits of a plateau and of an early stop stand in the snapshot."""
    monkeypatch.chdir(data_folder)
    common = COMMON.replace('"multistep"', '"plateau"').replace("test_interval: 2", "test_interval: 1")

    def made(name, seed):
        return make(tmp_path / name, "Data", "plain", "SGD", seed, PLATEAU, common)

    straight, seen = made("straight", 1)
    straight.solve()
    assert straight.current_step > 0
    first, _ = made("first", 1)
    first.step(cut)
    second, seen_again = made("second", 2)
    second.solve(first.snapshot().state)
    assert [record[:-1] for record in seen_again.records] == [record[:-1] for record in seen.records[cut:]]
    assert (second.iter, second.current_step) == (straight.iter, straight.current_step)


def refused(solver, path) -> str:
    with pytest.raises(BlobnetError) as caught:
        solver.restore(path)
    return str(caught.value)


def test_another_net_is_refused(data_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(data_folder)
    plain, _ = make(tmp_path / "plain", "Data", "plain", "SGD", seed=1)
    state = plain.snapshot().state
    for body, name in (("dropout", '"drop"'), ("BatchNorm", '"norm", "scale"')):
        other, _ = make(tmp_path / body, "Data", body, "SGD", seed=1)
        assert f"was written for another net: layers only there: none; only here: {name}" in refused(other, state)


def test_weights_of_another_net_are_refused(data_folder, tmp_path, monkeypatch):
    """Caffe's own state names no layers, so that the weights must tell."""
    monkeypatch.chdir(data_folder)
    solver, _ = make(tmp_path / "plain", "Data", "plain", "SGD", seed=1)
    paths = solver.snapshot()
    other, _ = make(tmp_path / "lstm", "Data", "LSTM", "SGD", seed=1)
    with pytest.raises(BlobnetError, match='another net: layers only there: "lstm"; only here: "hidden"'):
        solver.restore(paths.state, other.snapshot().model)


def test_changed_weights_need_to_be_asked_for(data_folder, tmp_path, monkeypatch):
    """Net surgery between two halves of a training."""
    monkeypatch.chdir(data_folder)
    solver, _ = make(tmp_path / "plain", "Data", "plain", "SGD", seed=1)
    solver.step(2)
    paths = solver.snapshot()
    solver.net.params["score"][0].data[...] = 0.25
    snapshot.write_weights(paths.model, solver.net, as_hdf5=False)
    again, _ = make(tmp_path / "plain", "Data", "plain", "SGD", seed=1)
    assert "its weights were not written with the state" in refused(again, paths.state)
    again.restore(paths.state, paths.model)
    assert again.iter == 2 and (again.net.params["score"][0].data == 0.25).all()
