"""Pictures of nets, read back: dot by eye, SVG as XML."""

import xml.etree.ElementTree as ElementTree

import pytest

from blobnet import TEST, TRAIN, BlobnetError, cli, zoo
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.tools import draw

SVG = "{http://www.w3.org/2000/svg}"
AWKWARD = r"""
layer { name: "a<&\"\\>" type: "Input" top: "x\"<" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "r" type: "ReLU" bottom: "x\"<" top: "x\"<" }
layer { name: "t" type: "TanH" bottom: "x\"<" top: "y" }
layer { name: "trained" type: "Sigmoid" bottom: "y" top: "z" include { phase: TRAIN } }
"""


def graph(prototxt: str, phase=TEST) -> draw.Graph:
    return draw.graph(text.parse(prototxt, pb.NetParameter()), phase)


def test_layers_in_place_stand_in_the_box_of_their_blob():
    net = graph(AWKWARD)
    assert [[layer.name for layer in box.layers] for box in net.boxes] == [['a<&"\\>', "r"], ["t"]]
    assert net.arrows == [(0, 1, 'x"<')]
    assert len(graph(AWKWARD, TRAIN).boxes) == 3


def test_dot_escapes_names():
    assert draw.to_dot(graph(AWKWARD)).splitlines()[2:] == [
        r'  n0 [label="a<&\"\\>: Input\nr: ReLU", fillcolor="#e8e4d9"];',
        r'  n1 [label="t: TanH", fillcolor="#f2f2f2"];',
        r'  n0 -> n1 [tooltip="x\"<"];',
        "}",
    ]


def test_svg_escapes_names():
    root = ElementTree.fromstring(draw.to_svg(graph(AWKWARD)))
    assert [element.text for element in root.iter(f"{SVG}text")] == ['a<&"\\>: Input', "r: ReLU", "t: TanH"]
    assert [element.text for element in root.iter(f"{SVG}title")] == ['x"<']


@pytest.mark.parametrize("model", ["lenet", "googlenet", "resnet152", "char_lstm"])
def test_every_box_of_a_net_is_inside_the_picture(model):
    param = text.read(zoo.folder(model) / "train_val.prototxt", pb.NetParameter())
    net = draw.graph(param, TRAIN)
    root = ElementTree.fromstring(draw.to_svg(net))
    left, top, width, height = map(float, root.get("viewBox").split())
    boxes = list(root.iter(f"{SVG}rect"))
    assert len(boxes) == len(net.boxes)
    assert len(list(root.iter(f"{SVG}title"))) == len(net.arrows)
    for box in boxes:
        x, y, w, h = (float(box.get(key)) for key in ("x", "y", "width", "height"))
        assert left <= x and x + w <= left + width and top <= y and y + h <= top + height


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ('type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 }', "Convolution 4, 3 x 3"),
        (
            'type: "Convolution" convolution_param { num_output: 4 kernel_h: 3 kernel_w: 1 stride: 2 group: 2 }',
            "Convolution 4, 3 x 1, stride 2 x 2, group 2",
        ),
        ('type: "Pooling" pooling_param { kernel_size: 3 stride: 2 }', "Pooling MAX, 3 x 3, stride 2"),
        ('type: "Pooling" pooling_param { pool: AVE global_pooling: true }', "Pooling AVE, global"),
        ('type: "InnerProduct" inner_product_param { num_output: 7 }', "InnerProduct 7"),
        ('type: "LSTM" recurrent_param { num_output: 7 }', "LSTM 7"),
        ('type: "ReLU"', "ReLU"),
    ],
)
def test_a_line_says_what_the_size_follows_from(layer, said):
    net = graph('layer { name: "x" type: "Input" top: "x" }' + f'layer {{ name: "l" bottom: "x" top: "y" {layer} }}')
    assert net.boxes[1].lines == [f"l: {said}"]


def test_command_writes_both_kinds(tmp_path):
    net = str(zoo.folder("lenet") / "train_val.prototxt")
    for name, beginning in (("net.svg", "<svg "), ("net.dot", "digraph net {")):
        assert cli.main(["draw", net, str(tmp_path / name), "--phase", "TRAIN"]) == 0
        assert (tmp_path / name).read_text().startswith(beginning)


def test_a_picture_without_a_name_stands_beside_the_net(tmp_path, capsys):
    (tmp_path / "my.net.prototxt").write_text(AWKWARD)
    assert cli.main(["draw", str(tmp_path / "my.net.prototxt")]) == 0
    assert capsys.readouterr().out == f"Wrote {tmp_path}/my.net.svg\n"
    assert (tmp_path / "my.net.svg").read_text().startswith("<svg ")


def test_stages_choose_the_layers(tmp_path, capsys):
    net = str(zoo.folder("mnist_autoencoder") / "train_val.prototxt")
    flags = ["draw", net, str(tmp_path / "net.dot")]
    assert cli.main(flags) == 1
    assert 'bottom "data" is made by layers of other states alone' in capsys.readouterr().err
    assert cli.main([*flags, "--stage", "test-on-test"]) == 0
    assert "data: Data" in (tmp_path / "net.dot").read_text()


def test_other_pictures_and_broken_nets_are_refused(tmp_path, capsys):
    net = str(zoo.folder("lenet") / "train_val.prototxt")
    assert cli.main(["draw", net, str(tmp_path / "net.pdf")]) == 1
    assert "ends in .svg, .png or .dot; got net.pdf" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BlobnetError, match='bottom "x" is the top of no earlier layer'):
        graph('layer { name: "l" type: "ReLU" bottom: "x" top: "y" }')
