"""Sharing memory changes no result."""

import numpy as np
import pytest

from blobnet import buffers
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.testing import net_from_text

RESIDUAL = """
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 4 dim: 3 dim: 6 dim: 6 } shape { dim: 4 } } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1"
  convolution_param { num_output: 5 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "c2" type: "Convolution" bottom: "c1" top: "c2"
  convolution_param { num_output: 5 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "sum" type: "Eltwise" bottom: "c1" bottom: "c2" top: "sum" }
layer { name: "slice" type: "Slice" bottom: "sum" top: "half" top: "unread" slice_param { slice_point: 2 } }
layer { name: "flat" type: "Flatten" bottom: "half" top: "flat" }
layer { name: "ip" type: "InnerProduct" bottom: "flat" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" loss_weight: 2 }
"""


def step(net: Net, data: np.ndarray, label: np.ndarray) -> list[np.ndarray]:
    net.clear_param_diffs()
    net.set_input("data", data)
    net.set_input("label", label)
    loss = net.forward_backward()
    return [np.array(loss), *(blob.diff.copy() for blob in net.learnable_params)]


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(4, 3, 6, 6)), random.integers(0, 3, 4)


def test_pooled_diffs_give_the_same_gradients(batch):
    plain, pooled = (net_from_text(RESIDUAL, pb.TRAIN, seed=1) for _ in range(2))
    buffers.pool_diffs(pooled)
    for _ in range(2):
        for found, expected in zip(step(pooled, *batch), step(plain, *batch), strict=True):
            np.testing.assert_array_equal(found, expected)
    shared, own = ({blob.buffer("diff") for blob in net.blobs.values()} for net in (pooled, plain))
    assert len(shared) < len(own)


def test_two_nets_may_share_their_activations(batch):
    plain = net_from_text(RESIDUAL, pb.TRAIN, seed=1)
    train, test = (net_from_text(RESIDUAL, pb.TRAIN, seed=1) for _ in range(2))
    buffers.share_activations(test, train)
    expected = step(plain, *batch)
    for net in (train, test, train):
        for found, value in zip(step(net, *batch), expected, strict=True):
            np.testing.assert_array_equal(found, value)
    assert np.shares_memory(train.blobs["c1"].data, test.blobs["c1"].data)
    for name in ("data", "loss"):
        assert not np.shares_memory(train.blobs[name].data, test.blobs[name].data)


def test_any_number_of_nets_share():
    nets = [net_from_text(RESIDUAL, pb.TRAIN, seed=1) for _ in range(3)]
    buffers.share_activations(*nets)
    assert len({id(net.blobs["c1"].data.base) for net in nets}) == 1
