import pytest

from blobnet.errors import BlobnetError
from blobnet.passes.splits import insert_splits
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text


def split(net: str) -> str:
    """The net after the pass, one layer a line: name: bottoms -> tops [loss weights]."""
    param = insert_splits(text.parse(net, pb.NetParameter(), "a.prototxt"))
    return "\n".join(
        f"{layer.name}: {' '.join(layer.bottom)} -> {' '.join(layer.top)}"
        + (f" {list(layer.loss_weight)}" if layer.loss_weight else "")
        for layer in param.layer
    )


def test_one_reader_needs_no_split():
    assert split('layer { name: "d" top: "x" } layer { name: "a" bottom: "x" top: "y" }') == "d:  -> x\na: x -> y"


def test_two_readers_get_a_split_after_the_producer():
    net = (
        'layer { name: "d" top: "x" }layer { name: "a" bottom: "x" top: "y" } layer { name: "b" bottom: "x" top: "z" }'
    )
    assert split(net) == (
        "d:  -> x\nx_d_0_split: x -> x_d_0_split_0 x_d_0_split_1\na: x_d_0_split_0 -> y\nb: x_d_0_split_1 -> z"
    )


def test_reading_a_blob_twice_counts_twice():
    net = 'layer { name: "d" top: "w" top: "x" } layer { name: "a" bottom: "x" bottom: "x" top: "y" }'
    assert split(net) == (
        "d:  -> w x\nx_d_1_split: x -> x_d_1_split_0 x_d_1_split_1\na: x_d_1_split_0 x_d_1_split_1 -> y"
    )


def test_readers_after_an_in_place_layer_read_its_top():
    net = (
        'layer { name: "d" top: "x" } layer { name: "r" bottom: "x" top: "x" }'
        'layer { name: "a" bottom: "x" top: "y" } layer { name: "b" bottom: "x" top: "z" }'
    )
    assert split(net) == (
        "d:  -> x\n"
        "r: x -> x\n"
        "x_r_0_split: x -> x_r_0_split_0 x_r_0_split_1\n"
        "a: x_r_0_split_0 -> y\n"
        "b: x_r_0_split_1 -> z"
    )


def test_a_loss_weight_is_a_reader_and_moves_to_the_split():
    net = 'layer { name: "d" top: "x" loss_weight: 0.5 } layer { name: "a" bottom: "x" top: "y" }'
    assert split(net) == "d:  -> x\nx_d_0_split: x -> x_d_0_split_0 x_d_0_split_1 [0.5, 0.0]\na: x_d_0_split_1 -> y"


def test_an_unknown_bottom_is_an_error_with_the_nearest_name():
    with pytest.raises(BlobnetError, match=r'a.prototxt:2: layer "a".*bottom "dta".*did you mean "data"'):
        split('layer { name: "d" top: "data" }\nlayer { name: "a" bottom: "dta" }')


def test_the_pass_leaves_its_argument_alone():
    param = text.parse('layer { name: "d" top: "x" } layer { name: "a" bottom: "x" bottom: "x" }', pb.NetParameter())
    before = param.SerializeToString()
    insert_splits(param)
    assert param.SerializeToString() == before
