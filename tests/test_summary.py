"""Summaries against published figures and closed forms."""

import tracemalloc

import pytest

from blobnet import TRAIN, BlobnetError, summary
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.zoo import folder


def summarize(prototxt: str, **options) -> summary.Summary:
    return summary.summarize(text.parse(prototxt, pb.NetParameter()), **options)


def image(channels: int, height: int, width: int) -> str:
    shape = f"dim: 1 dim: {channels} dim: {height} dim: {width}"
    return f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {shape} }} }} }}'


def convolution(top: str, bottom: str, fields: str) -> str:
    return (
        f'layer {{ name: "{top}" type: "Convolution" bottom: "{bottom}" top: "{top}" '
        f"convolution_param {{ bias_term: false {fields} }} }}"
    )


# Parameters and multiply-adds of one image, which the papers round: 138 M (VGG-16, table 2), 1.8, 3.6, 3.8, 7.6 and
# 11.3 G (ResNet, table 1), 4.2 M and 569 M (MobileNet v1, table 8). The Caffe model of
# MobileNet v2 expands its first block, too, and halves the image later than the paper: more than its 3.4 M and 300 M.
@pytest.mark.parametrize(
    ("model", "parameters", "multiply_adds"),
    [
        ("alexnet", 60_965_224, 724_406_816),
        ("vgg11", 132_863_336, 7_609_090_048),
        ("vgg16", 138_357_544, 15_470_264_320),
        ("vgg19", 143_667_240, 19_632_062_464),
        ("resnet18", 11_689_512, 1_814_073_344),
        ("resnet34", 21_797_672, 3_663_761_408),
        ("resnet50", 25_557_096, 3_857_973_248),
        ("resnet101", 44_549_160, 7_570_194_432),
        ("resnet152", 60_192_808, 11_282_415_616),
        ("googlenet", 6_998_552, 1_582_671_872),
        ("squeezenet1_0", 1_248_424, None),
        ("squeezenet1_1", 1_235_496, None),
        ("mobilenet_v1", 4_231_976, 568_740_352),
        ("mobilenet_v2", 3_505_960, 429_111_936),
        ("lenet", 431_080, 2_293_000),
    ],
)
def test_published_figures(model, parameters, multiply_adds):
    found = summary.summarize(folder(model) / "deploy.prototxt")
    assert found.parameters == parameters
    if multiply_adds is not None:
        assert found.multiply_adds == multiply_adds


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_cifar_resnets_by_the_closed_form(depth):
    """Section 4.2: 2 n layers in each of three stages of 16, 32, 64 channels; projections are ours."""
    n = (depth - 2) // 6
    weights = 3 * 16 * 9 + sum(9 * width**2 * (2 * n) for width in (16, 32, 64)) + 64 * 10 + 10
    weights += sum(width * 2 * width - 9 * (2 * width) ** 2 + 9 * width * 2 * width for width in (16, 32))
    gains = 2 * (16 + sum(width * 2 * n for width in (16, 32, 64)) + 32 + 64)
    assert summary.summarize(folder(f"resnet{depth}") / "deploy.prototxt").parameters == weights + gains


@pytest.mark.parametrize(
    ("W", "K", "S", "P"), [(227, 11, 4, 0), (224, 7, 2, 3), (32, 5, 1, 2), (13, 3, 1, 1), (9, 2, 3, 0)]
)
def test_output_of_a_convolution(W, K, S, P):
    """N = floor((W - K + 2 P) / S) + 1."""
    net = image(1, W, W) + convolution("y", "x", f"num_output: 1 kernel_size: {K} stride: {S} pad: {P}")
    N = (W - K + 2 * P) // S + 1
    assert summarize(net).rows[1].outputs == [(1, 1, N, N)]


M, N, K, F = 12, 24, 3, 10  # input and output channels, kernel, side of the image


