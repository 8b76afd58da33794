"""The models of the zoo: found, loaded, and as good as they claim."""

import re

import numpy as np
import pytest

import blobnet
from blobnet import summary
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


def test_names_are_sorted():
    assert blobnet.zoo.names() == sorted(blobnet.zoo.names())
    assert {"alexnet", "lenet", "resnet20", "vgg16"} <= set(blobnet.zoo.names())


@pytest.mark.parametrize("model", blobnet.zoo.names())
def test_readme_states_parameters_and_multiply_adds(model):
    readme = (blobnet.zoo.folder(model) / "README.md").read_text(encoding="utf-8")
    found = summary.summarize(blobnet.zoo.folder(model) / "deploy.prototxt")
    assert f"{found.parameters:,}" in readme
    assert f"{found.multiply_adds:,}" in readme
    assert f"blobnet train --solver zoo/{model}/solver.prototxt" in readme
    table = (blobnet.zoo.folder(model).parent / "README.md").read_text(encoding="utf-8")
    assert re.search(
        rf"\| \[{model}\]\({model}/README.md\) \| .* \| {found.parameters:,} \| {found.multiply_adds:,} \|", table
    )


@pytest.mark.parametrize("model", blobnet.zoo.names())
def test_readme_says_all_that_a_reader_asks(model):
    """The recipe by its figures, and the curves of every log that is kept."""
    folder = blobnet.zoo.folder(model)
    rows = dict(
        re.findall(r"^\| ([^|]+) \| (.+) \|$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    asked = {"Source", "Input", "Parameters", "Multiply-adds", "Data", "Licence of the data", "Training", "Measured"}
    assert asked <= rows.keys()
    solver = text.read(folder / "solver.prototxt", pb.SolverParameter())
    for figure in (solver.type, f"{solver.max_iter:,} iterations", f"a rate of {solver.base_lr:g}"):
        assert figure in rows["Training"]
    if (folder / "training.log").exists():
        assert rows["Curves"].startswith("[training.svg](training.svg), of [training.log](training.log)")
        assert (folder / "training.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_loading_says_whether_weights_are_trained_or_filled(caplog):
    caplog.set_level("INFO", "blobnet")
    blobnet.zoo.load("lenet")
    assert caplog.messages[0] == f"lenet: trained weights of {blobnet.zoo.weights('lenet')}"
    caplog.clear()
    folder = blobnet.zoo.folder("squeezenet1_1")
    assert blobnet.zoo.weights("squeezenet1_1") is None
    blobnet.zoo.load("squeezenet1_1")
    remedy = f"blobnet train --solver {folder}/solver.prototxt"
    assert caplog.messages == [f"squeezenet1_1: no trained weights; filled at random. {remedy}"]


@pytest.mark.parametrize("model", ["resnet32", "preresnet20", "mobilenet_v2", "resnet152"])
def test_untrained_statistics_neither_shrink_nor_blow_up(model):
    net = blobnet.zoo.load(model)
    net.forward(data=np.random.default_rng(1).normal(0, 1, net.blobs["data"].shape))
    first = next(layer for layer in net.layers if layer.type == "BatchNorm")
    np.testing.assert_array_equal([blob.data.ravel()[0] for blob in first.blobs], [0, 1, 1])
    assert all(np.isfinite(blob.data).all() for blob in net.blobs.values())


def test_a_phase_asks_for_the_net_that_reads_its_database(lenet):
    net = blobnet.zoo.load("lenet", phase=blobnet.TEST)
    assert net.layer_names[0] == "mnist"
    assert "accuracy" in net.outputs
    np.testing.assert_array_equal(net.params["conv1"][0].data, lenet.params["conv1"][0].data)
    assert "accuracy" not in blobnet.zoo.load("lenet", phase=blobnet.TRAIN).outputs


@pytest.mark.parametrize(("model", "first"), [("lenet", "0"), ("resnet20", "airplane"), ("squeezenet1_1", "tench")])
def test_labels_are_those_of_the_data(model, first):
    net = blobnet.zoo.load(model)
    assert net.labels[0].partition(",")[0] == first
    assert len(net.labels) == net.blobs["prob"].shape[1]


def test_best_classes_come_with_their_labels(lenet, digits):
    seven, two = lenet.best(digits[0][:2], 3)
    assert (seven[0][0], two[0][0], len(seven)) == ("7", "2", 3)
    assert seven[0][1] == lenet.predict(digits[0][:1]).max() > seven[1][1] > seven[2][1]


def test_a_net_without_classes_has_no_labels(digits):
    autoencoder = blobnet.zoo.load("mnist_autoencoder")
    assert autoencoder.labels == []
    assert autoencoder.predict(digits[0][:2]).shape == (2, 784)


def test_lenet_reads_99_of_100_digits(lenet, digits):
    images, labels = digits
    probabilities = lenet.predict(images)
    assert probabilities.shape == (10000, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert np.mean(probabilities.argmax(axis=1) == labels) >= 0.99


@pytest.mark.parametrize(("model", "accuracy"), [("cifar10_quick", 0.73), ("cifar10_full", 0.8), ("resnet20", 0.89)])
def test_cifar10_nets_name_what_they_see(model, accuracy):
    """1,000 of the 10,000 test images, where they are present; the READMEs state the figures for all."""
    if datasets.place("cifar10_test_lmdb").exists():
        net = blobnet.zoo.load(model, phase=blobnet.TEST)
        assert np.mean([net.forward()["accuracy"] for _ in range(10)]) >= accuracy


def test_the_siamese_nets_part_unequal_digits():
    """All 10,000 test pairs, by half the margin of the contrastive loss."""
    net = blobnet.zoo.load("mnist_siamese", phase=blobnet.TEST)
    right = 0
    for _ in range(100):
        net.forward()
        distances = np.linalg.norm(net.blobs["feat"].data - net.blobs["feat_p"].data, axis=1)
        right += np.sum((distances < 0.5) == (net.blobs["sim"].data.ravel() > 0))
    assert right / 10_000 > 0.95


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
