"""Weights as safetensors, alone and beside the other formats."""

import json

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from blobnet import BlobnetError, cli
from blobnet.io import files, weights
from blobnet.io import safetensors as ours
from blobnet.proto import blobnet_pb2 as pb
from blobnet.testing import net_from_text
from tests.recorded import ROOT

TINY = ROOT / "files/tiny_init.caffemodel"

SHARING = """
name: "twins"
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "inner/a.1" type: "InnerProduct" bottom: "x" top: "y" param { name: "w" }
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "y" top: "z" param { name: "w" }
  inner_product_param { num_output: 3 bias_filler { type: "uniform" } } }"""


def same(found, expected):
    assert {name: blobs for name, blobs in found.items() if blobs}.keys() == {
        name for name, blobs in expected.items() if blobs
    }
    for name in expected:
        for blob, other in zip(found.get(name, []), expected[name], strict=True):
            np.testing.assert_array_equal(blob, other)
            assert blob.dtype == other.dtype


def test_a_net_comes_back(tmp_path):
    net = net_from_text(SHARING, seed=1)
    net.save(tmp_path / "net.safetensors")
    with safetensors.safe_open(tmp_path / "net.safetensors", framework="numpy") as file:
        assert sorted(file.keys()) == ["b.1", "inner/a.1.0", "inner/a.1.1"]
        assert file.metadata() == {"name": "twins"}
    copy = net_from_text(SHARING, seed=2)
    report = copy.copy_trained_layers_from(tmp_path / "net.safetensors")
    assert sorted(report.loaded) == ["b", "inner/a.1"]
    for name, blobs in net.params.items():
        for blob, other in zip(blobs, copy.params[name], strict=True):
            np.testing.assert_array_equal(blob.data, other.data)


@pytest.mark.parametrize("ending", ["caffemodel", "h5", "safetensors"])
def test_a_net_saves_in_the_format_of_the_extension(tmp_path, ending):
    net = net_from_text(SHARING.replace('"w"', '""'), seed=1)
    net.save(tmp_path / f"net.{ending}")
    same(
        weights.read_weights(tmp_path / f"net.{ending}"),
        {name: [blob.data for blob in blobs] for name, blobs in net.params.items()},
    )


def test_converted_there_and_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source, target in ((str(TINY), "a.safetensors"), ("a.safetensors", "b.h5"), ("b.h5", "c.safetensors")):
        assert cli.main(["convert_weights", source, target]) == 0
    assert cli.main(["convert_weights", "a.safetensors", "d.caffemodel"]) == 0
    expected = weights.read_weights(TINY)
    for name in ("a.safetensors", "b.h5", "c.safetensors", "d.caffemodel"):
        same(weights.read_weights(name), expected)
    assert files.read_message("d.caffemodel", pb.NetParameter()).name == "tiny"
    assert weights.read_net_name("a.safetensors") == "tiny"
    assert weights.read_net_name("c.safetensors") == ""


def test_a_caffemodel_cannot_leave_a_shared_blob_out(tmp_path, capsys):
    net_from_text(SHARING).save(tmp_path / "net.safetensors")
    assert cli.main(["convert_weights", str(tmp_path / "net.safetensors"), str(tmp_path / "net.caffemodel")]) == 1
    assert 'error: layer "b": shares a blob that another layer holds' in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_types(tmp_path, dtype):
    safetensors.numpy.save_file({"ip.1": np.arange(3, dtype=dtype)}, tmp_path / "w")
    blobs = weights.read_weights(tmp_path / "w")["ip"]
    assert blobs[0] is None
    assert blobs[1].dtype == (np.float64 if dtype is np.float64 else np.float32)
    np.testing.assert_array_equal(blobs[1], [0, 1, 2])


@pytest.mark.parametrize("name", ["weight", "conv.weight", ".0", "conv.-1", "conv.1000"])
def test_tensors_of_other_names(tmp_path, name):
    safetensors.numpy.save_file({name: np.zeros(1)}, tmp_path / "w")
    with pytest.raises(BlobnetError, match=r"w: tensor .* is no blob of a layer"):
        weights.read_weights(tmp_path / "w")


def header(**fields):
    text = json.dumps(fields).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        header(**{"a.0": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}),
        header(**{"a.0": {"dtype": "F32", "shape": [1 << 62], "data_offsets": [0, 4]}}) + bytes(4),
        header(**{"a.0": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}) + bytes(4),
        (20).to_bytes(8, "little") + b'{"a.0": ' + bytes(20),
    ],
)
def test_damaged_files(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    assert ours.is_safetensors(tmp_path / "w")
    with pytest.raises(BlobnetError, match="w: cannot read safetensors"):
        weights.read_weights(tmp_path / "w")


@pytest.mark.parametrize("content", [b"", b"{", (1 << 40).to_bytes(8, "little") + b"{", TINY.read_bytes()])
def test_other_files(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    assert not ours.is_safetensors(tmp_path / "w")
