"""The losses of class labels against their formulas, and their gradients against differences."""

import numpy as np
import pytest

from blobnet.errors import BlobnetError
from blobnet.io import blob_proto, files
from blobnet.testing import net_from_text
from tests.layers.alone import Alone
from tests.layers.losses import IGNORED, MODES, RANDOM, check, divisor, hinge_case, layer, spatial_case, value, values
from tests.naive import softmax as naive


@pytest.mark.parametrize("ignore", ["", IGNORED])
@pytest.mark.parametrize("mode", MODES)
def test_softmax_with_loss(mode, ignore):
    x, labels = spatial_case()
    text = layer("SoftmaxWithLoss", f"loss_param {{ normalization: {mode} {ignore} }}")
    p = naive.forward(x, 1)
    used = [place for place in np.ndindex(labels.shape) if not (ignore and labels[place] == 2)]
    total = -sum(np.log(p[n, labels[n, h, w], h, w]) for n, h, w in used)
    assert value(text, x, labels) == pytest.approx(total / divisor(mode, 12, len(used), 2), rel=1e-12)
    check(text, x, labels)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_softmax_loss_along_any_axis(axis):
    x = values(3, 3, 3)
    labels = RANDOM.integers(0, 3, (3, 3))
    text = layer("SoftmaxWithLoss", f"softmax_param {{ axis: {axis} }}")
    rows = np.moveaxis(naive.forward(x, axis), axis, -1)
    expected = -np.log(np.take_along_axis(rows, labels[..., None], -1)).mean()
    assert value(text, x, labels) == pytest.approx(expected, rel=1e-12)
    check(text, x, labels)


@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "InfogainLoss"])
def test_the_second_top_holds_the_probabilities(kind):
    x, labels = spatial_case()
    bottoms = [x, labels, np.eye(4)][: 3 if kind == "InfogainLoss" else 2]
    tops = Alone(layer(kind), *bottoms, tops=2).forward()
    np.testing.assert_allclose(tops[1], naive.forward(x, 1), rtol=1e-5, atol=1e-7)


def test_softmax_loss_with_two_tops_in_a_net():
    net = net_from_text(
        'layer { name: "x" type: "Input" top: "x" top: "t" input_param { shape { dim: [2, 3] } shape { dim: 2 } } }'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "t" top: "loss" top: "p" }'
    )
    assert net.loss_weights == {"loss": 1}
    net.forward(x=np.zeros((2, 3)), t=[0, 1])
    np.testing.assert_allclose(net.blobs["p"].data, 1 / 3, rtol=1e-6)


def test_a_probability_of_0_counts_as_the_smallest_number():
    text = layer("SoftmaxWithLoss")
    assert value(text, [[0, 2000]], [0]) == pytest.approx(-np.log(np.finfo(np.float32).tiny))


@pytest.mark.parametrize("mode", MODES)
def test_all_ignored(mode):
    text = layer("SoftmaxWithLoss", f"loss_param {{ normalization: {mode} ignore_label: 255 }}")
    alone = Alone(text, values(2, 3), [255, 255])
    assert alone.forward()[0] == 0
    assert (alone.backward(1)[0] == 0).all()


@pytest.mark.parametrize("ignore", ["", IGNORED])
@pytest.mark.parametrize("mode", MODES)
def test_infogain(mode, ignore):
    x, labels = spatial_case()
    matrix = RANDOM.random((4, 4))
    text = layer("InfogainLoss", f"loss_param {{ normalization: {mode} {ignore} }}")
    logarithms = np.log(naive.forward(x, 1))
    used = [place for place in np.ndindex(labels.shape) if not (ignore and labels[place] == 2)]
    total = -sum(matrix[labels[n, h, w]] @ logarithms[n, :, h, w] for n, h, w in used)
    assert value(text, x, labels, matrix) == pytest.approx(total / divisor(mode, 12, len(used), 2), rel=1e-12)
    check(text, x, labels, matrix)


def test_infogain_along_another_axis():
    x, labels, matrix = values(2, 3, 4), RANDOM.integers(0, 4, (2, 3)), RANDOM.random((1, 1, 4, 4))
    check(layer("InfogainLoss", "infogain_loss_param { axis: -1 }"), x, labels, matrix)


def test_infogain_of_the_unit_matrix_is_the_softmax_loss():
    x, labels = spatial_case()
    assert value(layer("InfogainLoss"), x, labels, np.eye(4)) == pytest.approx(
        value(layer("SoftmaxWithLoss"), x, labels)
    )


class TestInfogainFile:
    def text(self, path):
        return layer("InfogainLoss", f'infogain_loss_param {{ source: "{path}" }}')

    def test_read(self, tmp_path):
        x, labels = spatial_case()
        matrix = RANDOM.random((4, 4))
        files.write_message(tmp_path / "h.binaryproto", blob_proto.from_array(matrix.reshape(1, 1, 4, 4)))
        found = value(self.text(tmp_path / "h.binaryproto"), x, labels)
        assert found == pytest.approx(value(layer("InfogainLoss"), x, labels, matrix))

    def test_missing(self, tmp_path):
        with pytest.raises(
            BlobnetError, match='net.prototxt:1: layer "loss" .InfogainLoss.: .*h.binaryproto.*No such file'
        ):
            Alone(self.text(tmp_path / "h.binaryproto"), values(2, 3), [0, 1])

    def test_of_another_size(self, tmp_path):
        files.write_message(tmp_path / "h.binaryproto", blob_proto.from_array(np.ones((3, 4))))
        with pytest.raises(BlobnetError, match="one row and one column for each of 3 classes, 9 numbers; got 12"):
            Alone(self.text(tmp_path / "h.binaryproto"), values(2, 3), [0, 1])

    def test_not_named(self):
        with pytest.raises(BlobnetError, match="the matrix is missing: name its file"):
            Alone(layer("InfogainLoss"), values(2, 3), [0, 1])


@pytest.mark.parametrize("norm", ["L1", "L2"])
def test_hinge(norm):
    x, labels = hinge_case()
    margins = np.maximum(0, 1 + np.where(np.arange(5) == labels[:, None], -1, 1) * x)
    text = layer("HingeLoss", f"hinge_loss_param {{ norm: {norm} }}")
    assert value(text, x, labels) == pytest.approx((margins ** int(norm[1])).sum() / 4, rel=1e-12)
    check(text, x, labels)
    check(text, x.reshape(4, 5, 1, 1), labels.reshape(4, 1, 1, 1))


def test_a_second_hinge_backward_is_the_same():
    alone = Alone(layer("HingeLoss"), *hinge_case())
    alone.forward()
    np.testing.assert_array_equal(alone.backward(1), alone.backward(1))


def test_multinomial_logistic():
    p, labels = RANDOM.uniform(0.2, 1, (4, 5)), RANDOM.integers(0, 5, 4)
    text = layer("MultinomialLogisticLoss")
    assert value(text, p, labels) == pytest.approx(-np.log(p[np.arange(4), labels]).mean(), rel=1e-12)
    check(text, p, labels)
    assert value(text, np.zeros((1, 2)), [0]) == pytest.approx(-np.log(1e-20))
