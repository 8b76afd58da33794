"""The losses against their formulas, and their gradients against differences."""

import numpy as np
import pytest

from blobnet.errors import BlobnetError
from blobnet.io import blob_proto, files
from blobnet.testing import check_gradient, net_from_text
from tests.layers.alone import Alone
from tests.naive import softmax as naive

RANDOM = np.random.default_rng(24)
MODES = ["FULL", "VALID", "BATCH_SIZE", "NONE"]
IGNORED = "ignore_label: 2"


def layer(kind, settings=""):
    return f'layer {{ name: "loss" type: "{kind}" {settings} }}'


def values(*shape):
    return RANDOM.standard_normal(shape)


def value(*args, **options):
    return float(Alone(*args, dtype=np.float64, **options).forward()[0])


def divisor(mode, items, valid, batch):
    return max(1, {"FULL": items, "VALID": valid, "BATCH_SIZE": batch, "NONE": 1}[mode])


def spatial_case():
    """Scores [2, 4, 3, 2] and labels with every class, 2 among them."""
    return 2 * values(2, 4, 3, 2), RANDOM.permutation(np.arange(12) % 4).reshape(2, 3, 2)


def check(text, *bottoms, check_bottoms=(0,)):
    assert check_gradient(text, bottoms, check_bottoms=check_bottoms) < 1e-5


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


@pytest.mark.parametrize(
    "settings, mode",
    [
        ("", ""),
        ("normalize: true", "VALID"),
        ("normalize: false", "BATCH_SIZE"),
        ("normalize: true normalization: NONE", "NONE"),
    ],
)
@pytest.mark.parametrize("kind, default", [("SoftmaxWithLoss", "VALID"), ("SigmoidCrossEntropyLoss", "BATCH_SIZE")])
def test_normalization_settings(kind, default, settings, mode):
    x, labels = spatial_case()
    if kind == "SigmoidCrossEntropyLoss":
        labels = RANDOM.integers(0, 3, x.shape)

    def with_settings(text):
        return value(layer(kind, f"loss_param {{ {IGNORED} {text} }}"), x, labels)

    assert with_settings(settings) == with_settings(f"normalization: {mode or default}")


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


@pytest.mark.parametrize("ignore", ["", IGNORED])
@pytest.mark.parametrize("mode", MODES)
def test_sigmoid_cross_entropy(mode, ignore):
    x, targets = 3 * values(3, 4, 2), RANDOM.choice([0, 0.3, 1, 2, 2.7], (3, 4, 2))
    text = layer("SigmoidCrossEntropyLoss", f"loss_param {{ normalization: {mode} {ignore} }}")
    s = 1 / (1 + np.exp(-x))
    used = np.trunc(targets) != 2 if ignore else np.ones(x.shape, bool)
    total = -(targets * np.log(s) + (1 - targets) * np.log(1 - s))[used].sum()
    assert value(text, x, targets) == pytest.approx(total / divisor(mode, 24, used.sum(), 3), rel=1e-9)
    check(text, x, targets)


def test_ignore_label_0_ignores_all_targets_below_1():
    text = layer("SigmoidCrossEntropyLoss", "loss_param { ignore_label: 0 }")
    assert value(text, values(1, 4), [[0, 0.9, -0.9, 0.5]]) == 0


def test_sigmoid_cross_entropy_of_large_scores():
    text = layer("SigmoidCrossEntropyLoss")
    assert value(text, [[1000, -1000, 1000]], [[1, 0, 0]]) == 1000
    np.testing.assert_array_equal(Alone(text, [[1000, -1000]], [[0, 1]]).forward(), 2000)


@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((3, 2, 2, 2), (3, 8)), ((3,), (3,))])
def test_euclidean(shapes):
    a, b = (values(*shape) for shape in shapes)
    text = layer("EuclideanLoss")
    assert value(text, a, b) == pytest.approx(((a.ravel() - b.ravel()) ** 2).sum() / 6, rel=1e-12)
    check(text, a, b, check_bottoms=(0, 1))


