import numpy as np
import pytest

import blobnet.pycaffe as caffe

DEPLOY = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 6 dim: 8 } } }
layer { name: "score" type: "InnerProduct" bottom: "data" top: "score"
  inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "deploy.prototxt").write_text(DEPLOY)
    model, weights = str(tmp_path / "deploy.prototxt"), str(tmp_path / "net.caffemodel")
    caffe.Net(model, caffe.TEST).save(weights)
    return model, weights


def images(count, height=10, width=12):
    return [np.random.default_rng(seed).random((height, width, 3)).astype(np.float32) for seed in range(count)]


def scores(net, arrays):
    """Probabilities by the formula, for items [C, H, W]."""
    weights, bias = (blob.data for blob in net.params["score"])
    values = np.stack([array.reshape(-1) for array in arrays]) @ weights.T + bias
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_centre_crop(files):
    net = caffe.Classifier(*files, image_dims=(10, 12), raw_scale=255, mean=np.array([1.0, 2.0, 3.0]))
    inputs = images(6)
    expected = [image[2:8, 2:10].transpose(2, 0, 1) * 255 - [[[1]], [[2]], [[3]]] for image in inputs]
    found = net.predict(inputs, oversample=False)
    np.testing.assert_allclose(found, scores(net, expected), rtol=1e-3, atol=1e-6)


def test_mean_over_ten_crops(files):
    net = caffe.Classifier(*files, image_dims=(10, 12), channel_swap=(2, 1, 0), input_scale=0.5)
    inputs = images(3)
    crops = caffe.io.oversample(inputs, (6, 8)).transpose(0, 3, 1, 2)[:, ::-1] * 0.5
    expected = scores(net, crops).reshape(3, 10, 5).mean(axis=1)
    np.testing.assert_allclose(net.predict(inputs), expected, rtol=1e-4)


def test_images_are_resized_to_the_input_where_nothing_else_is_said(files):
    net = caffe.Classifier(*files)
    np.testing.assert_array_equal(net.image_dims, [6, 8])
    np.testing.assert_array_equal(net.crop_dims, [6, 8])
    inputs = images(2)
    expected = [caffe.io.resize_image(image, (6, 8)).transpose(2, 0, 1) for image in inputs]
    np.testing.assert_allclose(net.predict(inputs, False), scores(net, expected), rtol=1e-4)


def test_it_is_a_net_with_a_transformer(files):
    net = caffe.Classifier(*files, mean=np.zeros((3, 6, 8)))
    assert isinstance(net, caffe.Net)
    assert isinstance(net.transformer, caffe.io.Transformer)
    assert net.transformer.mean["data"].shape == (3, 6, 8)
    with pytest.raises(ValueError, match="mean"):
        caffe.Classifier(*files, mean=np.zeros(4))
