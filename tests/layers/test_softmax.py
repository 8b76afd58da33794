"""Softmax against its definition."""

import numpy as np
import pytest

from blobnet.errors import BlobnetError
from blobnet.testing import check_gradient
from tests.layers.alone import Alone
from tests.naive import softmax as naive

RANDOM = np.random.default_rng(22)


def softmax(axis=1):
    return f'layer {{ name: "prob" type: "Softmax" softmax_param {{ axis: {axis} }} }}'


def random_case():
    axes = int(RANDOM.integers(1, 6))
    shape = tuple(RANDOM.integers(1, 7, axes).tolist())
    return shape, int(RANDOM.integers(-axes, axes)), float(RANDOM.choice([0.1, 1, 30]))


@pytest.mark.parametrize("part", range(6))
def test_random_shapes_and_axes(part):
    for shape, axis, spread in [random_case() for _ in range(60)]:
        x = (spread * RANDOM.standard_normal(shape)).astype(np.float32)
        dy = RANDOM.standard_normal(shape).astype(np.float32)
        for in_place in (False, True):
            layer = Alone(softmax(axis), x, in_place=in_place)
            np.testing.assert_allclose(layer.forward()[0], naive.forward(x, axis), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(layer.backward(dy)[0], naive.backward(x, dy, axis), rtol=1e-5, atol=2e-6)
            assert in_place or np.array_equal(layer.bottoms[0].data, x)


@pytest.mark.parametrize("shape", [(1, 1), (3, 1000), (2, 3, 40, 41)])
def test_large_and_small(shape):
    x = RANDOM.standard_normal(shape).astype(np.float32)
    (y,) = Alone(softmax(), x).forward()
    np.testing.assert_allclose(y, naive.forward(x, 1), rtol=1e-5)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_gradient(axis):
    assert check_gradient(softmax(axis), [RANDOM.standard_normal((2, 4, 3))]) < 1e-5


def test_large_scores_do_not_overflow():
    x = np.array([[1000, 1001, -1000], [-2000, -2000, -2000]], np.float32)
    np.testing.assert_allclose(Alone(softmax(), x).forward()[0], naive.forward(x, 1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape, axis", [((2, 4), 1), ((2, 4, 3), 1)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_spoil_their_vector_only(shape, axis, bad):
    x = RANDOM.standard_normal(shape).astype(np.float32)
    for c in range(4):
        spoilt = x.copy()
        spoilt[(0, c) + (0,) * (len(shape) - 2)] = bad
        (y,) = Alone(softmax(axis), spoilt).forward()
        vectors = np.moveaxis(np.isnan(y), axis, -1).reshape(-1, 4)
        assert vectors[0].any() and not vectors[1:].any()


def test_minus_infinity_gets_probability_0():
    (y,) = Alone(softmax(), np.array([[-np.inf, 0, 0]])).forward()
    np.testing.assert_allclose(y, [[0, 0.5, 0.5]])


def test_an_axis_that_is_not_there():
    with pytest.raises(
        BlobnetError, match='net.prototxt:1: layer "prob" .Softmax.: axis 2 is out of range for blob "bottom0"'
    ):
        Alone(softmax(2), np.zeros((2, 6)))
