"""The work of a layer's passes, counted by hand."""

import pytest

from blobnet import roofline, testing
from blobnet.kernels.limits import Limits

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 5 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 4 } }
"""
X, Y, W, B = 5 * 3, 5 * 4, 4 * 3, 4


@pytest.fixture
def layer():
    net = testing.net_from_text(NET)
    return net.layers[1], net.bottoms[1], net.tops[1]


def test_forward(layer):
    assert roofline.forward(*layer) == (2 * 5 * 3 * 4, 4 * (X + Y + W + B))


def test_sources_are_not_judged():
    net = testing.net_from_text(NET)
    assert roofline.forward(net.layers[0], net.bottoms[0], net.tops[0]) == (0, 0)


@pytest.mark.parametrize(
    "propagate, learn, products, numbers",
    [
        (True, True, 2, 2 * X + Y + W + B + 2 * (W + B)),
        (True, False, 1, 2 * X + Y + W + B),
        (False, True, 1, X + Y + 2 * (W + B)),
    ],
)
def test_backward(layer, propagate, learn, products, numbers):
    layer[0].param_propagate_down[:] = [learn, learn]
    work = roofline.backward(*layer, [propagate])
    assert work == (products * 2 * 5 * 3 * 4, 4 * numbers)


def test_the_slower_of_the_two_limits_counts():
    limits = Limits(flops=10.0, bytes=4.0)
    assert roofline.Work(flops=20, bytes=4).seconds(limits) == 2
    assert roofline.Work(flops=20, bytes=40).seconds(limits) == 10
