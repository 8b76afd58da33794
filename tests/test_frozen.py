"""A frozen net predicts what its layers predict one by one, within rounding, and says what it no longer holds."""

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from blobnet import config
from blobnet.blob import Blob
from blobnet.errors import BlobnetError
from blobnet.kernels import convolution
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.testing import net_from_text
from tests.test_fused import APART, RESIDUAL, kernels_of

WEIGHTED = RESIDUAL.replace("coeff: 1 coeff: -0.5", "coeff: 0.7 coeff: -0.5")
WIDE = RESIDUAL.replace("num_output: 5", "num_output: 32").replace("dim: 9 dim: 9", "dim: 18 dim: 18")
DEPTHWISE = RESIDUAL.replace("num_output: 6 kernel_size: 3 pad: 1 group: 2", "num_output: 8 kernel_size: 3 group: 4")
GATED = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 4 dim: 8 dim: 8 } } }
layer { name: "dw" type: "Convolution" bottom: "data" top: "dw"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 group: 4 weight_filler { type: "msra" } } }
layer { name: "sum" type: "Eltwise" bottom: "dw" bottom: "data" top: "sum" }
layer { name: "c" type: "Convolution" bottom: "sum" top: "c"
  convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "bn" batch_norm_param { use_global_stats: false } }
layer { name: "relu" type: "ReLU" bottom: "bn" top: "relu" }
"""


def build(prototxt: str, **options) -> Net:
    """A net whose weights and statistics are those of a trained one: none is 0 or 1."""
    net = net_from_text(prototxt, pb.TEST, seed=7, **options)
    random = np.random.default_rng(5)
    for layer in net.layers:
        for blob in layer.blobs:
            if blob.num_axes == 1:
                blob.data[...] = random.uniform(0.5, 2, blob.shape)
    return net


def predict(net: Net, images: int = 6) -> np.ndarray:
    for name, extents in (("data", net.blobs["data"].shape[1:]), ("label", ())):
        if name in net.blobs:
            net.set_input(name, np.random.default_rng(1).uniform(0, 2, (images, *extents)).round(3))
    found = net.forward(blobs=["ip"] if "ip" in net.blobs else [])
    return np.concatenate([array.reshape(-1) for array in found.values()])


@pytest.mark.parametrize("prototxt", [RESIDUAL, APART, WEIGHTED, WIDE, DEPTHWISE, GATED])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions_are_those_of_the_layers_one_by_one(prototxt, dtype):
    plain, frozen = build(prototxt, dtype=dtype), build(prototxt, dtype=dtype)
    frozen.freeze()
    for images in (6, 1, 6):
        found, expected = predict(frozen, images), predict(plain, images)
        expected = expected[-len(found) :] if len(found) < len(expected) else expected
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max())


def test_a_convolution_takes_in_what_follows_it():
    net = build(RESIDUAL)
    net.freeze()
    kernels = kernels_of(lambda: predict(net))
    assert not {"relu", "scale", "clipped_sum", "weighted_sum"} & kernels
    spans = [[net.layers[index].name for index in step] for step in net.steps]
    assert ["c1", "bn1", "scale1", "relu1"] in spans and ["c2", "bn2", "scale2", "sum", "relu2"] in spans


def test_weights_loaded_or_written_later_count():
    first, second = build(RESIDUAL), net_from_text(RESIDUAL, pb.TEST, seed=8)
    first.freeze()
    predict(first)
    first.copy_trained_layers_from({name: [blob.data for blob in blobs] for name, blobs in second.params.items()})
    np.testing.assert_allclose(predict(first), predict(second), rtol=1e-4)
    for net in (first, second):
        net.params["scale1"][0].data[...] = 3
    first.freeze()
    np.testing.assert_allclose(predict(first), predict(second), rtol=1e-4)


def test_blobs_that_are_not_made_are_not_shown():
    net = build(APART)
    net.freeze()
    assert "n2" not in net.blobs and "r2" in net.blobs
    with pytest.raises(BlobnetError, match='blob "n2" is not made: the net is frozen'):
        net.forward(blobs=["n2"])


def test_a_hook_sees_every_layer():
    net, seen = build(RESIDUAL), []
    net.freeze()
    for _ in range(3):
        predict(net)
    net.before_forward.append(lambda net, index: seen.append(index))
    np.testing.assert_allclose(predict(net), predict(build(RESIDUAL)), rtol=1e-5)
    assert sorted(set(seen)) == list(range(len(net.layers)))


def test_what_no_group_can_take_in_runs_layer_by_layer():
    """The channels of this convolution are those of axis 2; BatchNorm works by axis 1."""
    prototxt = """
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 8 dim: 8 } } }
        layer { name: "c" type: "Convolution" bottom: "data" top: "c"
          convolution_param { num_output: 5 kernel_size: 3 axis: 2 weight_filler { type: "msra" } } }
        layer { name: "bn" type: "BatchNorm" bottom: "c" top: "bn" }"""
    frozen = build(prototxt)
    frozen.freeze()
    np.testing.assert_array_equal(predict(frozen), predict(build(prototxt)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_goes_where_it_goes_layer_by_layer(value):
    plain, frozen = build(WIDE), build(WIDE)
    frozen.freeze()
    finite = [predict(frozen) for _ in range(3)][-1]
    for net in (plain, frozen):
        predict(net)
        net.blobs["data"].data[2, 1, 4, 5] = value
        net.forward()
    found, expected = frozen.blobs["sum"].data, plain.blobs["sum"].data
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    assert 0 < np.isfinite(expected).mean() < 1
    for _ in range(3):
        np.testing.assert_array_equal(predict(frozen), finite)


def test_there_is_no_backward_pass():
    net = build(RESIDUAL)
    net.freeze()
    predict(net)
    net.backward()
    assert not net.params["c1"][0].diff.any()


POOLED = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 20 dim: 20 } } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1"
  convolution_param { num_output: 16 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "p1" type: "Pooling" bottom: "c1" top: "p1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "r1" type: "ReLU" bottom: "p1" top: "p1" }
layer { name: "c2" type: "Convolution" bottom: "p1" top: "c2"
  convolution_param { num_output: 17 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "c3" type: "Convolution" bottom: "p1" top: "c3"
  convolution_param { num_output: 9 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "join" type: "Concat" bottom: "c2" bottom: "c3" top: "join" }
layer { name: "p2" type: "Pooling" bottom: "join" top: "p2" pooling_param { pool: AVE global_pooling: true } }
layer { name: "prob" type: "Softmax" bottom: "p2" top: "prob" }
"""


