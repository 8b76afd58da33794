"""Exported nets under onnxruntime: every layer type that has a rule, and every deploy net of the zoo."""

import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from blobnet import TEST, BlobnetError, Net, cli, layer_types, zoo
from blobnet.io.onnx import graph, to_onnx
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.testing import net_from_text
from tests.recorded import ROOT

X = 'layer { name: "in" type: "Input" top: "x" input_param { shape { %s } } }\n'
X4 = X % "dim: 2 dim: 6 dim: 9 dim: 11"
X2 = X % "dim: 3 dim: 5"
FILLER = 'weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "gaussian" std: 0.5 }'


def run(model, feed):
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 2
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = {
        value.name: feed[value.name] if value.name in feed else np.zeros(value.shape, np.float32)
        for value in session.get_inputs()
    }
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def difference(net, feed, model=None):
    """The largest difference of an output, as a part of the largest number in it (at least 1)."""
    found, expected = run(model or to_onnx(net), feed), net.forward(**feed)
    outputs = [name for name in expected if name not in net.inputs]
    assert outputs and set(outputs) <= set(found)
    for name in outputs:
        assert found[name].shape == expected[name].shape
    return max(
        float(np.abs(found[name] - expected[name]).max() / max(1, np.abs(expected[name]).max())) for name in outputs
    )


def inputs_of(net, draw):
    return {name: draw(net.blobs[name].shape).astype(np.float32) for name in net.inputs}


def convolution(kind="Convolution", **fields):
    settings = " ".join(f"{name}: {value}" for name, value in fields.items())
    return f'layer {{ name: "l" type: "{kind}" bottom: "x" top: "y" convolution_param {{ {settings} {FILLER} }} }}'


def pooling(**fields):
    settings = " ".join(f"{name}: {value}" for name, value in fields.items())
    return f'layer {{ name: "l" type: "Pooling" bottom: "x" top: "y" pooling_param {{ {settings} }} }}'


def plain(kind, settings="", bottoms='bottom: "x"', tops='top: "y"'):
    return f'layer {{ name: "l" type: "{kind}" {bottoms} {tops} {settings} }}'


TWO = (
    'layer { name: "two" type: "Input" top: "a" top: "b" '
    "input_param { shape { dim: 2 dim: 6 dim: 9 dim: 11 } shape { dim: 2 dim: 6 } } }\n"
)
PAIR = X4 + 'layer { name: "tanh" type: "TanH" bottom: "x" top: "t" }\n'
BOTH = 'bottom: "x" bottom: "t"'

