"""What the passes over a net's layers do besides running each: reshaping, weighing losses, telling hooks."""

import numpy as np
import pytest

from blobnet.errors import BlobnetError
from blobnet.net import Net
from blobnet.testing import net_from_text

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "ip" top: "ip" }
layer { name: "sum" type: "Reduction" bottom: "ip" top: "sum" loss_weight: 0.5 reduction_param { axis: 1 } }
"""
DATA = np.array([[1, -2, 3], [0.5, 0, -1]], np.float32)


@pytest.fixture
def net() -> Net:
    return net_from_text(NET, seed=3)


def test_an_input_of_another_shape_reshapes_what_follows(net):
    net.forward(data=np.tile(DATA, (3, 1)))
    assert net.blobs["sum"].shape == (6,)
    net.blobs["data"].reshape(1, 3)
    net.reshape()
    assert net.blobs["sum"].shape == (1,)


def test_a_new_plan_of_fusion_leaves_shapes_to_be_seen(net):
    net.set_input("data", np.tile(DATA, (3, 1)))
    net.fuse(lean=True)
    assert net.forward()["sum"].shape == (6,)


def test_an_empty_blob_is_refused(net):
    with pytest.raises(BlobnetError, match=r'layer "data" \(Input\): blob "data" \(0 x 3\) is empty'):
        net.forward(data=np.zeros((0, 3)))


def test_a_loss_is_the_weighted_sum_of_its_top_whatever_its_shape(net):
    for batch in (DATA, np.tile(DATA, (3, 1)), DATA[:1]):
        net.set_input("data", batch)
        loss = net.forward_from_to(0, len(net.layers) - 1)
        assert loss == pytest.approx(0.5 * net.blobs["sum"].data.sum(dtype=np.float64), rel=1e-6)
        assert (net.blobs["sum"].diff == 0.5).all()


def test_hooks_get_the_net_and_see_every_layer_in_order(net):
    seen = []
    net.before_forward.append(lambda net, index: seen.append(("forward", net.layer_names[index])))
    net.after_backward.append(lambda net, index: seen.append(("backward", net.layer_names[index])))
    net.before_forward.append(lambda given, index: seen.append(given) if given is not net else None)
    net.forward(data=DATA)
    net.backward()
    assert seen == [("forward", name) for name in net.layer_names] + [
        ("backward", name) for name in reversed(net.layer_names)
    ]
