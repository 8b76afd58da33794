"""Convolution, Deconvolution and Im2col: gradients and refusals; deconvolution against its defining sum."""

import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.kernels.geometry import Geometry
from blobnet.testing import check_gradient, net_from_text
from tests.naive import convolution as naive

RANDOM = np.random.default_rng(0)

GRADIENT_CASES = {
    "plain": ((2, 3, 5, 6), "num_output: 4 kernel_size: 3"),
    "no bias": ((2, 3, 5, 6), "num_output: 4 kernel_size: 3 bias_term: false"),
    "group": ((2, 4, 5, 5), "num_output: 6 kernel_size: 3 group: 2"),
    "depthwise": ((1, 3, 5, 5), "num_output: 3 kernel_size: 3 pad: 1 group: 3"),
    "stride and padding": ((2, 2, 6, 7), "num_output: 3 kernel_size: 3 stride: 2 pad: 1"),
    "stride larger than the kernel": ((1, 2, 7, 7), "num_output: 2 kernel_size: 2 stride: 3"),
    "dilation": ((1, 2, 7, 8), "num_output: 2 kernel_size: 2 dilation: 3 pad: 1"),
    "sides of their own": (
        (1, 2, 6, 7),
        "num_output: 2 kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 2 pad_h: 2 pad_w: 1 dilation: 1 dilation: 2",
    ),
    "one axis": ((2, 3, 9), "num_output: 2 kernel_size: 4 stride: 2 pad: 1"),
    "three axes": ((1, 2, 3, 4, 5), "num_output: 2 kernel_size: 2 kernel_size: 3 kernel_size: 1 pad: 1"),
    "axis 2": ((2, 2, 3, 5, 4), "axis: 2 num_output: 2 kernel_size: 2"),
    "no spatial axis": ((3, 4), "num_output: 2 kernel_size: 1"),
}


@pytest.mark.parametrize("case", GRADIENT_CASES)
@pytest.mark.parametrize("layer_type", ["Convolution", "Deconvolution"])
def test_gradient(layer_type, case):
    shape, param = GRADIENT_CASES[case]
    fillers = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
    layer = f'layer {{ name: "l" type: "{layer_type}" convolution_param {{ {param} {fillers} }} }}'
    check_gradient(layer, [RANDOM.standard_normal(shape)])


@pytest.mark.parametrize("layer_type", ["Convolution", "Deconvolution"])
def test_gradient_of_several_bottoms_through_the_same_filters(layer_type):
    layer = f"""
        layer {{
          name: "l" type: "{layer_type}" top: "y0" top: "y1"
          convolution_param {{ num_output: 2 kernel_size: 2 weight_filler {{ type: "gaussian" }} }}
        }}"""
    check_gradient(layer, [RANDOM.standard_normal((2, 2, 4, 3)) for _ in range(2)])


@pytest.mark.parametrize(
    "case", ["plain", "stride and padding", "dilation", "sides of their own", "three axes", "axis 2"]
)
def test_gradient_of_im2col(case):
    shape, param = GRADIENT_CASES[case]
    check_gradient(
        f'layer {{ name: "l" type: "Im2col" convolution_param {{ {param} }} }}', [RANDOM.standard_normal(shape)]
    )


def _random_deconvolution(generator):
    """Convolution seen from its output: any input size makes a deconvolution, unless padding takes all away."""
    axes = int(generator.choice([1, 2, 2, 2, 3]))
    size, kernel, stride, dilation, pad = (
        tuple(map(int, generator.integers(low, high, axes))) for low, high in ((1, 8), (1, 5), (1, 5), (1, 4), (0, 4))
    )
    output = tuple(
        s * (i - 1) + d * (k - 1) + 1 - 2 * p for i, k, s, d, p in zip(size, kernel, stride, dilation, pad, strict=True)
    )
    return Geometry(output, kernel, stride, pad, dilation, size)


def _repeated(name, values):
    return " ".join(f"{name}: {value}" for value in values)


@pytest.mark.parametrize("seed", range(10))
def test_deconvolution_against_its_sum(seed):
    generator = np.random.default_rng(seed)
    done = 0
    while done < 32:
        geometry = _random_deconvolution(generator)
        if min(geometry.input) < 1:
            continue
        done += 1
        group = int(generator.choice([1, 1, 2, 3]))
        channels, filters = (group * int(generator.integers(1, 5)) for _ in range(2))
        fields = [
            _repeated(name, values)
            for name, values in zip(("kernel_size", "stride", "pad", "dilation"), geometry[1:5], strict=True)
        ]
        x = generator.standard_normal((2, channels, *geometry.output)).astype(np.float32)
        net = net_from_text(f"""
            force_backward: true
            layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {_repeated("dim", x.shape)} }} }} }}
            layer {{ name: "l" type: "Deconvolution" bottom: "x" top: "y"
                    convolution_param {{ num_output: {filters} group: {group} {" ".join(fields)} }} }}""")
        w = net.params["l"][0]
        bias = net.params["l"][1]
        w.data[...] = generator.standard_normal(w.shape)
        bias.data[...] = generator.standard_normal(bias.shape)
        y = net.forward(x=x)["y"]
        column = bias.data.reshape(-1, *[1] * len(geometry.input))
        _assert_near(y, naive.backward_data(x, w.data, geometry, group) + column)
        dy = generator.standard_normal(y.shape).astype(np.float32)
        net.blobs["y"].diff[...] = dy
        net.backward()
        _assert_near(net.blobs["x"].diff, naive.forward(dy, w.data, geometry, group))
        _assert_near(w.diff, naive.backward_weights(dy, x, geometry, group))