CASES = {
    "conv": X4 + convolution(num_output=4, kernel_size=3),
    "conv uneven": X4 + convolution(num_output=4, kernel_h=3, kernel_w=2, stride_h=2, stride_w=3, pad_h=0, pad_w=2),
    "conv group dilation": X4 + convolution(num_output=4, kernel_size=3, group=2, dilation=2, pad=2, bias_term="false"),
    "conv depthwise": X4 + convolution(num_output=6, kernel_size=3, group=6),
    "conv one axis": X % "dim: 2 dim: 3 dim: 12" + convolution(num_output=4, kernel_size=5, stride=2, pad=1),
    "conv three axes": X % "dim: 1 dim: 2 dim: 5 dim: 6 dim: 7" + convolution(num_output=3, kernel_size=2),
    "conv twice": TWO.replace("shape { dim: 2 dim: 6 } ", "shape { dim: 2 dim: 6 dim: 9 dim: 11 } ")
    + plain(
        "Convolution",
        f"convolution_param {{ num_output: 2 kernel_size: 3 {FILLER} }}",
        'bottom: "a" bottom: "b"',
        'top: "y" top: "z"',
    ),
    "deconv": X4 + convolution("Deconvolution", num_output=4, kernel_size=4, stride=2, pad=1),
    "deconv group": X4 + convolution("Deconvolution", num_output=4, kernel_size=3, stride=3, group=2, dilation=2),
    "max ceil": X4 + pooling(kernel_size=2, stride=2),
    "max padded": X4 + pooling(kernel_size=3, stride=2, pad=1),
    "max overhang": X4 + pooling(kernel_size=5, stride=4),
    "max floor": X4 + pooling(kernel_size=2, stride=2, round_mode="FLOOR"),
    "max last window dropped": X4 + pooling(kernel_size=2, stride=3, pad=1),
    "max global": X4 + pooling(global_pooling="true"),
    "max mask": X4 + plain("Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", tops='top: "y" top: "mask"'),
    "ave": X4 + pooling(pool="AVE", kernel_size=3, stride=2),
    "ave ceil": X4 + pooling(pool="AVE", kernel_size=4, stride=3),
    "ave padded": X4 + pooling(pool="AVE", kernel_size=3, stride=2, pad=1),
    "ave padded overhang": X4 + pooling(pool="AVE", kernel_size=5, stride=4, pad=2),
    "ave uneven": X4 + pooling(pool="AVE", kernel_h=2, kernel_w=5, stride_h=3, stride_w=4, pad_h=1, pad_w=2),
    "ave global": X4 + pooling(pool="AVE", global_pooling="true"),
    "spp": X4 + plain("SPP", "spp_param { pyramid_height: 3 }"),
    "spp ave": X4 + plain("SPP", "spp_param { pyramid_height: 2 pool: AVE }"),
    "spp one level": X4 + plain("SPP", "spp_param { pyramid_height: 1 }"),
    "lrn": X4 + plain("LRN", "lrn_param { local_size: 3 alpha: 0.7 beta: 0.6 k: 2 }"),
    "lrn within": X4 + plain("LRN", "lrn_param { local_size: 5 alpha: 0.7 beta: 0.6 norm_region: WITHIN_CHANNEL }"),
    "mvn": X4 + plain("MVN"),
    "mvn across": X4 + plain("MVN", "mvn_param { across_channels: true normalize_variance: false }"),
    "ip": X4 + plain("InnerProduct", f"inner_product_param {{ num_output: 7 {FILLER} }}"),
    "ip axis": X4
    + plain(
        "InnerProduct", f"inner_product_param {{ num_output: 7 axis: -1 transpose: true bias_term: false {FILLER} }}"
    ),
    "relu": X4 + plain("ReLU"),
    "leaky relu": X4 + plain("ReLU", "relu_param { negative_slope: 0.3 }"),
    "prelu": X4 + plain("PReLU", 'prelu_param { filler { type: "uniform" } }'),
    "prelu shared": X4 + plain("PReLU", "prelu_param { channel_shared: true }"),
    "prelu two axes": X2 + plain("PReLU"),
    "elu": X4 + plain("ELU", "elu_param { alpha: 0.7 }"),
    "swish": X4 + plain("Swish", "swish_param { beta: 1.5 }"),
    "sigmoid": X4 + plain("Sigmoid"),
    "tanh": X4 + plain("TanH"),
    "abs": X4 + plain("AbsVal"),
    "bnll": X4 + plain("BNLL"),
    "exp": X4 + plain("Exp", "exp_param { base: 2 scale: 0.5 shift: 0.25 }"),
    "log": X4 + plain("AbsVal", tops='top: "a"') + 'layer { name: "log" type: "Log" bottom: "a" top: "y" '
    "log_param { base: 10 scale: 2 shift: 1.5 } }",
    "power": X4 + plain("Power", "power_param { power: 3 scale: 0.5 shift: -1 }"),
    "line": X4 + plain("Power", "power_param { scale: 0.5 shift: -1 }"),
    "constant power": X4 + plain("Power", "power_param { power: 0 }"),
    "clip": X4 + plain("Clip", "clip_param { min: -0.5 max: 0.25 }"),
    "threshold": X4 + plain("Threshold", "threshold_param { threshold: 0.2 }"),
    "dropout": X4 + plain("Dropout"),
    "softmax": X4 + plain("Softmax"),
    "softmax axis": X4 + plain("Softmax", "softmax_param { axis: -1 }"),
    "bn": X4 + plain("BatchNorm", "batch_norm_param { eps: 0.001 }"),
    "bn two axes": X2 + plain("BatchNorm"),
    "scale": X4 + plain("Scale", 'scale_param { bias_term: true filler { type: "uniform" } bias_filler { value: 2 } }'),
    "scale axes": X4 + plain("Scale", 'scale_param { axis: 1 num_axes: 2 filler { type: "uniform" } }'),
    "scale scalar": X4 + plain("Scale", "scale_param { num_axes: 0 filler { value: 3 } bias_term: true }"),
    "scale by a bottom": TWO + plain("Scale", "scale_param { axis: 0 }", 'bottom: "a" bottom: "b"'),
    "bias": X4 + plain("Bias", 'bias_param { axis: -1 filler { type: "uniform" } }'),
    "bias of a bottom": TWO + plain("Bias", "bias_param { axis: 0 }", 'bottom: "a" bottom: "b"'),
    "sum": PAIR + plain("Eltwise", "eltwise_param { coeff: 1 coeff: -2 }", BOTH),
    "product": PAIR + plain("Eltwise", "eltwise_param { operation: PROD }", f'{BOTH} bottom: "x"'),
    "maximum": PAIR + plain("Eltwise", "eltwise_param { operation: MAX }", BOTH),
    "concat": PAIR + plain("Concat", "concat_param { axis: -2 }", BOTH),
    "slice": X4
    + plain("Slice", "slice_param { axis: 1 slice_point: 1 slice_point: 3 }", tops='top: "a" top: "b" top: "c"'),
    "slice evenly": X4 + plain("Slice", tops='top: "a" top: "b"'),
    "flatten": X4 + plain("Flatten", "flatten_param { axis: 2 }"),
    "reshape": X4 + plain("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 3 } }"),
    "tile": X4 + plain("Tile", "tile_param { axis: 2 tiles: 3 }"),
    "crop": X % "dim: 2 dim: 6 dim: 9 dim: 11"
    + 'layer { name: "like" type: "Input" top: "like" input_param { shape { dim: 1 dim: 1 dim: 5 dim: 4 } } }\n'
    + plain("Crop", "crop_param { offset: 3 offset: 2 }", 'bottom: "x" bottom: "like"'),
    "reductions": X4
    + "".join(
        f'layer {{ name: "{kind}" type: "Reduction" bottom: "x" top: "{kind}" '
        f"reduction_param {{ operation: {kind} axis: {axis} coeff: 0.5 }} }}\n"
        for axis, kind in enumerate(("SUM", "ASUM", "SUMSQ", "MEAN"))
    ),
    "argmax": X2 + plain("ArgMax"),
    "argmax axis": X4 + plain("ArgMax", "argmax_param { axis: 1 }"),
    "split and silence": X4 + plain("Split", tops='top: "y" top: "z"') + plain("Silence", tops=""),
    "parameter": 'layer { name: "p" type: "Parameter" top: "y" parameter_param { shape { dim: 2 dim: 5 } } }\n'
    + X2
    + plain("TanH", tops='top: "t"'),
    "in place": X4
    + plain("TanH", tops='top: "y"')
    + "".join(
        f'layer {{ name: "{kind}" type: "{kind}" bottom: "y" top: "y" {settings} }}'
        for kind, settings in (("ReLU", ""), ("Power", "power_param { shift: 2 }"))
    ),
    "in place on the input": X4
    + 'layer { name: "relu" type: "ReLU" bottom: "x" top: "x" }'
    + plain("Power", "power_param { scale: 2 }"),
}


