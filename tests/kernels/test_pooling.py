"""Pooling kernels over image widths around the lengths of vectors, and over parts of the planes."""

import numpy as np
import pytest

from blobnet.kernels import pooling
from blobnet.kernels.pooling import Window
from tests.naive.pooling import Pool

RANDOM = np.random.default_rng(30)
SIZES = [
    (2, 2, 2, 2, 0, 0),
    (3, 3, 2, 2, 0, 0),
    (3, 3, 2, 2, 1, 1),
    (3, 3, 1, 1, 1, 1),
    (2, 5, 3, 2, 1, 4),
    (3, 3, 4, 1, 2, 2),
]
WINDOWS = [Window(*size) for size in SIZES]


def case(window, width, planes=3):
    """x with ties, and the naive windows."""
    shape = (9, width)
    x = RANDOM.integers(-3, 4, (1, planes, *shape)).astype(np.float32)
    return x, Pool(shape, (window.kh, window.kw), (window.sh, window.sw), (window.ph, window.pw))


@pytest.mark.parametrize("window", WINDOWS)
def test_widths(window):
    for width in (*range(window.kw, 40), 63, 64, 65, 127, 128, 129, 130):
        x, naive = case(window, width)
        y, mask = np.empty((3, *naive.output), np.float32), np.empty((3, *naive.output), np.int32)
        pooling.max_forward(0, 3, x[0], window, y, mask)
        expected, expected_mask = naive.maximum(x)
        np.testing.assert_array_equal(y, expected[0], err_msg=str(width))
        np.testing.assert_array_equal(mask, expected_mask[0], err_msg=str(width))
        pooling.average_forward(0, 3, x[0], window, y)
        np.testing.assert_allclose(y, naive.average(x)[0], rtol=1e-6, atol=1e-6, err_msg=str(width))
        dx = np.empty_like(x[0])
        pooling.average_backward(0, 3, y, window, dx)
        np.testing.assert_allclose(dx, naive.average_backward(x, y[None])[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_part_of_the_planes_writes_its_own_only(window):
    x, naive = case(window, 20, planes=4)
    y = np.full((4, *naive.output), np.float32(7))
    mask = np.full(y.shape, 7, np.int32)
    pooling.max_forward(1, 3, x[0], window, y, mask)
    assert (y[[0, 3]] == 7).all() and (mask[[0, 3]] == 7).all()
    np.testing.assert_array_equal(y[1:3], naive.maximum(x)[0][0, 1:3])
    dx = np.full_like(x[0], 7)
    pooling.scatter(1, 3, y.reshape(4, -1), mask.reshape(4, -1), dx.reshape(4, -1))
    assert (dx[[0, 3]] == 7).all()
    np.testing.assert_allclose(dx[1:3].sum(axis=(1, 2)), y[1:3].sum(axis=(1, 2)), rtol=1e-5)


def test_a_draw_belongs_to_its_cell_wherever_the_work_is_cut():
    window = Window(3, 3, 3, 3, 0, 0)
    x = RANDOM.random((4, 9, 9), np.float32)
    whole, parts = (np.empty((4, 3, 3), np.float32) for _ in range(2))
    mask = np.empty((4, 3, 3), np.int32)
    key = np.uint64(5)
    pooling.sample_forward(0, 4, x, window, key, whole, mask)
    for start in range(4):
        pooling.sample_forward(start, start + 1, x, window, key, parts, mask)
    np.testing.assert_array_equal(whole, parts)