def hinge_case():
    """Scores well away from the margins at -1 and 1."""
    return RANDOM.permutation(np.linspace(-1.9, 1.9, 20)).reshape(4, 5) + 0.003, RANDOM.integers(0, 5, 4)


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
    p, labels = naive.forward(values(4, 5), 1), RANDOM.integers(0, 5, 4)
    text = layer("MultinomialLogisticLoss")
    assert value(text, p, labels) == pytest.approx(-np.log(p[np.arange(4), labels]).mean(), rel=1e-12)
    check(text, p, labels)
    assert value(text, np.zeros((1, 2)), [0]) == pytest.approx(-np.log(1e-20))


@pytest.mark.parametrize("legacy", [False, True])
def test_contrastive(legacy):
    a, b, alike = 20 * values(6, 3), 20 * values(6, 3), np.array([0, 1, 0, 0.5, 2, 0])
    distance = np.linalg.norm(a - b, axis=1)
    margin = 2000 if legacy else 200  # so that Caffe's 1e-4 in the gradient does not show
    gap = np.maximum(margin - distance**2, 0) if legacy else np.maximum(margin - distance, 0) ** 2
    text = layer(
        "ContrastiveLoss", f"contrastive_loss_param {{ margin: {margin} legacy_version: {str(legacy).lower()} }}"
    )
    expected = np.where(np.trunc(alike) != 0, distance**2, gap).sum() / 12
    assert value(text, a, b, alike) == pytest.approx(expected, rel=1e-12)
    check(text, a, b, alike, check_bottoms=(0, 1))


def test_contrastive_gradient_of_equal_vectors_is_finite():
    alone = Alone(layer("ContrastiveLoss"), np.ones((2, 3)), np.ones((2, 3)), [0, 1])
    assert alone.forward()[0] == pytest.approx(0.25)
    np.testing.assert_array_equal(alone.backward(1, wanted=(0, 1)), 0)


CASES = {
    "SoftmaxWithLoss": (values(4, 5), RANDOM.integers(0, 5, 4)),
    "InfogainLoss": (values(4, 5), RANDOM.integers(0, 5, 4), RANDOM.random((5, 5))),
    "MultinomialLogisticLoss": (RANDOM.random((4, 5)) + 0.1, RANDOM.integers(0, 5, 4)),
    "HingeLoss": hinge_case(),
    "SigmoidCrossEntropyLoss": (values(4, 5), RANDOM.random((4, 5))),
    "EuclideanLoss": (values(4, 5), values(4, 5)),
    "ContrastiveLoss": (values(4, 5), values(4, 5), np.array([0, 1, 0, 1])),
}
LABELLED = ["SoftmaxWithLoss", "InfogainLoss", "MultinomialLogisticLoss", "HingeLoss"]


@pytest.mark.parametrize("kind", CASES)
def test_the_gradient_is_multiplied_by_the_diff_of_the_top(kind):
    alone = Alone(layer(kind), *CASES[kind], dtype=np.float64)
    alone.forward()
    np.testing.assert_allclose(alone.backward(-2.5)[0], -2.5 * alone.backward(1)[0])


@pytest.mark.parametrize("kind", CASES)
def test_bottoms_are_not_modified(kind):
    alone = Alone(layer(kind), *CASES[kind], dtype=np.float64)
    alone.forward()
    alone.backward(1)
    for blob, before in zip(alone.bottoms, CASES[kind], strict=True):
        np.testing.assert_array_equal(blob.data, before)


@pytest.mark.parametrize("kind", CASES)
def test_nan_is_not_hidden(kind):
    x = CASES[kind][0].copy()
    x[0] = np.nan
    alone = Alone(layer(kind), x, *CASES[kind][1:])
    assert np.isnan(alone.forward()[0])
    (dx,) = alone.backward(1)
    assert np.isnan(dx[0]).any() and np.isfinite(dx[1:]).all()