def net_of(case, generator):
    net = net_from_text(CASES[case], seed=1)
    for layer in net.layers:
        if layer.type == "BatchNorm":
            fill_statistics(layer, generator)
    return net


@pytest.mark.parametrize("case", CASES)
def test_layers(case):
    generator = np.random.default_rng(0)
    net = net_of(case, generator)
    assert difference(net, inputs_of(net, generator.standard_normal)) <= 1e-5


@pytest.mark.parametrize("case", sorted(CASES.keys() - {"crop"}))
def test_layers_with_an_open_batch(case):
    generator = np.random.default_rng(0)
    net = net_of(case, generator)
    model = to_onnx(net, dynamic_batch=True)
    assert {value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.input} == {"batch"}
    for batch in (1, 4):
        feed = inputs_of(net, lambda shape, batch=batch: generator.standard_normal((batch, *shape[1:])))
        assert difference(net, feed, model) <= 1e-5


def test_a_multiple_of_an_open_batch():
    net = net_from_text(X4 + plain("Reshape", "reshape_param { shape { dim: -1 dim: 33 } }"))
    model = to_onnx(net, dynamic_batch=True)
    (output,) = model.graph.output
    assert [dim.dim_value for dim in output.type.tensor_type.shape.dim] == [0, 33]
    assert run(model, {"x": np.zeros((5, 6, 9, 11), np.float32)})["y"].shape == (90, 33)
    assert net.blobs["x"].shape == (2, 6, 9, 11)


