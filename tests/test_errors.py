"""The broken configurations recorded from Caffe: where it aborted, blobnet says file, line, layer and rule."""

import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.errors import did_you_mean, error_at, locate
from blobnet.net import Net
from blobnet.passes import upgrade
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from tests.recorded import ROOT, load_json

CASES = [case for case in load_json(ROOT / "errors.json") if case["kind"] in ("net", "load")]

# Differences on purpose (docs/differences-from-caffe.md): Caffe dies where blobnet works, and the other way round.
WORKS_HERE = {"pool_stochastic_cpu", "softmaxloss_two_tops"}
REFUSED_HERE = {"softmax_label_out_of_range"}


def build(prototxt: str) -> Net:
    param = text.parse(prototxt, pb.NetParameter(), "net.prototxt")
    return Net(upgrade.upgrade_net(param, "net.prototxt"), pb.TRAIN, seed=1)


def act(case: dict) -> None:
    net = build(case["text"])
    if case["kind"] == "load":
        source = build(case["net"])
        net.copy_trained_layers_from({layer.name: [blob.data for blob in layer.blobs] for layer in source.layers})
    elif case["act"] == "forward_label9":
        net.forward(y=np.full(net.blobs["y"].shape, 9))
    elif case["act"] in ("forward", "backward"):
        net.forward()
    if case["act"] == "backward":
        net.backward()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_recorded_configuration(case):
    if (case["dies"] or case["name"] in REFUSED_HERE) and case["name"] not in WORKS_HERE:
        with pytest.raises(BlobnetError) as caught:
            act(case)
        assert caught.value.file == "net.prototxt"
        assert 1 <= caught.value.line <= case["text"].count("\n") + 1
        assert len(caught.value.message) > 20
    else:
        act(case)


def test_the_error_names_file_line_layer_and_rule():
    with pytest.raises(BlobnetError) as caught:
        build('layer { name: "in" type: "Input" top: "x" }\nlayer {\n  name: "r" type: "Relu" bottom: "x" top: "y"\n}')
    assert str(caught.value) == ('net.prototxt:3: layer "r" (Relu): unknown layer type "Relu"; did you mean "ReLU"?')


def test_a_layer_without_a_type_is_told_what_to_add():
    with pytest.raises(
        BlobnetError, match=r'layer "r": type is missing: give one, as in type: "ReLU"; known types: AbsV'
    ):
        build('layer { name: "in" type: "Input" top: "x" }\nlayer { name: "r" bottom: "x" top: "y" }')


def test_locate_falls_back_to_the_enclosing_field():
    param = text.parse(
        'layer {\n name: "c"\n convolution_param {\n  group: 2 } }', pb.NetParameter(), "a.prototxt"
    ).layer[0]
    assert locate(param, "convolution_param.group") == ("a.prototxt", 4)
    assert locate(param, "convolution_param.num_output") == ("a.prototxt", 3)
    assert locate(param, "relu_param.negative_slope") == ("a.prototxt", 1)
    assert locate(pb.LayerParameter(), "name") == (None, None)


def test_an_error_without_a_place_is_its_message():
    assert str(error_at(pb.NetParameter(), "no layers")) == "no layers"
    assert str(BlobnetError("truncated", file="a.caffemodel")) == "a.caffemodel: truncated"


def test_did_you_mean():
    assert did_you_mean("convolution", ["Convolution", "Concat"]) == '; did you mean "Convolution"?'
    assert did_you_mean("zzz", ["Convolution", "Concat"]) == ""


def test_an_error_names_the_blob_of_the_prototxt_and_not_the_split_behind_it():
    net = build(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
        'layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 2 } } }\n'
        'layer { name: "l" type: "SoftmaxWithLoss" bottom: "x" bottom: "y" top: "z" }\n'
        'layer { name: "a" type: "Accuracy" bottom: "x" bottom: "y" top: "w" }'
    )
    with pytest.raises(BlobnetError, match='blob "y"'):
        net.forward(y=np.full(2, 9))


def test_a_line_is_found_among_many_fields():
    """Thousands of faults in a message of thousands of fields: with all fields taken apart for each, minutes."""
    net = pb.NetParameter()
    net.source_info.line = 1
    net.source_info.fields = " ".join(f"input_shape[{number}].dim:{number + 7}" for number in range(200_000))
    for number in range(1000, 1100):
        assert locate(net, f"input_shape[{number}].dim[3]") == (None, number + 7)
    assert locate(net, "input_shape[1]") == (None, 1)
    assert locate(net, "shape[3].dim") == (None, 1)