@pytest.mark.parametrize("kind", CASES)
def test_the_last_bottom_gets_no_gradient(kind):
    alone = Alone(layer(kind), *CASES[kind])
    last = len(CASES[kind]) - 1
    alone.forward()
    if kind == "EuclideanLoss":
        assert alone.layer.has_backward(1)
        return
    assert not alone.layer.has_backward(last)
    with pytest.raises(BlobnetError, match=f'blob "bottom{last}" .* gets no gradient'):
        alone.backward(1, wanted=(last,))


@pytest.mark.parametrize("kind", CASES)
def test_its_top_may_go_unnamed(kind):
    shapes = " ".join(f"shape {{ {' '.join(f'dim: {extent}' for extent in np.shape(v))} }}" for v in CASES[kind])
    names = [f"b{i}" for i in range(len(CASES[kind]))]
    net = net_from_text(
        f'layer {{ name: "in" type: "Input" {" ".join(f"""top: "{n}" """ for n in names)} input_param {{ {shapes} }} }}'
        f'layer {{ name: "loss" type: "{kind}" {" ".join(f"""bottom: "{n}" """ for n in names)} }}'
    )
    for name, array in zip(names, CASES[kind], strict=True):
        net.set_input(name, array)
    assert net.forward_from_to(0, 1) == pytest.approx(float(Alone(layer(kind), *CASES[kind]).forward()[0]))


@pytest.mark.parametrize("kind", LABELLED)
@pytest.mark.parametrize("label", [5, -1, 1e9, np.nan, np.inf])
def test_a_label_out_of_range(kind, label):
    x, labels, *rest = CASES[kind]
    labels = labels.astype(float)
    labels[2] = label
    alone = Alone(layer(kind), x, labels, *rest)
    with pytest.raises(BlobnetError) as caught:
        alone.forward()
    found = f'the label {label:g} at [2] of blob "bottom1" (4)'
    assert f'layer "loss" ({kind}): {found} is out of range: labels must be 0 to 4' in str(caught.value)


@pytest.mark.parametrize("kind", LABELLED)
def test_the_fraction_of_a_label_is_cut_off(kind):
    x, labels, *rest = CASES[kind]
    assert value(layer(kind), x, labels + 0.7, *rest) == value(layer(kind), x, labels, *rest)


@pytest.mark.parametrize(
    ("kind", "bottoms", "message"),
    [
        ("EuclideanLoss", [(2, 6), (2, 5)], "must have the same count from axis 1 on; got 6 and 5"),
        ("EuclideanLoss", [(2, 6), (3, 6)], "must have the same first axis"),
        ("SigmoidCrossEntropyLoss", [(2, 6), (2, 5)], "must have the same count; got 12 and 10"),
        ("SoftmaxWithLoss", [(2, 6), (2, 2)], r"must hold 2 labels, one for each item of .* \(2 x 6\); got 4"),
        ("SoftmaxWithLoss", [(2, 6), (3,)], "must have the same first axis"),
        ("SoftmaxWithLoss", [(2,), (2,)], "axis 1 is out of range"),
        ("InfogainLoss", [(2, 3), (2,), (3, 2)], "9 numbers; got 6"),
        ("HingeLoss", [(2, 3), (2, 2)], "must hold 2 labels"),
        ("MultinomialLogisticLoss", [(2, 3), (2, 2)], "must hold 2 labels"),
        ("ContrastiveLoss", [(2, 3), (2, 4), (2,)], "must hold vectors of the same length"),
        ("ContrastiveLoss", [(2, 3, 2, 1), (2, 3), (2,)], "must hold one vector an item"),
        ("ContrastiveLoss", [(2, 3), (2, 3), (3,)], "must hold 2 labels"),
        ("EuclideanLoss", [(), ()], "must have the same first axis"),
    ],
)
def test_shapes_that_do_not_fit(kind, bottoms, message):
    with pytest.raises(BlobnetError, match=f'net.prototxt:1: layer "loss" .{kind}.: .*{message}'):
        Alone(layer(kind), *(np.zeros(shape) for shape in bottoms))