def fill_statistics(layer, generator):
    mean, variance, weight = (blob.data for blob in layer.blobs)
    mean[...], variance[...], weight[...] = generator.normal(0, 1, len(mean)), generator.uniform(1, 2, len(mean)), 2


RECURRENT = """
layer { name: "in" type: "Input" top: "x" top: "cont" %s
  input_param { shape { dim: 4 dim: 2 dim: 3 } shape { dim: 4 dim: 2 } %s } }
layer { name: "l" type: "%s" bottom: "x" bottom: "cont" %s top: "y" %s recurrent_param { num_output: 5 %s """
RECURRENT += 'weight_filler { type: "uniform" min: -1 } bias_filler { type: "uniform" } } }'
STATE = "shape { dim: 1 dim: 2 dim: 5 }"


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
@pytest.mark.parametrize("static", [False, True])
def test_recurrent_layers(kind, static):
    extra = ('top: "s"', "shape { dim: 2 dim: 4 }", 'bottom: "s"') if static else ("", "", "")
    net = net_from_text(RECURRENT % (extra[0], extra[1], kind, extra[2], "", ""), seed=2)
    generator = np.random.default_rng(1)
    feed = inputs_of(net, generator.standard_normal)
    feed["cont"] = np.array([[0, 0], [1, 1], [1, 0], [1, 1]], np.float32)
    model, states = to_onnx(net), {}
    for _ in range(2):
        found = run(model, feed | states)
        np.testing.assert_allclose(found["y"], net.forward(**feed)["y"], atol=1e-6)
        states = {f"l/{name}_0": found[f"l/{name}_T"] for name in ("h", "c")[: 2 if kind == "LSTM" else 1]}
        feed["cont"] = np.ones_like(feed["cont"])


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_recurrent_layers_that_expose_their_state(kind):
    count = 2 if kind == "LSTM" else 1
    bottoms, tops = (" ".join(f'{way}: "{name}"' for name in "hc"[:count]) for way in ("bottom", "top"))
    outputs = " ".join(f'top: "{name}T"' for name in "hc"[:count])
    exposed = "expose_hidden: true"
    net = net_from_text(RECURRENT % (tops, STATE * count, kind, bottoms, outputs, exposed), seed=2)
    assert difference(net, inputs_of(net, np.random.default_rng(1).standard_normal)) <= 1e-5


@pytest.mark.parametrize(
    ("prototxt", "said"),
    [
        (CASES["crop"], r"must come first in all inputs; they have shapes \{'x': \(2, 6, 9, 11\), 'like': \(1, 1"),
        (X4 + plain("Slice", "slice_param { axis: 0 }", tops='top: "a" top: "b"'), "takes none of 1: line 2: layer"),
        (X4 + plain("Slice", "slice_param { axis: 0 }"), "a batch that is left open cannot be cut"),
        (
            CASES["parameter"] + plain("Concat", "concat_param { axis: 0 }", 'bottom: "x" bottom: "y"', 'top: "j"'),
            r"blob \"j\" has shape \(3, 5\) for one item and \(4, 5\) for two",
        ),
        (RECURRENT % ("", "", "LSTM", "", "", ""), "the steps and streams of a recurrent layer cannot"),
    ],
)
def test_a_batch_that_cannot_be_left_open(prototxt, said):
    with pytest.raises(BlobnetError, match=said):
        to_onnx(net_from_text(prototxt), dynamic_batch=True)


def fill(net, feed, generator):
    """Weights that keep a signal's size, and scores that do not drive a softmax into 0 and 1."""
    weighted = [layer for layer in net.layers if layer.blobs and layer.type not in ("BatchNorm", "Scale")]
    for layer in weighted:
        weights = layer.blobs[0].data
        size = (2 * len(weights) / weights.size) ** 0.5
        weights[...] = generator.standard_normal(weights.shape, np.float32) * size
    for layer in net.layers:
        if layer.type == "BatchNorm":
            fill_statistics(layer, generator)
    if net.layers[-1].type == "Softmax":
        (scores,) = net.forward(end=net.layers[-2].name, **feed).values()
        weighted[-1].blobs[0].data[...] *= 2 / scores.std()


