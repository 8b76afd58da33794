"""InnerProduct: gradients, reference values and refusals."""

import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.testing import check_gradient, net_from_text

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    "param",
    [
        "",
        "bias_term: false",
        "transpose: true",
        "axis: 2",
        "axis: 0",
        "axis: -1",
        "axis: 2 transpose: true bias_term: false",
    ],
)
def test_gradient(param):
    fillers = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
    layer = f'layer {{ name: "l" type: "InnerProduct" inner_product_param {{ num_output: 3 {param} {fillers} }} }}'
    check_gradient(layer, [RANDOM.standard_normal((4, 2, 3))])


def _net(param, shape="dim: 5 dim: 2 dim: 3"):
    return net_from_text(f"""
        layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {shape} }} }} }}
        layer {{ name: "l" type: "InnerProduct" bottom: "x" top: "y" inner_product_param {{ {param} }} }}""")


@pytest.mark.parametrize("transpose", [False, True])
def test_value(transpose):
    net = _net(f"num_output: 4 transpose: {str(transpose).lower()}")
    w, bias = (blob.data for blob in net.params["l"])
    w[...], bias[...] = RANDOM.standard_normal(w.shape), RANDOM.standard_normal(4)
    x = RANDOM.standard_normal((5, 2, 3)).astype(np.float32)
    assert w.shape == ((6, 4) if transpose else (4, 6))
    expected = x.reshape(5, 6) @ (w if transpose else w.T) + bias
    np.testing.assert_allclose(net.forward(x=x)["y"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("param", "rule"),
    [
        ("", "num_output must be given and positive"),
        ("num_output: 0", "num_output must be given and positive"),
        ("num_output: 2 axis: 3", "axis 3 is out of range"),
    ],
)
def test_a_wrong_parameter_is_refused(param, rule):
    with pytest.raises(BlobnetError, match=rf'layer "l" \(InnerProduct\): .*{rule}'):
        _net(param)


def test_an_empty_bottom_is_refused():
    for shape in ("dim: 0 dim: 3", "dim: 3 dim: 0"):
        with pytest.raises(BlobnetError, match="is empty"):
            _net("num_output: 2", shape)


def test_another_number_of_inputs_after_a_reshape_is_refused():
    net = _net("num_output: 2")
    net.blobs["x"].reshape(5, 2, 4)
    with pytest.raises(BlobnetError, match="must have 6 inputs from axis 1 on, as when the layer was made; got 8"):
        net.reshape()
