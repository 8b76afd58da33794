"""The models of the zoo: found, loaded, and as good as they claim."""

import numpy as np
import pytest

import blobnet
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.zoo import datasets


@pytest.fixture(scope="module")
def lenet():
    return blobnet.zoo.load("lenet")


@pytest.fixture(scope="module")
def digits():
    folder = blobnet.zoo.folder("lenet").parent / "mnist"
    images = datasets.read_idx(folder / "t10k-images-idx3-ubyte.gz")
    return images, datasets.read_idx(folder / "t10k-labels-idx1-ubyte.gz")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(blobnet.BlobnetError) as caught:
        blobnet.zoo.load("lennet")
    said = f'the zoo has no model "lennet"; did you mean "lenet"? (models: {", ".join(blobnet.zoo.names())})'
    assert str(caught.value) == said


def test_a_model_without_weights_says_how_to_get_them(tmp_path, monkeypatch):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "solver.prototxt").write_text("")
    monkeypatch.setattr(blobnet.zoo, "_FOLDER", tmp_path)
    assert blobnet.zoo.names() == ["bare"]
    with pytest.raises(blobnet.BlobnetError, match="blobnet train --solver .*bare/solver.prototxt"):
        blobnet.zoo.load("bare")


def test_lenet_reads_99_of_100_digits(lenet, digits):
    images, labels = digits
    probabilities = lenet.predict(images)
    assert probabilities.shape == (10000, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert np.mean(probabilities.argmax(axis=1) == labels) >= 0.99


def test_any_number_type_and_any_count(lenet, digits):
    images = digits[0][:70]
    expected = lenet.predict(images)
    assert np.array_equal(lenet.predict(images.astype(np.float64)), expected)
    assert np.array_equal(lenet.predict(images[:, None]), expected)
    np.testing.assert_allclose(lenet.predict(images[:1]), expected[:1], atol=1e-6)
    assert lenet.predict(images[:0]).shape == (0, 10)


def test_preprocessing_is_that_of_the_training(lenet, digits):
    image = digits[0][:1]
    blob = lenet.forward(data=image[:, None] * np.float32(1 / 256))["prob"].copy()
    np.testing.assert_array_equal(lenet.predict(image), blob)


@pytest.mark.parametrize("shape", [(28, 28), (5, 28, 27), (5, 3, 28, 28), (1, 1, 1, 28, 28)])
def test_images_of_another_shape_are_refused(lenet, shape):
    with pytest.raises(blobnet.BlobnetError, match="images must have the shape N x 1 x 28 x 28"):
        lenet.predict(np.zeros(shape))


def test_the_prototxts_of_lenet_agree():
    """deploy is train_val without what only training needs; the solver names the train_val beside it."""
    folder = blobnet.zoo.folder("lenet")
    train_val, deploy = (
        {layer.name: layer for layer in text.read(folder / f"{kind}.prototxt", pb.NetParameter()).layer}
        for kind in ("train_val", "deploy")
    )
    for name in train_val.keys() & deploy.keys():
        for layer in (train_val[name], deploy[name]):
            text.strip_source_info(layer)
            del layer.param[:]
            for params in (layer.convolution_param, layer.inner_product_param):
                params.ClearField("weight_filler")
                params.ClearField("bias_filler")
        assert train_val[name] == deploy[name]
    assert text.read(folder / "solver.prototxt", pb.SolverParameter()).net == "train_val.prototxt"
