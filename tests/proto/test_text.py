"""Prototxt text against protobuf's own parser, the lines it leaves behind, and what it says of broken text."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import DescriptorProto
from hypothesis import example, given
from hypothesis import strategies as st

from blobnet.errors import BlobnetError, field_lines, locate
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "models" / "prototxts"

NET = r"""
name: "a\x41\101\n\u00e9" 'b' "c"  # a comment with "quotes" and { braces
input: "x"; input_dim: [0x10, 010, 3, 4],
layer { name: 'conv' type: "Convolution" bottom: "x" top: "y" loss_weight: [1, -2.5e-3f, .5, 1., inf]
  param { lr_mult: 1 } param: < lr_mult: 2f decay_mult: 0 >
  convolution_param { num_output: 4294967295 kernel_size: 3 kernel_size: 5 bias_term: f engine: 1
    weight_filler { type: "xavier" variance_norm: AVERAGE } } }
layer: [ { name: "data" data_param: { backend: LMDB } }, { include { phase: TEST min_level: -2147483648 } } ]
layer { clip_param { min: -1e30 max: 1E400 } exclude: [] blobs { double_data: 1e-300 data: -infinity } }
state { level: - 3 stage: "" }
force_backward: True
"""


def parsed(source: str, file: str | None = None) -> pb.NetParameter:
    return text.parse(source, pb.NetParameter(), file)


def message_of(source: str) -> str:
    with pytest.raises(BlobnetError) as caught:
        parsed(source, "net.prototxt")
    return str(caught.value)


def assert_like_protobuf(source: str, message_type=pb.NetParameter) -> None:
    found = text.strip_source_info(text.parse(source, message_type()))
    assert found == text_format.Parse(source, message_type())


def test_every_form_of_the_grammar_as_protobuf_reads_it():
    assert_like_protobuf(NET.replace("- 3", "-3"))


def test_a_sign_may_stand_apart():
    assert parsed(NET).state.level == -3


@pytest.mark.parametrize(
    "source",
    [
        "", "# nothing", "layer {}", "layer < >", "layer: {}", "state {} , layer {} ;", "layer [ ]",
        "force_backward: 1", "force_backward: t", "force_backward: False",
        "layer { lrn_param { alpha: nan } }", "layer { lrn_param { alpha: -iNf beta: -0 } }",
        "layer { lrn_param { alpha: 0x1 } }", "layer { lrn_param { alpha: 010 } }",
        "layer { lrn_param { alpha: 1e39 } }", "input_dim: 2147483648", "input_dim: -2147483648", "input_dim: 1.0",
        "input_dim: 08", "input_dim: 1f", "input_dim: 0xg", "input_dim: 1 2", "input_dim: [1 2]",
        "input_dim: [1,]", "input_dim: , 1", "name: 'a", "name: 'a\nb'", 'name: "\\xff"',
        "name: x", "name 'x'", "name: 'x' name: 'y'", "state {} state {}", "state { phase: 2 }",
        "state { phase: TRIAN }", "state { phase: 'TRAIN' }", "layer { }}",
        "layer { >", "layer", "layer {", "[x.y]: 1", "nope: 1", "1: 2", "name: ['x']", "name:: 'x'",
        "force_backward: yes", "force_backward: 2", "layer { blobs { shape { dim: 9223372036854775808 } } }",
        "layer { relu_param: 1 }", "; name: 'x'", "name: 'x';;",
    ],
)  # fmt: skip
def test_accepts_and_refuses_what_protobuf_does(source):
    try:
        text_format.Parse(source, pb.NetParameter())
    except text_format.ParseError:
        message_of(source)
    else:
        parsed(source)


def test_where_protobufs_c_parser_which_caffe_has_is_stricter_than_the_python_one():
    assert "needs the field max" in message_of("layer { clip_param { min: 1 } }")
    assert r"in a string, write \\ for a backslash" in message_of(r'layer { data_param { source: "C:\data" } }')
    assert "beta is a number" in message_of("layer { lrn_param { beta: +1 } }")
    assert parsed("force_backward: 0x1").force_backward


def test_real_files_as_protobuf_reads_them():
    """Those of plain Caffe among the real prototxts, where they lie beside the checkout, and those of the zoo."""
    files = [*(ROOT / "zoo").rglob("*.prototxt"), *REAL.rglob("*.prototxt")]
    assert files
    for file in files:
        source = file.read_text(encoding="utf-8")
        message_type = pb.SolverParameter if "base_lr" in source else pb.NetParameter
        try:
            expected = text_format.Parse(source, message_type())
        except text_format.ParseError:
            with pytest.raises(BlobnetError):
                text.read(file, message_type())
        else:
            assert text.strip_source_info(text.read(file, message_type())) == expected, file


def test_lines():
    net = parsed(
        'name: "n"\n\nlayer {\n name: "c"\n bottom: "x" bottom:\n "y"\n param { lr_mult: 1 }\n param {\n lr_mult: 2 }\n'
        " convolution_param {\n  kernel_size: [3,\n   5]\n  weight_filler {\n   std: 1 } }\n}\nlayer { }",
        "a.prototxt",
    )
    lines = {
        "name": 4,
        "bottom": 5,
        "bottom[0]": 5,
        "bottom[1]": 5,
        "bottom[7]": 5,
        "param.lr_mult": 7,
        "param[0].lr_mult": 7,
        "param[1].lr_mult": 9,
        "param[1].decay_mult": 8,
        "convolution_param": 10,
        "convolution_param.kernel_size": 11,
        "convolution_param.kernel_size[1]": 12,
        "convolution_param.weight_filler.std": 14,
        "convolution_param.weight_filler.mean": 13,
        "pooling_param.kernel_size": 3,
        "": 3,
    }
    assert {path: locate(net.layer[0], path) for path in lines} == {
        path: ("a.prototxt", line) for path, line in lines.items()
    }
    assert locate(net.layer[1]) == ("a.prototxt", 16)
    assert locate(net, "name") == ("a.prototxt", 1)
    assert not [path for path in field_lines(net.source_info.fields) if path.startswith("layer")]


def test_lines_of_nets_within_solvers_and_of_old_layers():
    solver = text.parse("net_param {\n layers {\n layer {\n type: 'conv' } } }", pb.SolverParameter(), "s")
    assert locate(solver.net_param) == ("s", 1)
    assert locate(solver.net_param.layers[0]) == ("s", 2)
    assert locate(solver.net_param.layers[0].layer, "type") == ("s", 4)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("\nlayer { relu_param { slope: 1 } }", 'net.prototxt:2: ReLUParameter has no field "slope"'),
        (
            'layer { name: "c"\n type: "ReLU"\n relu_param { negativ_slope: 1 } }',
            'net.prototxt:3: layer "c" (ReLU): ReLUParameter has no field "negativ_slope"; '
            'did you mean "negative_slope"?',
        ),
        (
            "layer { transform_param { resize_param {} } }",
            'net.prototxt:1: TransformationParameter has no field "resize_param"; '
            "SSD (weiliu89/caffe) defines it, BVLC Caffe does not",
        ),
        (
            "layers { type: CROP }",
            "net.prototxt:1: type has no value CROP; FCN (longjon/caffe) defines it, BVLC Caffe does not: "
            'write the net in the current format, where type: "Crop" exists',
        ),
        (
            "layer { kernel_size: 3 }",
            'net.prototxt:1: LayerParameter has no field "kernel_size"; '
            "ConvolutionParameter and PoolingParameter have it",
        ),
        ("source_info { line: 7 }", 'net.prototxt:1: NetParameter has no field "source_info"'),
        (
            "layer { pooling_param { pool: GLOBAL } }",
            "net.prototxt:1: pool has no value GLOBAL; the values are MAX, AVE, STOCHASTIC",
        ),
        (
            'layers { type: "Convolution" }',
            'net.prototxt:1: type is a word without quotes; got "Convolution"; did you mean "CONVOLUTION"?',
        ),
        ("layer { type: ReLU }", "net.prototxt:1: type is a string in quotes; got ReLU"),
        (
            "name: 'a'\n\nname: 'b'",
            "net.prototxt:3: name is given twice (first at line 1); remove one",
        ),
        (
            "layer {\n\n name: 'a'\n",
            'net.prototxt:4: expected a field of LayerParameter or "}" to end layer, begun at line 1; '
            "got the end of the file",
        ),
        (
            "layer { convolution_param { num_output: -1 } }",
            "net.prototxt:1: num_output is a whole number from 0 to 4294967295; got -1",
        ),
        (
            "layer { inner_product_param { num_output: 1.5 } }",
            "net.prototxt:1: num_output is a whole number; got 1.5",
        ),
        (
            "name: 'a",
            "net.prototxt:1: name is a string in quotes; got a string whose closing quote is not on the same line",
        ),
        (
            "name: \udce9",
            "net.prototxt:1: name is a string in quotes; got a byte that is not UTF-8; save the file as UTF-8",
        ),
        ("name: '\udce9'", "net.prototxt:1: name holds bytes that are not UTF-8; save the file as UTF-8"),
        ("name: '\ud800'", "net.prototxt:1: name is '\\ud800', which is not UTF-8"),
        ("input_dim: 1_0", 'net.prototxt:1: input_dim is a whole number; got "1_0"'),
        ("input_dim: 0x_1", 'net.prototxt:1: input_dim is a whole number; got "0x_1"'),
        ("state { level: \u0661 }", 'net.prototxt:1: level is a whole number; got "\u0661"'),
        ("layer { loss_weight: 1_0 }", 'net.prototxt:1: loss_weight is a number; got "1_0"'),
        ("input_dim: " + "9" * 5000, f"net.prototxt:1: input_dim is a whole number; got {'9' * 40}..."),
    ],
)
def test_the_message_says_line_rule_value_and_remedy(source, message):
    assert message_of(source) == message


def test_depth_is_capped():
    text.parse("nested_type { " * 100 + "}" * 100, DescriptorProto())
    with pytest.raises(BlobnetError, match="line 1: messages are nested more than 100 deep"):
        text.parse("nested_type { " * 101 + "}" * 101, DescriptorProto())


def test_size_is_capped(monkeypatch, tmp_path):
    monkeypatch.setattr(text, "MAX_BYTES", 1 << 20)
    assert message_of("#" * ((1 << 20) + 1)) == "net.prototxt: the text is longer than 1 MiB: no prototxt is"
    file = tmp_path / "long.prototxt"
    file.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(BlobnetError, match="longer than 1 MiB"):
        text.read(file, pb.NetParameter())


@pytest.mark.parametrize("word", ["layer {}", "layers { layer {} }"])
def test_messages_that_would_fill_the_memory_are_refused(word):
    assert "holds more messages than can be read" in message_of(word * (2_000_000 // len(word)))


def test_no_more_faults_are_collected_than_anybody_reads():
    faults = []
    with pytest.raises(BlobnetError, match="line 500: more than 500 faults; what follows was not read"):
        text.parse("unknown: 1\n" * 10_000, pb.NetParameter(), faults=faults)
    assert len(faults) == 500


def test_reading_ends_with_as_many_faults_as_are_asked_for():
    faults = []
    with pytest.raises(BlobnetError, match="line 2: more than 2 faults"):
        text.parse("unknown: 1\n" * 3, pb.NetParameter(), faults=faults, most=2)
    assert len(faults) == 2


def test_lines_are_counted_over_blank_lines_and_comments():
    net = text.parse("\n" * 70 + "# one\n\r\n  # two\n\n layer {\n\n}\n layer {}", pb.NetParameter())
    assert [locate(layer)[1] for layer in net.layer] == [75, 78]


def test_values_beyond_the_thousandth_count_as_standing_where_the_first_does():
    net = text.parse("layer {\n" + 'top: "a"\n' * 3000 + "}", pb.NetParameter())
    lines = [locate(net.layer[0], f"top[{index}]")[1] for index in (0, 1, 999, 1000, 2999)]
    assert lines == [2, 3, 1001, 2, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b" \n\t", "the file is empty"),
        (b"\x0a\x00\x12", "the file is binary; a prototxt (text) is needed here"),
    ],
)
def test_files_that_are_no_text(tmp_path, content, message):
    file = tmp_path / "net.prototxt"
    file.write_bytes(content)
    with pytest.raises(BlobnetError) as caught:
        text.read(file, pb.NetParameter())
    assert str(caught.value) == f"{file}: {message}"


@pytest.mark.parametrize("name", ["missing.prototxt", ".", "nul\0.prototxt", "x" * 300, "\udcff"])
def test_files_that_cannot_be_read(tmp_path, name):
    with pytest.raises(BlobnetError) as caught:
        text.read(f"{tmp_path}/{name}", pb.NetParameter())
    assert str(caught.value).encode()


def test_a_comment_may_hold_any_bytes_and_a_file_begin_with_a_mark(tmp_path):
    file = tmp_path / "\udcff.prototxt"
    file.write_bytes(b"\xef\xbb\xbfname: 'n' # \xb2\xc3\r\nlayer { }\r\n")
    net = text.read(file, pb.NetParameter())
    assert net.name == "n"
    assert locate(net.layer[0]) == (f"{tmp_path}/\\udcff.prototxt", 2)


def test_dump_is_what_protobuf_prints_without_lines():
    net = parsed(NET)
    assert text.dump(net) == text_format.MessageToString(text.strip_source_info(parsed(NET)))
    assert net.HasField("source_info")
    assert text.dump(pb.BlobShape(dim=[1, 2])) == "dim: 1\ndim: 2\n"


WORDS = st.sampled_from(
    [
        "{", "}", "<", ">", "[", "]", ":", ",", ";", "-", '"', "'", "#", "\\", "\n", "0x", "1e", ".", "inf", "true",
        "1", "09", "\x00", "\udc80", "\ud800", "é", " layer { ", " name: ", " dim: ", "TRAIN", "source_info",
        '"\\q"', "1e999", "nope",
    ]
)  # fmt: skip
EDITS = st.lists(st.tuples(st.integers(0, len(NET)), st.integers(0, 20), WORDS), min_size=1, max_size=4)


@given(EDITS)
@example([(0, 0, "\ud800")])
def test_broken_text_raises_nothing_but_blobnet_error(edits):
    source = NET
    for start, removed, inserted in edits:
        source = source[:start] + inserted + source[start + removed :]
    try:
        parsed(source)
    except BlobnetError as error:
        assert str(error).startswith("line ")


@given(st.binary(max_size=200))
def test_broken_bytes_raise_nothing_but_blobnet_error(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "fuzz.prototxt"
    file.write_bytes(content)
    try:
        text.read(file, pb.NetParameter())
    except BlobnetError as error:
        assert str(error).startswith(str(file))