@contextlib.contextmanager
def using_threads(count: int) -> Iterator[None]:
    before = config.threads()
    config.set_threads(count)
    try:
        yield
    finally:
        config.set_threads(before)


def frozen_and_used(prototxt: str = POOLED) -> Net:
    """A frozen net after three passes over images of 0: from the third on, its regions run by themselves."""
    net = build(prototxt)
    net.freeze()
    for _ in range(3):
        net.forward(data=np.zeros(net.blobs["data"].shape))
    return net


@pytest.mark.parametrize("prototxt", [POOLED, WIDE, DEPTHWISE])
def test_passes_after_passes_have_the_bits_of_a_first_one(prototxt):
    first, net = build(prototxt), frozen_and_used(prototxt)
    first.freeze()
    expected = predict(first)
    assert np.ptp(expected) > 0
    for threads in (1, 2, 4, 4, 4, 1):
        with using_threads(threads):
            np.testing.assert_array_equal(predict(net), expected)
            predict(net, 1)


def test_passes_after_passes_run_no_python(monkeypatch):
    net, expected = frozen_and_used(), predict(build(POOLED), 2)
    for layer in net.layers:
        monkeypatch.setattr(type(layer), "forward", None)
    monkeypatch.setattr(convolution, "forward", None)
    np.testing.assert_allclose(predict(net, 2), expected, rtol=1e-5)


def test_blobs_may_change_their_memory():
    net, expected = frozen_and_used(), predict(build(POOLED))
    other = Blob(net.blobs["data"].shape)
    net.blobs["data"].share_data(other)
    np.testing.assert_array_equal(net.forward()["prob"], frozen_and_used().forward()["prob"])
    net.blobs["join"].swap_data(Blob(net.blobs["join"].shape))
    np.testing.assert_allclose(predict(net), expected, rtol=1e-5)


def test_another_thread_has_work_arrays_of_its_own():
    net, found = frozen_and_used(), []
    expected = predict(net)
    thread = threading.Thread(target=lambda: found.extend(predict(net) for _ in range(3)))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found, [expected] * 3)
