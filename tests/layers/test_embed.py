"""Embed: gradients of the table, reference values and refusals."""

import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.testing import check_gradient, net_from_text


@pytest.mark.parametrize("bias_term", ["true", "false"])
def test_gradient(bias_term):
    layer = f"""
        layer {{ name: "l" type: "Embed" embed_param {{
          num_output: 3 input_dim: 5 bias_term: {bias_term} weight_filler {{ type: "gaussian" }} }} }}"""
    check_gradient(layer, [np.array([[0, 4, 1], [4, 4, 2]])], check_bottoms=[])


def _net(param="num_output: 3 input_dim: 5"):
    return net_from_text(f"""
        layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 }} }} }}
        layer {{ name: "l" type: "Embed" bottom: "x" top: "y" embed_param {{ {param} }} }}""")


def test_value():
    net = _net()
    table, bias = (blob.data for blob in net.params["l"])
    table[...], bias[...] = np.random.default_rng(0).standard_normal((5, 3)), [1, 2, 3]
    indices = np.array([[0, 4, 1], [4, 4, 2]])
    np.testing.assert_array_equal(net.forward(x=indices)["y"], table[indices] + bias)


@pytest.mark.parametrize("value", [-1, 5, 1.5, np.nan, np.inf])
def test_an_index_that_is_no_row_is_refused(value):
    net = _net()
    with pytest.raises(BlobnetError, match=rf"whole numbers from 0 to input_dim - 1 = 4; got {value:g}"):
        net.forward(x=np.full((2, 3), value))


def test_indices_have_no_gradient():
    net = _net()
    layer = net.layers[-1]
    assert not layer.has_backward(0)
    with pytest.raises(BlobnetError, match='blob "x" .* holds indices, which have no gradient'):
        layer.backward(net.tops[-1], [True], net.bottoms[-1])


@pytest.mark.parametrize(
    ("param", "rule"),
    [
        ("input_dim: 5", "num_output must be given and positive"),
        ("num_output: 3", "input_dim must be given and positive"),
    ],
)
def test_a_wrong_parameter_is_refused(param, rule):
    with pytest.raises(BlobnetError, match=rule):
        _net(param)
