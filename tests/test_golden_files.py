"""Files that Caffe wrote, and what Caffe read back from them."""

import h5py
import numpy as np
import pytest

from blobnet.data.database import open_database
from blobnet.data.records import datum_pixels
from blobnet.io import files, mean, weights
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from tests.recorded import ROOT, assert_close, load, load_json

FILES = ROOT / "files"
EXPECTED = FILES / "expected"
DATA_CASES = sorted(path.stem for path in EXPECTED.glob("data_*.npz") if path.stem != "data_memory")
DATABASES = load_json(EXPECTED / "datums.json")
DEPLOYED = sorted(path.stem.removeprefix("deploy_") for path in EXPECTED.glob("deploy_*.npz"))


def build(prototxt: str, phase: int = pb.TEST, **options) -> Net:
    return Net(FILES / prototxt, phase, seed=1, **options)


def database(name: str):
    backend = pb.DataParameter.LEVELDB if "leveldb" in name else pb.DataParameter.LMDB
    return open_database(FILES / name, backend)


@pytest.mark.parametrize("case", DATA_CASES)
def test_batches(case):
    golden = load(EXPECTED / f"{case}.npz")
    net = build(f"{case}.prototxt", pb.TRAIN if case.endswith("train") else pb.TEST)
    for top in net.blobs.values():
        assert top.shape == tuple(golden[f"{top.name}_shape_at_setup"])
    tolerance = 1 / 255 if "jpg" in case or "mixed" in case or "orig" in case else 0
    for run in range(sum(key.startswith("data_") and not key.endswith("setup") for key in golden)):
        net.forward()
        for top in net.blobs.values():
            assert_close(top.data, golden[f"{top.name}_{run}"], f"{top.name} {run}", tolerance)


def test_memory_data():
    golden = load(EXPECTED / "data_memory.npz")
    net = build("data_memory.prototxt")
    assert net.blobs["data"].shape == tuple(golden["data_shape"])
    assert net.blobs["label"].shape == tuple(golden["label_shape_at_setup"])
    net.layers[0].reset(golden["x"], golden["y"])
    for run in range(sum(key.startswith("label_") and not key.endswith("setup") for key in golden)):
        net.forward()
        for top in net.blobs.values():
            assert_close(top.data, golden[f"{top.name}_{run}"], f"{top.name} {run}", 0)


@pytest.mark.parametrize("name", [name for name in DATABASES if (FILES / name).is_dir()])
def test_database_records(name):
    records = list(database(name).records())
    assert [key.decode() for key, _ in records] == [header["key"] for header in DATABASES[name]]
    for (_, value), header in zip(records, DATABASES[name], strict=True):
        datum = pb.Datum.FromString(value)
        assert (datum.channels, datum.height, datum.width) == (header["channels"], header["height"], header["width"])
        assert (datum.label, datum.encoded) == (header["label"], header["encoded"])
        assert (len(datum.data), len(datum.float_data)) == (header["data_bytes"], header["n_float"])
        assert list(datum.data[: len(header["data_head"])]) == header["data_head"]


@pytest.mark.parametrize(("name", "blob"), [("feat_lmdb", "pool1"), ("feat_lmdb2", "ip"), ("feat_leveldb", "ip")])
def test_extracted_features(name, blob):
    net = build("feat.prototxt", weights=FILES / "tiny_iter_10.caffemodel")
    runs = [net.forward(blobs=[blob])[blob].copy() for _ in range(3)]
    for (_, value), computed in zip(database(name).records(), np.concatenate(runs), strict=True):
        features = datum_pixels(pb.Datum.FromString(value), None, name)
        assert_close(computed.reshape(features.shape), features, blob)


@pytest.mark.parametrize("model", DEPLOYED)
def test_deployed_net(model):
    suffix = ".caffemodel.h5" if "_h5" in model else ".caffemodel"
    run_deployed("tiny_deploy.prototxt", model + suffix, load(EXPECTED / f"deploy_{model}.npz"))


def test_v1_net():
    run_deployed("v1_deploy.prototxt", "v1.caffemodel", load(EXPECTED / "v1.npz"))
    run_deployed("v1_deploy_upgraded.prototxt", "v1_upgraded.caffemodel", load(EXPECTED / "v1.npz"))


def run_deployed(prototxt: str, model: str, golden: dict) -> None:
    net = build(prototxt, weights=FILES / model)
    net.forward(**{net.inputs[0]: golden["input"]})
    for key, expected in golden.items():
        kind, *name = key.split("__")
        if kind == "blob":
            assert_close(net.blobs[name[0]].data, expected, key)
        elif kind == "param":
            assert_close(net.params[name[0]][int(name[1])].data, expected, key, 0)


def test_mean_image(tmp_path):
    golden = load(EXPECTED / "mean.npz")
    image = mean.read_mean(FILES / "mean.binaryproto")
    np.testing.assert_array_equal(image, golden["mean"][0])
    mean.write_mean(tmp_path / "mean.binaryproto", image)
    assert (tmp_path / "mean.binaryproto").read_bytes() == (FILES / "mean.binaryproto").read_bytes()


def test_hdf5_output(tmp_path, monkeypatch):
    (tmp_path / "expected").mkdir()
    monkeypatch.chdir(tmp_path)
    net = build("hdf5_output.prototxt")
    net.forward()
    with h5py.File(tmp_path / "expected/hdf5_output.h5") as found, h5py.File(EXPECTED / "hdf5_output.h5") as golden:
        assert sorted(found) == sorted(golden)
        for name in golden:
            assert found[name].dtype == golden[name].dtype
            assert_close(found[name][()], golden[name][()], name, 0)


@pytest.mark.parametrize("path", sorted(FILES.glob("*.caffemodel.h5")), ids=lambda path: path.name)
def test_hdf5_weights_are_written_as_caffe_writes_them(path, tmp_path):
    with h5py.File(path) as file:
        parts = {
            part: [(layer, [group[index][()] for index in sorted(group)]) for layer, group in file[part].items()]
            for part in file
        }
    weights.write_hdf5(tmp_path / "copy.h5", parts["data"], parts.get("diff"))
    assert tree(tmp_path / "copy.h5") == tree(path)
    assert_same_weights(weights.read_weights(tmp_path / "copy.h5"), weights.read_weights(path))


@pytest.mark.parametrize("path", sorted(FILES.glob("*.caffemodel")), ids=lambda path: path.name)
def test_caffemodels_are_written_as_caffe_writes_them(path, tmp_path):
    weights.write_caffemodel(tmp_path / "copy", files.read_message(path, pb.NetParameter()))
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()


def test_binary_and_hdf5_weights_agree():
    assert_same_weights(
        weights.read_weights(FILES / "tiny_init.caffemodel"), weights.read_weights(FILES / "tiny_init.caffemodel.h5")
    )


def assert_same_weights(found: dict, expected: dict) -> None:
    assert sorted(found) == sorted(expected)
    for layer in expected:
        for blob, other in zip(found[layer], expected[layer], strict=True):
            np.testing.assert_array_equal(blob, other)


def tree(path) -> list:
    """Every member of an HDF5 file with its type and shape."""
    members = []

    def note(name, item):
        members.append((name, getattr(item, "dtype", None), getattr(item, "shape", None)))

    with h5py.File(path) as file:
        file.visititems(note)
    return members
