"""Whole passes: tests without test_iter, and max_epoch."""

import numpy as np
import pytest

from blobnet import solvers
from blobnet.errors import BlobnetError
from tests import test_resume
from tests.solvers.small import Events, create

data_folder = test_resume.data_folder
EXAMPLES, LABELS = test_resume.EXAMPLES, test_resume.LABELS

SOURCES = {
    "Data": 'data_param { source: "lmdb" backend: LMDB batch_size: %d }',
    "Data, rand_skip": 'data_param { source: "lmdb" backend: LMDB batch_size: %d rand_skip: 7 }',
    "ImageData": 'image_data_param { source: "list.txt" batch_size: %d shuffle: true }',
    "HDF5Data": 'hdf5_data_param { source: "h5_list.txt" batch_size: %d shuffle: true }',
}
REST = """
layer { name: "go" type: "Flatten" bottom: "data" top: "flat" include { phase: TRAIN } }
layer { name: "ip" type: "InnerProduct" bottom: "flat" top: "ip" inner_product_param { num_output: 3 }
  include { phase: TRAIN } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" include { phase: TRAIN } }
layer { name: "silence" type: "Silence" bottom: "data" include { phase: TEST } }
layer { name: "mean" type: "Reduction" bottom: "label" top: "mean" reduction_param { operation: MEAN }
  include { phase: TEST } }
"""
FIELDS = "test_interval: 1 snapshot_after_train: false"


def net(source: str, batch: int) -> str:
    kind = source.partition(",")[0]
    return f'layer {{ name: "data" type: "{kind}" top: "data" top: "label" {SOURCES[source] % batch} }} {REST}'


@pytest.mark.parametrize("batch", [1, 3, 4, 5, 10, 16])
@pytest.mark.parametrize("source", SOURCES)
def test_a_test_without_test_iter_sees_every_example_once(source, batch, data_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(data_folder)
    seen = []

    class Look(solvers.Callback):
        def on_test(self, solver, index, outputs, loss):
            seen.append(outputs[0].value)

    solver = create(tmp_path, FIELDS, net(source, batch), callbacks=[Look()])
    [test_net] = solver.test_nets
    labels = []
    test_net.after_forward.append(
        lambda net, index: labels.extend(net.blobs["label"].data.tolist()) if index == 0 else None
    )
    for _ in range(3):
        solver.test_all()
    assert seen == pytest.approx([LABELS.mean()] * 3, rel=1e-6)
    for start in range(0, 3 * EXAMPLES, EXAMPLES):
        assert sorted(labels[start : start + EXAMPLES]) == sorted(LABELS)
    assert len(labels) == 3 * EXAMPLES


def test_whole_passes_resume(data_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(data_folder)
    fields = "test_interval: 1 max_iter: 4 snapshot: 2"
    straight, again = Events(), Events()
    create(tmp_path, f"{fields} random_seed: 1", net("ImageData", 4), callbacks=[straight]).solve()
    solver = create(tmp_path, f"{fields} random_seed: 2", net("ImageData", 4), callbacks=[again])
    solver.solve(tmp_path / "solver_iter_2.solverstate")
    assert again.tests == straight.tests[2:]


def test_test_iter_given_counts_as_in_caffe(data_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(data_folder)
    solver = create(tmp_path, f"test_iter: 2 {FIELDS}", net("Data", 4))
    [result] = solver.test_all()
    assert result.outputs[0].value == pytest.approx(LABELS[:8].mean())


def test_no_interval_no_test(data_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(data_folder)
    assert create(tmp_path, "snapshot_after_train: false", net("Data", 4)).test_nets == []


def test_data_of_unknown_size_need_test_iter(tmp_path):
    fed = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }'
    solver = create(tmp_path, FIELDS, fed)
    with pytest.raises(BlobnetError, match="solver.prototxt.*test_iter asks for whole passes: .*must be of one size"):
        solver.test_all()


def test_layers_of_two_sizes_need_test_iter(data_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(data_folder)
    other = 'layer { name: "b" type: "Data" top: "b" data_param { source: "lmdb" backend: LMDB batch_size: 2 } }'
    solver = create(tmp_path, FIELDS, net("Data", 4) + other)
    with pytest.raises(BlobnetError, match="must be of one size; got 10 in batches of 2, 10 in batches of 4"):
        solver.test_all()


def test_memory_data_are_known_when_they_are_there(tmp_path):
    memory = """layer { name: "data" type: "MemoryData" top: "data" top: "label"
      memory_data_param { batch_size: 2 channels: 1 height: 1 width: 1 } }"""
    solver = create(tmp_path, FIELDS, memory + REST)
    [test_net] = solver.test_nets
    with pytest.raises(BlobnetError, match="nothing says how many examples"):
        solver.test_all()
    test_net.layers[0].reset(np.zeros((6, 1, 1, 1)), np.arange(6))
    [result] = solver.test_all()
    assert result.outputs[0].value == 2.5


@pytest.mark.parametrize(
    "fields, end",
    [("max_epoch: 2", 5), ("max_epoch: 3 iter_size: 2", 4), ("max_epoch: 2 max_iter: 3", 3), ("max_epoch: 1", 3)],
)
def test_max_epoch_counts_passes_over_the_training_data(fields, end, data_folder, tmp_path, monkeypatch):
    """Ten examples in batches of four."""
    monkeypatch.chdir(data_folder)
    path = tmp_path / "solver.prototxt"
    create(tmp_path, "snapshot_after_train: false", net("Data", 4))
    path.write_text(
        path.read_text().replace("max_iter: 6", "").splitlines()[0] + "\nsnapshot_after_train: false " + fields
    )
    solver = solvers.create(path)
    solver.solve()
    assert solver.iter == solver.param.max_iter == end


def test_poly_ends_with_the_epochs(data_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(data_folder)
    events = Events()
    fields = 'lr_policy: "poly" power: 1 max_epoch: 2 max_iter: 100 display: 1 snapshot_after_train: false'
    create(tmp_path, fields, net("Data", 4), callbacks=[events]).step(5)
    assert [record.lr for record in events.records] == pytest.approx([0.1 * (1 - i / 5) for i in range(5)])
