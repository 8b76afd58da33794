"""Accuracy, counted by hand."""

import numpy as np
import pytest

from blobnet.errors import BlobnetError
from tests.layers.alone import Alone

RANDOM = np.random.default_rng(23)


def accuracy(settings=""):
    return f'layer {{ name: "acc" type: "Accuracy" accuracy_param {{ {settings} }} }}'


def count(scores, labels, top_k, ignored):
    """(right, all) items of each class; scores [items, C]."""
    tally = np.zeros((scores.shape[1], 2), int)
    for row, label in zip(scores, labels, strict=True):
        if label != ignored:
            better = sum(row[c] >= row[label] for c in range(len(row)) if c != label)
            tally[label] += [better < top_k, 1]
    return tally


@pytest.mark.parametrize("settings, top_k, ignored", [("", 1, None), ("top_k: 3", 3, None), ("ignore_label: 2", 1, 2)])
@pytest.mark.parametrize("shape, axis", [((50, 5), 1), ((6, 5, 3, 2), 1), ((4, 3, 5), -1), ((5, 5), 0)])
def test_against_counting(settings, top_k, ignored, shape, axis):
    scores = RANDOM.integers(0, 6, shape).astype(np.float32)  # with ties
    label_shape = np.delete(shape, axis)
    labels = RANDOM.integers(0, 5, label_shape)
    layer = Alone(accuracy(f"{settings} axis: {axis}"), scores, labels, tops=2)
    overall, per_class = layer.forward()
    tally = count(np.moveaxis(scores, axis, -1).reshape(-1, 5), labels.ravel(), top_k, ignored)
    right, items = tally.sum(axis=0)
    np.testing.assert_allclose(overall, right / items, rtol=1e-6)
    np.testing.assert_allclose(per_class, tally[:, 0] / np.maximum(tally[:, 1], 1), rtol=1e-6)
    np.testing.assert_array_equal(layer.bottoms[0].data, scores)


def test_a_tie_counts_against_the_class():
    scores = np.array([[1, 1, 0], [0, 1, 1], [2, 1, 1]])
    assert Alone(accuracy(), scores, [0, 2, 0]).forward()[0] == pytest.approx(1 / 3)


def test_nan_is_never_right():
    scores = np.array([[np.nan, 0, 1], [np.nan, 2, 1], [np.nan] * 3])
    assert Alone(accuracy(), scores, [0, 1, 2]).forward()[0] == pytest.approx(1 / 3)


def test_nothing_to_count_gives_0():
    overall, per_class = Alone(accuracy("ignore_label: 1"), np.eye(3), [1, 1, 1], tops=2).forward()
    assert overall == 0 and (per_class == 0).all()


@pytest.mark.parametrize(
    ("settings", "labels", "message"),
    [
        ("top_k: 7", [0, 0], "top_k must not exceed the number of classes; got top_k 7, 6 classes"),
        ("top_k: 0", [0, 0], "top_k must be 1 or more; got 0"),
        ("axis: 2", [0, 0], "axis 2 is out of range"),
        (
            "",
            [0, 0, 0],
            r'"bottom1" \(3\) must hold 2 labels, one for each item of blob "bottom0" \(2 x 6\); got 3',
        ),
        ("", [0, 6], r'the label 6 at \[1\] of blob "bottom1" \(2\) is out of range: labels must be 0 to 5'),
        ("", [-1, 0], r"the label -1 at \[0\]"),
        ("ignore_label: -1", [-1, 9], r"the label 9 at \[1\] .*, or the ignore_label -1"),
    ],
)
def test_errors(settings, labels, message):
    with pytest.raises(BlobnetError, match=f'net.prototxt:1: layer "acc" .Accuracy.: .*{message}'):
        Alone(accuracy(settings), np.zeros((2, 6)), labels).forward()


def test_it_has_no_gradient():
    layer = Alone(accuracy(), np.zeros((2, 6)), [0, 0])
    assert not layer.layer.has_backward(0)
    with pytest.raises(BlobnetError, match="an accuracy has no gradient"):
        layer.backward(1)
