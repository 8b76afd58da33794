import h5py
import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.io import blob_proto, files, weights
from blobnet.proto import blobnet_pb2 as pb
from blobnet.testing import net_from_text
from tests.recorded import ROOT


def layer(name, *arrays, **fields):
    return pb.LayerParameter(name=name, type="InnerProduct", blobs=map(blob_proto.from_array, arrays), **fields)


def test_caffemodels_of_every_age(tmp_path):
    w = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    legacy = pb.BlobProto(num=1, channels=1, height=2, width=3, data=w.ravel())
    v1 = pb.V1LayerParameter(name="ip", type=pb.V1LayerParameter.INNER_PRODUCT, blobs=[legacy])
    v0 = pb.V1LayerParameter(
        layer=pb.V0LayerParameter(name="ip", type="innerproduct", num_output=2, blobs=[legacy]), top=["y"]
    )
    for net in (
        pb.NetParameter(layer=[layer("ip", w)]),
        pb.NetParameter(layers=[v1]),
        pb.NetParameter(layers=[v0]),
    ):
        files.write_message(tmp_path / "net", net)
        found = weights.read_weights(tmp_path / "net")
        assert list(found) == ["ip"]
        np.testing.assert_array_equal(found["ip"][0], w)


def test_a_blob_that_does_not_fit_its_shape_names_file_and_layer(tmp_path):
    net = pb.NetParameter(layer=[layer("ip", np.ones(3, np.float32))])
    net.layer[0].blobs[0].shape.dim[0] = 4
    files.write_message(tmp_path / "net", net)
    with pytest.raises(BlobnetError, match=r'net: layer "ip" \(InnerProduct\): .* must hold 4 values; got 3'):
        weights.read_weights(tmp_path / "net")


@pytest.mark.parametrize("kept", [0, 7, 100, 1000, 2046])
def test_a_truncated_caffemodel_is_an_error(tmp_path, kept):
    whole = (ROOT / "files/tiny_init.caffemodel").read_bytes()
    (tmp_path / "net").write_bytes(whole[:kept])
    with pytest.raises(BlobnetError, match="truncated|holds no field"):
        weights.read_weights(tmp_path / "net")


@pytest.mark.parametrize("part", [0.3, 0.6, 0.99])
def test_a_truncated_hdf5_file_is_an_error(tmp_path, part):
    whole = (ROOT / "files/tiny_init.caffemodel.h5").read_bytes()
    (tmp_path / "net.h5").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(BlobnetError, match="cannot read HDF5"):
        weights.read_weights(tmp_path / "net.h5")


def test_hdf5_leaves_shared_blobs_with_their_owner(tmp_path):
    w, b = np.ones((2, 3), np.float32), np.zeros(2, np.float32)
    weights.write_hdf5(tmp_path / "net", [("own", [w, b]), ("relu", []), ("half", [None, b]), ("none", [None, None])])
    with h5py.File(tmp_path / "net") as file:
        assert {name: sorted(group) for name, group in file["data"].items()} == {
            "own": ["0", "1"],
            "relu": [],
            "half": ["1"],
            "none": [],
        }
        assert "diff" not in file
    found = weights.read_weights(tmp_path / "net")
    assert [blob is None for blob in found["half"]] == [True, False]
    assert found["none"] == found["relu"] == []


def test_a_slash_in_a_layer_name_makes_a_group(tmp_path):
    names = ["inception_3a", "inception_3a/1x1", "inception_3a/relu_1x1", "inception_3a/deep/er"]
    layers = [(name, [np.full(2, number, np.float32)]) for number, name in enumerate(names)]
    weights.write_hdf5(tmp_path / "net", layers, layers)
    found = weights.read_weights(tmp_path / "net")
    assert {name: found[name][0].tolist() for name in names} == {name: blobs[0].tolist() for name, blobs in layers}


def test_a_cycle_of_groups_is_refused(tmp_path):
    with h5py.File(tmp_path / "net", "w") as file:
        group = file.create_group("data/a")
        group["again"] = group
    with pytest.raises(BlobnetError, match="has two names"):
        weights.read_weights(tmp_path / "net")


@pytest.mark.parametrize("name", ["data/a/weights", "data/a/-1", "data/a/99999999", "data/0"])
def test_members_that_are_no_blobs_are_refused(tmp_path, name):
    with h5py.File(tmp_path / "net", "w") as file:
        file[name] = [1.0]
    with pytest.raises(BlobnetError, match="is no blob of a layer"):
        weights.read_weights(tmp_path / "net")


def test_an_hdf5_file_of_another_kind_is_an_error(tmp_path):
    with h5py.File(tmp_path / "net", "w") as file:
        file["images"] = [1.0]
    with pytest.raises(BlobnetError, match='"data/" is missing'):
        weights.read_weights(tmp_path / "net")


SHARING = """layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "y" param { name: "w" } param { name: "b" }
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "y" top: "z" param { name: "w" } param { %s }
  inner_product_param { num_output: 3 bias_filler { type: "uniform" } } }"""


def test_a_net_that_shares_parameters_comes_back_from_hdf5(tmp_path):
    for last, kept in (('name: "b"', [None, None]), ("", [None, 1])):
        net = net_from_text(SHARING % last, seed=1)
        own, other = ([blob.data.copy() for blob in net.params[name]] for name in "ab")
        blobs = [None if kept[index] is None else blob for index, blob in enumerate(other)]
        weights.write_hdf5(tmp_path / "net.h5", [("in", []), ("a", own), ("b", blobs)])
        copy = net_from_text(SHARING % last, seed=2)
        copy.copy_trained_layers_from(tmp_path / "net.h5")
        for name, expected in (("a", own), ("b", other)):
            for blob, values in zip(copy.params[name], expected, strict=True):
                np.testing.assert_array_equal(blob.data, values)


def test_a_blob_that_is_missing_and_not_shared_is_an_error(tmp_path):
    net = net_from_text(SHARING % "")
    own = [blob.data for blob in net.params["a"]]
    weights.write_hdf5(tmp_path / "net.h5", [("a", own), ("b", [])])
    with pytest.raises(BlobnetError, match="net.h5 holds 0 blobs for this layer, which has 2"):
        net.copy_trained_layers_from(tmp_path / "net.h5")