@pytest.mark.parametrize(
    ("layers", "parameters"),
    [
        pytest.param(convolution("y", "x", f"num_output: {N} kernel_size: 3 pad: 1"), K * K * M * N, id="standard"),
        pytest.param(
            convolution("y", "x", f"num_output: {N} kernel_size: 3 pad: 1 group: 4"), K * K * M * N // 4, id="grouped"
        ),
        pytest.param(
            convolution("y", "x", f"num_output: {M} kernel_size: 3 pad: 1 group: {M}")
            + convolution("z", "y", f"num_output: {N} kernel_size: 1"),
            K * K * M + M * N,
            id="depthwise separable",
        ),
        pytest.param(
            f'layer {{ name: "s" type: "Slice" bottom: "x" top: "a" top: "b" slice_param {{ slice_point: {M // 4} }} }}'
            + convolution("y", "a", f"num_output: {M // 4} kernel_size: 3 pad: 1")
            + 'layer { name: "z" type: "Concat" bottom: "y" bottom: "b" top: "z" }',
            K * K * (M // 4) ** 2,
            id="partial",
        ),
    ],
)
def test_kinds_of_convolution(layers, parameters):
    """Each weight is used once for each of the F x F pixels of the output."""
    found = summarize(image(M, F, F) + layers)
    assert found.parameters == parameters
    assert found.multiply_adds == F * F * parameters


def test_deconvolution_inner_product_and_recurrence():
    layers = """
        layer { name: "y" type: "Deconvolution" bottom: "x" top: "y"
                convolution_param { num_output: 6 group: 3 kernel_size: 4 stride: 2 bias_term: false } }
        layer { name: "z" type: "InnerProduct" bottom: "y" top: "z" inner_product_param { num_output: 7 } }"""
    rows = summarize(image(12, 5, 5) + layers).rows
    assert (rows[1].parameters, rows[1].multiply_adds) == (12 * 2 * 16, 12 * 2 * 16 * 25)
    assert (rows[2].parameters, rows[2].multiply_adds) == (6 * 12 * 12 * 7 + 7, 6 * 12 * 12 * 7)
    T, B, D, H = 5, 3, 4, 6
    inputs = f"shape {{ dim: {T} dim: {B} dim: {D} }} shape {{ dim: {T} dim: {B} }}"
    for kind, weights, biases in (("LSTM", 4 * H * (D + H), 4 * H), ("RNN", H * (D + H) + H * H, 2 * H)):
        found = summarize(
            f"""layer {{ name: "i" type: "Input" top: "x" top: "cont" input_param {{ {inputs} }} }}
                layer {{ name: "h" type: "{kind}" bottom: "x" bottom: "cont" top: "h"
                         recurrent_param {{ num_output: {H} }} }}"""
        )
        assert found.parameters == weights + biases
        assert found.multiply_adds == T * B * weights


def test_batch_multiplies_all_but_the_parameters():
    one, ten = (summary.summarize(folder("lenet") / "deploy.prototxt", batch=batch) for batch in (1, 10))
    assert (ten.parameters, ten.multiply_adds) == (one.parameters, 10 * one.multiply_adds)
    assert ten.activations == 10 * one.activations
    assert one == summary.summarize(folder("lenet") / "deploy.prototxt")


def test_a_net_for_its_own_batch_only_keeps_it():
    reshape = 'layer { name: "r" type: "Reshape" bottom: "x" top: "r" reshape_param { shape { dim: 4 dim: 12 } } }'
    net = image(3, 2, 2).replace("dim: 1", "dim: 4", 1) + reshape
    found = summarize(net)
    assert found.rows[1].outputs == [(4, 12)]
    assert found.notes == ["the batch is the one written: the net cannot be built for one image"]
    with pytest.raises(BlobnetError, match=r'4 x 13 has 52, blob "x" \(4 x 3 x 2 x 2\) has 48'):
        summarize(net.replace("dim: 12", "dim: 13"))


def test_activations_count_no_layer_in_place_and_no_split():
    relu = 'layer { name: "r" type: "ReLU" bottom: "x" top: "x" }'
    both = "".join(f'layer {{ name: "{top}" type: "TanH" bottom: "x" top: "{top}" }}' for top in "ab")
    found = summarize(image(2, 3, 4) + relu + both)
    assert [row.name for row in found.rows] == ["x", "r", "a", "b"]
    assert [row.activations for row in found.rows] == [4 * 24, 0, 4 * 24, 4 * 24]


def test_shared_weights_count_once_and_statistics_never():
    siamese = summary.summarize(folder("mnist_siamese") / "train_val.prototxt", TRAIN)
    assert siamese.parameters == summary.summarize(folder("mnist_siamese") / "deploy.prototxt").parameters
    assert summarize(image(2, 3, 4) + 'layer { name: "n" type: "BatchNorm" bottom: "x" top: "n" }').parameters == 0


def test_no_weight_is_stored():
    tracemalloc.start()
    found = summary.summarize(folder("vgg19") / "deploy.prototxt")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < found.parameters  # a byte for each weight; stored ones take four


def test_missing_sources():
    found = summary.summarize(folder("alexnet") / "train_val.prototxt")
    assert found.notes == ['data: there is no "ilsvrc12_val_lmdb" here; images of 3 channels are assumed']
    assert found.rows[0].outputs == [(1, 3, 227, 227), (1,)]
    found = summary.summarize(folder("resnet20") / "train_val.prototxt", TRAIN, batch=4)
    assert found.notes == []
    assert found.rows[0].outputs == [(4, 3, 32, 32), (4,)]
    data = 'layer { name: "d" type: "Data" top: "x" top: "l" data_param { source: "none_lmdb" batch_size: 5 } }'
    remedy = r"state it \(--input x=1x3x32x32 --input l=1\)"
    with pytest.raises(BlobnetError, match=rf'there is no "none_lmdb" to tell the shape of the data; {remedy}'):
        summarize(data)
    with pytest.raises(BlobnetError, match=f"no source is given to tell the shape of the data; {remedy}"):
        summarize(data.replace('source: "none_lmdb"', ""))
    rows = data.replace("Data", "HDF5Data", 1).replace("data_param", "hdf5_data_param")
    with pytest.raises(BlobnetError, match=rf'there is no "none_lmdb" to tell the shape of the data; {remedy}'):
        summarize(rows)
    assert summarize(rows, inputs={"x": (7, 8)}).rows[0].outputs == [(1, 8), (1,)]
    resized = data.replace("Data", "ImageData", 1).replace(
        "data_param { ", "image_data_param { new_height: 6 new_width: 4 "
    )
    assert summarize(resized).rows[0].outputs == [(1, 3, 6, 4), (1,)]
    assert summarize(data, inputs={"x": (7, 3, 8, 8)}, batch=2).rows[0].outputs == [(2, 3, 8, 8), (2,)]


def test_batches_read_ahead_count_in_the_memory_of_a_training_though_none_is_read():
    data = """layer { name: "d" type: "Data" top: "x" top: "l"
      transform_param { crop_size: 6 } data_param { source: "none_lmdb" batch_size: 5 prefetch: 2 } }
    layer { name: "s" type: "Silence" bottom: "x" bottom: "l" }"""
    told = summary.summarize(text.parse(data, pb.NetParameter()), TRAIN, batch=5).training
    assert told.data == 4 * (5 * 3 * 6 * 6 + 5)
    assert told.kept == 2 * told.data


def test_shapes_are_given_for_blobs_from_outside_only():
    net = image(1, 4, 4) + 'layer { name: "t" type: "TanH" bottom: "x" top: "y" }'
    assert summarize(net, inputs={"x": (1, 1, 9, 9)}).rows[1].outputs == [(1, 1, 9, 9)]
    with pytest.raises(BlobnetError, match='come from outside: x; got "y"'):
        summarize(net, inputs={"y": (1, 2)})
    python = 'layer { name: "d" type: "Python" top: "x" python_param { module: "m" layer: "L" } }'
    assert summarize(python, inputs={"x": (1, 2, 3, 4)}).rows[0].outputs == [(1, 2, 3, 4)]
    with pytest.raises(BlobnetError, match=r'"m" is not allowed to run \(--allow-python m\).*--input x=1x3x32x32\)'):
        summarize(python)


def test_table():
    lines = summary.table(summary.summarize(folder("lenet") / "deploy.prototxt"))
    assert lines[0].split() == [
        "layer",
        "type",
        "output",
        "parameters",
        "multiply-adds",
        "field",
        "stride",
        "offset",
        "bytes",
    ]
    assert lines[2].split("  ")[0] == "conv1"
    assert lines[2].split()[-6:] == ["520", "288,000", "5", "1", "0", "46,080"]
    assert lines[-1].split() == ["total", "431,080", "2,293,000", "78,816"]