def _assert_near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def _build(layer_type, param, shape=(2, 4, 6, 6)):
    net_from_text(f"""
        layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {_repeated("dim", shape)} }} }} }}
        layer {{
          name: "l" type: "{layer_type}" bottom: "x" top: "y"
          convolution_param {{ {param} }}
        }}""")


REFUSED = {
    "num_output: 2": "kernel_size must be given, once or once per spatial axis",
    "kernel_size: 2": "num_output must be given and positive",
    "num_output: 0 kernel_size: 2": "num_output must be given and positive",
    "num_output: 3 kernel_size: 2 group: 3": "must be divisible by group; got 4 channels on axis 1, group 3",
    "num_output: 3 kernel_size: 2 group: 2": "num_output must be divisible by group; got num_output 3, group 2",
    "num_output: 3 kernel_size: 2 group: 0": "group must be positive",
    "num_output: 3 kernel_h: 2": "kernel_size must be 1 or more; got 2 x 0",
    "num_output: 3 kernel_size: 0": "kernel_size must be 1 or more; got 0",
    "num_output: 3 kernel_size: 2 stride: 0": "stride must be 1 or more",
    "num_output: 3 kernel_size: 2 dilation: 0": "dilation must be 1 or more",
    "num_output: 3 kernel_size: 2 kernel_h: 2 kernel_w: 2": "state either kernel_size or kernel_h and kernel_w",
    "num_output: 3 kernel_size: 2 stride: 1 stride_h: 1 stride_w: 1": "state either stride or stride_h and stride_w",
    "num_output: 3 kernel_size: 2 pad: 1 pad_w: 1": "state either pad or pad_h and pad_w, not both",
    "num_output: 3 kernel_size: 2 kernel_size: 2 kernel_size: 2": "it is given 3 times",
    "num_output: 3 kernel_size: 2 pad: 1 pad: 1 pad: 1": "it is given 3 times",
    "num_output: 3 kernel_size: 2 axis: 4": "axis 4 is out of range",
    "num_output: 3 kernel_h: 2 kernel_w: 2 axis: 2": "kernel_h and kernel_w are for two spatial axes; here are 1",
}


@pytest.mark.parametrize("param", REFUSED)
@pytest.mark.parametrize("layer_type", ["Convolution", "Deconvolution"])
def test_a_wrong_parameter_is_refused(layer_type, param):
    with pytest.raises(BlobnetError, match=rf'layer "l" \({layer_type}\): .*{REFUSED[param]}'):
        _build(layer_type, param)


@pytest.mark.parametrize("layer_type", ["Convolution", "Im2col"])
@pytest.mark.parametrize("param", ["kernel_size: 7", "kernel_size: 4 dilation: 2", "kernel_size: 9 stride: 3 pad: 1"])
def test_a_kernel_larger_than_the_padded_image_is_refused(layer_type, param):
    with pytest.raises(BlobnetError, match=r'does not fit into blob "x" \(2 x 4 x 6 x 6\)'):
        _build(layer_type, f"num_output: 3 {param}")


def test_a_deconvolution_whose_padding_takes_all_away_is_refused():
    with pytest.raises(BlobnetError, match=r"pad 4 x 4 leaves no pixel"):
        _build("Deconvolution", "num_output: 3 kernel_size: 3 pad: 4")


@pytest.mark.parametrize("layer_type", ["Convolution", "Deconvolution", "Im2col"])
def test_an_empty_batch_is_refused(layer_type):
    with pytest.raises(BlobnetError, match=r'blob "x" \(0 x 4 x 6 x 6\) is empty'):
        _build(layer_type, "num_output: 3 kernel_size: 3", (0, 4, 6, 6))


def _two_inputs(shape, other, tops='top: "y" top: "z"'):
    return net_from_text(f"""
        layer {{ name: "in" type: "Input" top: "a" top: "b" input_param {{
          shape {{ {_repeated("dim", shape)} }} shape {{ {_repeated("dim", other)} }} }} }}
        layer {{ name: "l" type: "Convolution" bottom: "a" bottom: "b" {tops}
                convolution_param {{ num_output: 2 kernel_size: 3 }} }}""")


def test_bottoms_of_different_shapes_are_refused():
    with pytest.raises(BlobnetError, match="all bottoms must have one shape"):
        _two_inputs((2, 3, 5, 5), (2, 3, 5, 6))


def test_a_bottom_without_top_is_refused():
    with pytest.raises(BlobnetError, match="each bottom needs its top; got 2 bottoms and 1 tops"):
        _two_inputs((2, 3, 5, 5), (2, 3, 5, 5), 'top: "y"')


def test_other_channels_after_a_reshape_are_refused():
    net = _two_inputs((2, 3, 5, 5), (2, 3, 5, 5))
    net.blobs["a"].reshape(2, 4, 5, 5)
    with pytest.raises(BlobnetError, match="must have 3 channels on axis 1"):
        net.reshape()
