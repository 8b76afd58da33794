import numpy as np
import pytest
from PIL import Image

import blobnet.pycaffe as caffe

DEPLOY = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "score" type: "InnerProduct" bottom: "data" top: "score"
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 0.1 } } }
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deploy.prototxt").write_text(DEPLOY)
    caffe.Net("deploy.prototxt", caffe.TEST).save("net.caffemodel")
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save("image.png")
    return "deploy.prototxt", "net.caffemodel"


def test_every_window_has_a_prediction(files):
    net = caffe.Detector(*files, mean=np.array([0.1, 0.2, 0.3]), channel_swap=(2, 1, 0))
    windows = [(0, 0, 20, 30), (3, 4, 11, 12), (5, 5, 9, 15)]
    found = net.detect_windows([("image.png", windows[:2]), ("image.png", windows[2:])])
    assert [detection["window"] for detection in found] == windows
    assert {detection["filename"] for detection in found} == {"image.png"}
    image = caffe.io.load_image("image.png")
    weights, bias = (blob.data for blob in net.params["score"])
    for detection, (top, left, bottom, right) in zip(found, windows, strict=True):
        item = net.transformer.preprocess("data", image[top:bottom, left:right])
        np.testing.assert_allclose(detection["prediction"], weights @ item.reshape(-1) + bias, rtol=1e-4, atol=1e-5)


def test_context_widens_the_window(files):
    """An input of 8 with padding 2 shows the window in its 4 middle pixels: twice the window is cut out."""
    net = caffe.Detector(*files, context_pad=2)
    image = np.ones((20, 30, 3), np.float32)
    np.testing.assert_array_equal(net.crop(image, (8, 10, 11, 13)), np.ones((8, 8, 3)))
    assert net.context_pad == 2
    np.testing.assert_array_equal(net.crop_dims, [8, 8, 3])


def test_the_mean_stands_beyond_the_border(files):
    mean = np.array([10.0, 20.0, 30.0])
    net = caffe.Detector(*files, mean=mean, raw_scale=10, channel_swap=(2, 1, 0), context_pad=2)
    crop = net.crop(np.ones((20, 30, 3), np.float32), (0, 0, 3, 3))
    np.testing.assert_allclose(crop[0, 0], [3, 2, 1])
    np.testing.assert_array_equal(crop[-1, -1], [1, 1, 1])
    np.testing.assert_allclose(net.transformer.preprocess("data", crop)[:, 0, 0], 0, atol=1e-5)
    (detection,) = net.detect_windows([("image.png", [(0, 0, 3, 3)])])
    assert detection["prediction"].shape == (4,)


def test_predictions_keep_the_shape_of_the_nets_output(files):
    with open("means.prototxt", "w") as file:
        file.write("""
            layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
            layer { name: "mean" type: "Pooling" bottom: "data" top: "mean"
              pooling_param { pool: AVE global_pooling: true } }""")
    caffe.Net("means.prototxt", caffe.TEST).save("means.caffemodel")
    (detection,) = caffe.Detector("means.prototxt", "means.caffemodel").detect_windows([("image.png", [(0, 0, 8, 8)])])
    assert detection["prediction"].shape == (3, 1, 1)


def test_selective_search_is_refused(files):
    with pytest.raises(RuntimeError, match="MATLAB"):
        caffe.Detector(*files).detect_selective_search(["image.png"])