SMALL = 99  # rows and columns instead of 224 or 227 where a full image would ask for 100 million weights


@pytest.mark.parametrize("name", [name for name in zoo.names() if (zoo.folder(name) / "deploy.prototxt").is_file()])
def test_deploy_nets_of_the_zoo(name):
    param = text.read(zoo.folder(name) / "deploy.prototxt", pb.NetParameter())
    for layer in param.layer:
        for shape in layer.input_param.shape:
            shape.dim[0] = 1
            if name.startswith(("vgg", "alexnet", "caffenet")):
                shape.dim[2:] = [SMALL, SMALL]
    net = Net(param, TEST, seed=1, weights=zoo.weights(name))
    generator = np.random.default_rng(0)
    draw = (lambda shape: np.zeros(shape)) if name.startswith("char") else generator.standard_normal
    feed = inputs_of(net, draw)
    if zoo.weights(name) is None:
        fill(net, feed, generator)
    assert difference(net, feed) <= 1e-4


def test_a_net_of_the_zoo_with_an_open_batch():
    net = Net(zoo.folder("lenet") / "deploy.prototxt", TEST, weights=zoo.weights("lenet"))
    model = to_onnx(net, dynamic_batch=True)
    draw = np.random.default_rng(0).standard_normal
    for batch in (1, 7):
        feed = {"data": draw((batch, 1, 28, 28)).astype(np.float32)}
        assert difference(net, feed, model) <= 1e-5


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = ROOT / "files"
    argv = ["export-onnx", str(files / "tiny_deploy.prototxt"), str(files / "tiny_iter_10.caffemodel")]
    assert cli.main([*argv, "tiny.onnx"]) == 0
    assert capsys.readouterr().out == "Wrote tiny.onnx\n"
    model = onnx.load("tiny.onnx")
    assert [opset.version for opset in model.opset_import] == [18]
    assert model.producer_name == "blobnet"
    with np.load(files / "expected/deploy_tiny_iter_10.npz") as recorded:
        (found,) = run(model, {model.graph.input[0].name: recorded["input"]}).values()
        np.testing.assert_allclose(found, recorded[f"blob__{model.graph.output[0].name}"], atol=1e-6)
    (tmp_path / "w.caffemodel").write_bytes((files / "tiny_iter_10.caffemodel").read_bytes())
    assert cli.main([*argv[:2], "w.caffemodel"]) == 0
    assert (tmp_path / "w.onnx").read_bytes() == (tmp_path / "tiny.onnx").read_bytes()
    assert cli.main([*argv, "--dynamic-batch", "tiny.onnx"]) == 0
    assert onnx.load("tiny.onnx").graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize(
    ("prototxt", "said"),
    [
        (
            X4 + plain("Im2col", "convolution_param { kernel_size: 3 }"),
            r"line 2: layer \"l\" \(Im2col\): Im2col cannot be",
        ),
        (X4 + pooling(pool="STOCHASTIC", kernel_size=2), "STOCHASTIC pooling cannot be exported"),
        (X4 + plain("BatchNorm", "batch_norm_param { use_global_stats: false }"), "leave use_global_stats out"),
        (X4 + plain("ArgMax", "argmax_param { top_k: 2 }"), "leave top_k and out_max_val out"),
        (X4 + convolution(num_output=2, kernel_size=3, axis=0), "only channels on axis 1"),
        ('layer { name: "d" type: "DummyData" top: "y" dummy_data_param { shape { dim: 1 } } }', "export the deploy"),
    ],
)
def test_what_cannot_be_exported(prototxt, said):
    with pytest.raises(BlobnetError, match=said):
        to_onnx(net_from_text(prototxt))


def test_every_rule_is_for_a_layer_type():
    assert set(graph.RULES) <= set(layer_types())


def test_without_onnx(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    files = ROOT / "files"
    argv = [str(files / "tiny_deploy.prototxt"), str(files / "tiny_iter_10.caffemodel"), str(tmp_path / "o")]
    assert cli.main(["export-onnx", *argv]) == 1
    assert 'onnx is needed and not installed: pip install "blobnet[export]"' in capsys.readouterr().err
