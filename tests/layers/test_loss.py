"""The losses against their formulas, their gradients against differences, and what all of them promise."""

import numpy as np
import pytest

from blobnet.errors import BlobnetError
from blobnet.testing import net_from_text
from tests.layers.alone import Alone
from tests.layers.losses import IGNORED, MODES, RANDOM, check, divisor, hinge_case, layer, spatial_case, value, values


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
