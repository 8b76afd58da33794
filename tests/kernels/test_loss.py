"""Loss kernels: the part of the loss of each item, and parts of the items."""

import math

import numpy as np
import pytest

from blobnet.kernels import loss
from tests.naive import softmax as naive

RANDOM = np.random.default_rng(33)


def test_softmax_loss_item_by_item():
    p = RANDOM.random((4, 3, 2)).astype(np.float32)
    p[0, 1, 0] = 0
    labels = np.float32([[1, -0.5], [2.5, 255], [255, 255], [0, 0]])
    classes, parts = np.full((4, 2), 7), np.full((4, 2), 7.0)
    loss.softmax_loss(0, 3, p, labels, 255.0, classes, parts)
    losses = [-math.log(loss.SMALLEST) - math.log(p[0, 0, 1]), -math.log(p[1, 2, 0]), 0, 7]
    np.testing.assert_allclose(parts, np.transpose([losses, [2, 1, 0, 7]]), rtol=1e-12)
    np.testing.assert_array_equal(classes, [[1, 0], [2, -1], [-1, -1], [7, 7]])


@pytest.mark.parametrize("label", [-1, 3, 255, np.nan, np.inf, -np.inf, 1e30])
def test_a_label_that_is_no_class_fails(label):
    p, labels = np.ones((1, 3, 1), np.float32), np.full((1, 1), label, np.float32)
    with pytest.raises(IndexError):
        loss.softmax_loss(0, 1, p, labels, np.nan, np.zeros((1, 1), int), np.zeros((1, 2)))


def test_softmax_and_loss_at_once():
    x = RANDOM.standard_normal((4, 20)).astype(np.float32)
    labels = np.float32([[1], [19], [-1], [0]])
    p, classes, parts = np.full_like(x, 7), np.zeros((4, 1), int), np.full((4, 2), 7.0)
    loss.softmax_and_loss(1, 4, x, p, labels, -1.0, classes, parts)
    expected = naive.forward(x, 1)
    np.testing.assert_allclose(p[1:], expected[1:], rtol=1e-5)
    np.testing.assert_allclose(parts[:, 0], [7, -math.log(expected[1, 19]), 0, -math.log(expected[3, 0])], rtol=1e-5)
    assert (p[0] == 7).all()


@pytest.mark.parametrize(("divisor", "expected"), [(0, 5), (4, 10), (1, 40)])
def test_the_parts_are_added_and_divided(divisor, expected):
    scale, mean = np.empty(1), np.empty(1, np.float32)
    loss.add_parts(0, 1, np.array([[10.0, 5], [0, 0], [30, 3]]), divisor, scale, mean)
    assert mean[0] == expected == 40 * scale[0]


def test_parts_that_count_nothing_are_divided_by_1():
    scale, mean = np.empty(1), np.empty(1, np.float32)
    loss.add_parts(0, 1, np.zeros((3, 2)), 0, scale, mean)
    assert (mean[0], scale[0]) == (0, 1)


def test_softmax_loss_backward_item_by_item():
    p = RANDOM.random((3, 3, 2)).astype(np.float32)
    classes = np.array([[1, 0], [2, -1], [0, 0]])
    dx = np.full_like(p, 7)
    loss.softmax_loss_backward(0, 2, p, classes, np.array([0.25]), np.float32([2]), dx)
    expected = 0.5 * p
    for item, i, label in [(0, 0, 1), (0, 1, 0), (1, 0, 2)]:
        expected[item, label, i] -= 0.5
    expected[1, :, 1] = 0
    expected[2] = 7
    np.testing.assert_allclose(dx, expected, rtol=1e-6)


def test_sigmoid_cross_entropy_row_by_row():
    x, t = RANDOM.standard_normal((3, 20)).astype(np.float32), RANDOM.random((3, 20)).astype(np.float32)
    used = RANDOM.random((3, 20)) < 0.7
    s = 1 / (1 + np.exp(-x.astype(float)))
    losses, dx = np.full(3, 7.0), np.full_like(x, 7)
    loss.sigmoid_cross_entropy(1, 3, x, t, used, losses)
    loss.sigmoid_cross_entropy_backward(1, 3, x, t, used, np.float32(2), dx)
    expected = -(np.where(used, t * np.log(s) + (1 - t) * np.log(1 - s), 0)).sum(axis=1)
    np.testing.assert_allclose(losses[1:], expected[1:], rtol=1e-6)
    np.testing.assert_allclose(dx[1:], np.where(used, 2 * (s - t), 0)[1:], rtol=1e-5, atol=1e-6)
    assert losses[0] == 7 and (dx[0] == 7).all()


def test_squared_distance_row_by_row():
    a, b = RANDOM.standard_normal((2, 3, 100)).astype(np.float32)
    losses, da = np.full(3, 7.0), np.full_like(a, 7)
    loss.squared_distance(0, 2, a, b, losses)
    loss.squared_distance_backward(0, 2, a, b, np.float32(3), da)
    np.testing.assert_allclose(losses[:2], ((a.astype(float) - b) ** 2).sum(axis=1)[:2], rtol=1e-12)
    np.testing.assert_allclose(da[:2], 3 * (a - b)[:2], rtol=1e-6)
    assert losses[2] == 7 and (da[2] == 7).all()
