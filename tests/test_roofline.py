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
def net():
    return testing.net_from_text(NET)


def test_forward(net):
    assert roofline.forward(net, range(1, 2)) == (2 * 5 * 3 * 4, 4 * (X + Y + W + B))


def test_sources_are_not_judged(net):
    assert roofline.forward(net, range(1)) == (0, 0)


@pytest.mark.parametrize(
    "propagate, learn, products, numbers",
    [
        (True, True, 2, 2 * X + Y + W + B + 2 * (W + B)),
        (True, False, 1, 2 * X + Y + W + B),
        (False, True, 1, X + Y + 2 * (W + B)),
    ],
)
def test_backward(net, propagate, learn, products, numbers):
    net.layers[1].param_propagate_down[:] = [learn, learn]
    net.bottom_need_backward[1] = [propagate]
    assert roofline.backward(net, range(1, 2)) == (products * 2 * 5 * 3 * 4, 4 * numbers)


def test_what_lies_within_a_step_does_not_move(net):
    net = testing.net_from_text(
        NET
        + """layer { name: "bn" type: "BatchNorm" bottom: "y" top: "z" }
        layer { name: "scale" type: "Scale" bottom: "z" top: "z" scale_param { bias_term: true } }
        layer { name: "relu" type: "ReLU" bottom: "z" top: "z" }"""
    )
    assert net.steps == [range(1), range(1, 2), range(2, 5)]
    assert roofline.forward(net, net.steps[-1]) == (0, 4 * (2 * Y + (4 + 4 + 1) + (4 + 4)))


JOINED = """
force_backward: true
layer { name: "x" type: "Input" top: "x" top: "z"
  input_param { shape { dim: 5 dim: 3 dim: 2 } shape { dim: 5 dim: 1 dim: 2 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "join" type: "Concat" bottom: "c" bottom: "z" top: "y" }
"""


def test_a_concat_makes_no_diffs_that_others_read_in_its_top():
    net = testing.net_from_text(JOINED)
    z, c = 5 * 2, 5 * 4 * 2
    assert roofline.backward(net, net.steps[-1]).bytes == 4 * 3 * (z + c)
    net.fuse(lean=True)
    assert roofline.backward(net, net.steps[-1]).bytes == 4 * 2 * z
    assert roofline.forward(net, net.steps[-1]).bytes == 4 * 2 * (z + c)
    net = testing.net_from_text(JOINED.replace('bottom: "z"', ""))
    net.fuse(lean=True)
    assert roofline.forward(net, net.steps[-1]) == roofline.backward(net, net.steps[-1]) == (0, 0)


def test_the_slower_of_the_two_limits_counts():
    limits = Limits(flops=10.0, bytes=4.0)
    assert roofline.Work(flops=20, bytes=4).seconds(limits) == 2
    assert roofline.Work(flops=20, bytes=40).seconds(limits) == 10
