"""What a net does beyond its passes: wiring, partial runs, weights, state."""

import numpy as np
import pytest

from blobnet.errors import BlobnetError
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.testing import net_from_text

CLASSIFIER = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }
layer {
  name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } }
}
layer { name: "relu" type: "ReLU" bottom: "ip1" top: "ip1" }
layer {
  name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } }
}
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""

DATA = np.array([[1, -2, 3], [0.5, 0, -1]], np.float32)


@pytest.fixture
def net() -> Net:
    return net_from_text(CLASSIFIER, seed=3)


def hidden(net: Net) -> np.ndarray:
    weight, bias = net.params["ip1"]
    return np.maximum(DATA @ weight.data.T + bias.data, 0)


def test_forward_returns_the_outputs_and_what_is_asked_for(net):
    found = net.forward(data=DATA, label=np.array([0, 1]), blobs=["ip1"])
    assert list(found) == ["loss", "ip1"]
    np.testing.assert_allclose(found["ip1"], hidden(net), rtol=1e-6)
    assert found["ip1"] is net.blobs["ip1"].data


def test_forward_from_and_to_a_layer(net):
    assert list(net.forward(data=DATA, end="relu")) == ["ip1"]
    net.blobs["ip1"].data[...] = 1
    net.forward(start="ip2", end="ip2")
    weight, bias = net.params["ip2"]
    np.testing.assert_allclose(net.blobs["ip2"].data, np.tile(weight.data.sum(1) + bias.data, (2, 1)), rtol=1e-6)


def test_backward_down_to_a_layer(net):
    net.forward(data=DATA, label=np.array([0, 1]))
    found = net.backward(end="ip2")
    assert list(found) == ["ip1"]
    assert not net.params["ip1"][0].diff.any() and net.params["ip2"][0].diff.any()


def test_a_call_takes_the_inputs_in_order():
    net = net_from_text(CLASSIFIER[: CLASSIFIER.index('layer { name: "loss"')].replace('"label"', '"x"'), seed=3)
    scores = net(DATA, np.zeros(2))
    assert isinstance(scores, list) and len(scores) == 2  # ip2 and the unread input
    with pytest.raises(BlobnetError, match="2 inputs"):
        net(DATA)


def test_equal_seeds_fill_equal_weights(net):
    again, other = net_from_text(CLASSIFIER, seed=3), net_from_text(CLASSIFIER, seed=4)
    np.testing.assert_array_equal(net.params["ip1"][0].data, again.params["ip1"][0].data)
    assert not np.array_equal(net.params["ip1"][0].data, other.params["ip1"][0].data)
    assert not np.array_equal(net.params["ip1"][0].data[:2, :3], net.params["ip2"][0].data[:, :3])


def test_sharing_trained_layers_shares_their_memory(net):
    other = net_from_text(CLASSIFIER, seed=4)
    other.share_trained_layers_with(net)
    net.params["ip1"][0].data[0, 0] = 42
    assert other.params["ip1"][0].data[0, 0] == 42


def test_copying_weights_reports_layer_by_layer(net):
    arrays = {"ip1": [np.ones((4, 3)), np.zeros(4)], "gone": [np.zeros(2)]}
    report = net.copy_trained_layers_from(arrays)
    assert report == (["ip1"], ["gone"], ["ip2"])
    assert (net.params["ip1"][0].data == 1).all()


def test_a_net_survives_the_way_through_its_proto(net):
    copy = Net(net.to_proto(), pb.TEST, seed=9)
    copy.copy_trained_layers_from({layer.name: [blob.data for blob in layer.blobs] for layer in net.layers})
    inputs = {"data": DATA, "label": np.array([1, 0])}
    assert copy.forward(**inputs)["loss"] == net.forward(**inputs)["loss"]
    assert not net.to_proto().layer[2].HasField("source_info")


def test_shared_parameters_add_their_gradients():
    product = 'inner_product_param { num_output: 3 bias_term: false weight_filler { type: "xavier" } }'
    shared = f'param {{ name: "w" }} {product}'
    net = net_from_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }'
        f'layer {{ name: "a" type: "InnerProduct" bottom: "data" top: "a" {shared} }}'
        f'layer {{ name: "b" type: "InnerProduct" bottom: "a" top: "b" loss_weight: 1 {shared} }}',
        seed=1,
    )
    assert len(net.learnable_params) == 1
    weight = net.params["a"][0].data.astype(np.float64)
    net.forward(data=DATA)
    net.backward()
    ones = np.ones((2, 3))
    expected = ones.T @ (DATA @ weight.T) + (ones @ weight).T @ DATA
    np.testing.assert_allclose(net.params["b"][0].diff, expected, rtol=1e-5)


def test_a_multiplier_left_out_is_one(net):
    assert net.params_lr == [1, 1, 1, 1] and net.params_weight_decay == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("action", "rule"),
    [
        (lambda net: net.forward(dat=DATA), 'no blob "dat"; did you mean "data"'),
        (lambda net: net.forward(end="relu1"), 'no layer "relu1"; did you mean "relu"'),
        (lambda net: net.copy_trained_layers_from("missing.caffemodel"), "missing.caffemodel"),
    ],
)
def test_a_wrong_call_is_named(net, action, rule):
    with pytest.raises(BlobnetError, match=rule):
        action(net)


def test_an_unnamed_loss_gets_a_top_of_its_own():
    net = net_from_text(CLASSIFIER.replace(' top: "loss" }', " }"), seed=3)
    assert net.outputs == [] and len(net.tops[-1]) == 1
    net.set_input("data", DATA)
    assert net.forward_backward() > 0


def test_blobs_that_do_not_fit_into_memory():
    with pytest.raises(BlobnetError, match=r'layer "ip" \(InnerProduct\): its blobs need 3.469 EiB, with those'):
        net_from_text("""
            layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1000000000 } } }
            layer {
              name: "ip" type: "InnerProduct" bottom: "x" top: "y"
              inner_product_param { num_output: 1000000000 weight_filler { type: "xavier" } }
            }
        """)


def test_a_blob_that_is_last_worked_on_in_place_is_an_output():
    net = net_from_text(
        CLASSIFIER.replace(
            'name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss"',
            'name: "tanh" type: "TanH" bottom: "ip2" top: "ip2"',
        )
    )
    assert net.outputs == ["ip2", "label"]
