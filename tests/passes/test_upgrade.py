"""Old nets and solvers lifted to the current format, as recorded from Caffe's own upgrade tools."""

import logging

import pytest

from blobnet.errors import BlobnetError, locate
from blobnet.passes.upgrade import upgrade_net, upgrade_solver
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from tests.recorded import ROOT, files


def net_of(source: str) -> pb.NetParameter:
    return text.parse(source, pb.NetParameter(), "old.prototxt")


def upgraded(source: str) -> pb.NetParameter:
    return upgrade_net(net_of(source))


def message_of(source: str) -> str:
    with pytest.raises(BlobnetError) as caught:
        upgraded(source)
    return str(caught.value)


@pytest.mark.parametrize("file", files("files/upgrade", "*.in.prototxt"), ids=lambda file: file.name)
def test_as_caffe_upgrades(file):
    message_type, upgrade = pb.NetParameter, upgrade_net
    if file.name.startswith("solver"):
        message_type, upgrade = pb.SolverParameter, upgrade_solver
    old = text.read(file, message_type())
    before = old.SerializeToString()
    new = upgrade(old)
    expected = text.read(file.with_name(file.name.replace(".in.", ".out.")), message_type())
    assert text.dump(new) == text.dump(expected)
    assert old.SerializeToString() == before
    assert upgrade(new) is new


def test_weights_as_caffe_upgrades():
    old = pb.NetParameter.FromString((ROOT / "files" / "v1.caffemodel").read_bytes())
    assert upgrade_net(old) == pb.NetParameter.FromString((ROOT / "files" / "v1_upgraded.caffemodel").read_bytes())


def test_says_what_it_did(caplog):
    with caplog.at_level(logging.INFO, "blobnet"):
        upgrade_net(net_of("layers { name: 'r' type: RELU }"), "a.caffemodel")
    assert caplog.messages == ["a.caffemodel: upgraded layers of 2014 to the current ones"]


def test_lines_of_v1_layers():
    layer = upgraded(
        "layers {\n type: DATA\n blobs_lr: 1\n blobs_lr: 2\n param: 'w'\n weight_decay: 0\n"
        " data_param {\n  source: 's'\n  scale: 2 }\n top: 'x' }"
    ).layer[0]
    lines = {
        "type": 2,
        "param.lr_mult": 3,
        "param[1].lr_mult": 4,
        "param.name": 5,
        "param.decay_mult": 6,
        "data_param.source": 8,
        "transform_param.scale": 9,
        "top": 10,
        "": 1,
    }
    assert {path: locate(layer, path)[1] for path in lines} == lines


def test_lines_of_v0_layers():
    layer = upgraded(
        "layers {\n layer {\n  type: 'conv'\n  kernelsize: 3\n  weight_filler {\n   std: 1 }\n"
        "  blobs_lr: 1\n  blobs_lr: 2 }\n bottom: 'x'\n top: 'y' }"
    ).layer[0]
    lines = {
        "type": 3,
        "convolution_param.kernel_size": 4,
        "convolution_param.weight_filler.std": 6,
        "param[1].lr_mult": 8,
        "bottom": 9,
        "top": 10,
    }
    assert {path: locate(layer, path)[1] for path in lines} == lines


def test_lines_of_input_fields():
    layer = upgraded(
        "name: 'n'\ninput: 'a'\ninput_dim: 1\ninput_dim: 2 input_dim: 3 input_dim: 4\n"
        "input: 'b'\ninput_dim: 1\ninput_dim: 2\ninput_dim: 3 input_dim: 4\n"
    ).layer[0]
    lines = {"": 2, "top": 2, "top[1]": 5, "input_param.shape.dim": 3, "input_param.shape[1].dim[1]": 7}
    assert {path: locate(layer, path)[1] for path in lines} == lines
    layer = upgraded("input: 'a'\ninput_shape { dim: 1\n dim: 2 }\nlayer {}").layer[0]
    assert locate(layer, "input_param.shape.dim[1]") == ("old.prototxt", 3)


def test_solver_type_keeps_its_line():
    solver = text.parse("base_lr: 1\nsolver_type: ADAM", pb.SolverParameter(), "s.prototxt")
    assert locate(upgrade_solver(solver), "type") == ("s.prototxt", 2)


def test_binary_messages_stay_without_lines():
    old = text.strip_source_info(net_of("input: 'x' input_dim: [1, 2, 3, 4] layers { layer { type: 'relu' } }"))
    assert text.strip_source_info(upgrade_net(old)) == upgrade_net(old)


def test_inputs_without_shape_are_dropped():
    assert text.dump(upgraded("input: 'x' layer { name: 'r' }")) == text.dump(net_of("layer { name: 'r' }"))


def test_padding_is_folded_into_every_reader_until_its_blob_is_overwritten():
    net = upgraded(
        "layers { layer { name: 'p' type: 'padding' pad: 2 } bottom: 'x' top: 'px' }"
        "layers { layer { name: 'c' type: 'conv' } bottom: 'px' top: 'c' }"
        "layers { layer { name: 'm' type: 'pool' } bottom: 'px' top: 'px' }"
        "layers { layer { name: 'd' type: 'conv' } bottom: 'px' top: 'd' }"
    )
    assert [layer.bottom[0] for layer in net.layer] == ["x", "x", "px"]
    assert list(net.layer[0].convolution_param.pad) == [2]
    assert net.layer[1].pooling_param.pad == 2
    assert list(net.layer[2].convolution_param.pad) == []


def test_a_field_of_another_type_is_reported_and_left_out(caplog):
    layer = upgraded("layers { layer { name: 'r' type: 'relu'\n num_output: 3 } }").layer[0]
    assert {field.name for field, _ in layer.ListFields()} == {"name", "type", "source_info"}
    assert caplog.messages == ['old.prototxt:2: layer "r" (relu): num_output has no effect on this type']


PADDING = "layers {\n layer { name: 'p' type: 'padding' pad: 1 } bottom: 'x' top: 'px' }\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "layer { }\nlayers { name: 'l' type: RELU }",
            'old.prototxt:2: layer "l" (RELU): the net has both layer (current) and layers (before 2015); '
            "write all in one format",
        ),
        (
            "layers { layer { type: 'relu' } }\nlayers { name: 'l' type: RELU }",
            'old.prototxt:2: layer "l" (RELU): other layers of this net have the form layers { layer { ... } }; '
            "write all in one form",
        ),
        (
            "layers { type: RELU\n layer { name: 'l' type: 'relu' } }",
            'old.prototxt:2: layer "l" (relu): type must stand inside of layer { ... }',
        ),
        (
            "layers { layer { name: 'l'\n type: 'convolution' } }",
            'old.prototxt:2: layer "l" (convolution): unknown layer type "convolution"',
        ),
        (
            PADDING + "layers { layer { name: 'r'\n type: 'relu' } bottom: 'px' top: 'y' }",
            'old.prototxt:4: layer "r" (relu): only conv and pool layers may read the padding layer "p"; this is relu',
        ),
        (
            PADDING + "layers { layer { name: 'c' type: 'conv' } bottom: 'px' bottom: 'x' top: 'y' }",
            'old.prototxt:3: layer "c" (conv): a layer that reads a padding layer has one bottom; got 2',
        ),
        (
            PADDING.replace("bottom: 'x'", "") + "layers { layer { name: 'c' type: 'conv' } bottom: 'px' top: 'y' }",
            'old.prototxt:2: layer "p" (padding): a padding layer has one bottom and one top; got 0 bottoms and 1 tops',
        ),
        (
            PADDING + "layers { layer { name: 'q' type: 'padding' } bottom: 'px' top: 'qx' }",
            'old.prototxt:3: layer "q" (padding): a padding layer cannot read another one; '
            "write one with the sum of both",
        ),
        (
            "input: 'x' input_shape { dim: 1 }\ninput_dim: 1",
            "old.prototxt:2: give input_shape or input_dim, not both",
        ),
        (
            "input: 'x' input: 'y'\ninput_shape { dim: 1 }",
            "old.prototxt:2: every input needs one input_shape; got 2 input, 1 input_shape",
        ),
        (
            "input: 'x'\ninput_dim: 1 input_dim: 2",
            "old.prototxt:2: every input needs four input_dim; got 1 input, 2 input_dim",
        ),
    ],
)
def test_contradictions(source, message):
    assert message_of(source).startswith(message)


def test_a_solver_with_type_and_solver_type():
    solver = text.parse("type: 'Adam'\nsolver_type: ADAM", pb.SolverParameter(), "s.prototxt")
    with pytest.raises(BlobnetError) as caught:
        upgrade_solver(solver)
    assert str(caught.value) == (
        's.prototxt:2: give type or solver_type (old), not both; got type "Adam", solver_type ADAM'
    )
