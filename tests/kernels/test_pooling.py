"""Pooling kernels over image widths around the lengths of vectors, and over parts of the planes."""

import numpy as np
import pytest

from blobnet.kernels import averages, pooling
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
        pooling.find_largest(x[0], window, y, mask)
        expected, expected_mask = naive.maximum(x)
        np.testing.assert_array_equal(y, expected[0], err_msg=str(width))
        np.testing.assert_array_equal(mask, expected_mask[0], err_msg=str(width))
        shape = window, x.shape[2:], naive.output
        averages.sum_rectangles(x[0], averages.means(*shape), y)
        np.testing.assert_allclose(y, naive.average(x)[0], rtol=1e-6, atol=1e-6, err_msg=str(width))
        dx = np.empty_like(x[0])
        averages.sum_rectangles(y, averages.shares(*shape), dx)
        np.testing.assert_allclose(dx, naive.average_backward(x, y[None])[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("planes", [1, 16, 37])
def test_any_number_of_planes(window, planes):
    for width in (8, 30):
        x, naive = case(window, width, planes)
        shape = window, x.shape[2:], naive.output
        y, dx = np.empty((planes, *naive.output), np.float32), np.empty_like(x[0])
        mask = np.empty(y.shape, np.int32)
        pooling.find_largest(x[0], window, y, mask)
        expected, expected_mask = naive.maximum(x)
        np.testing.assert_array_equal(y, expected[0])
        np.testing.assert_array_equal(mask, expected_mask[0])
        averages.sum_rectangles(x[0], averages.means(*shape), y)
        np.testing.assert_allclose(y, naive.average(x)[0], rtol=1e-6, atol=1e-6)
        averages.sum_rectangles(y, averages.shares(*shape), dx)
        np.testing.assert_allclose(dx, naive.average_backward(x, y[None])[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_planes_side_by_side_keep_what_is_not_finite_apart(dtype, bad):
    window = Window(7, 5, 3, 3, 2, 1)
    x = RANDOM.standard_normal((1, 20, 70, 10)).astype(dtype)
    x[0, [3, 17], [0, 69], [9, 4]] = bad
    x[0, 5] = bad
    naive = Pool(x.shape[2:], (window.kh, window.kw), (window.sh, window.sw), (window.ph, window.pw))
    expected, _ = naive.maximum(x)
    y, mask = np.empty(expected[0].shape, dtype), np.empty(expected[0].shape, f"i{x.itemsize}")
    pooling.find_largest(x[0], window, y, mask)
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(np.take_along_axis(x[0].reshape(20, -1), mask.reshape(20, -1), 1), y.reshape(20, -1))


@pytest.mark.parametrize("size", [1, 15, 49, 1000])
@pytest.mark.parametrize("planes", [1, 16, 37])
def test_means_of_whole_planes(size, planes):
    x = RANDOM.standard_normal((planes, size)).astype(np.float32)
    y, dx = np.empty(planes, np.float32), np.empty_like(x)
    averages.plane_means(0, planes, x, y)
    np.testing.assert_allclose(y, x.mean(axis=1, dtype=float), rtol=1e-5, atol=1e-6)
    averages.plane_shares(0, planes, y, dx)
    np.testing.assert_allclose(dx, np.broadcast_to(y[:, None] / np.float32(size), dx.shape), rtol=1e-6)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_part_of_the_planes_writes_its_own_only(window):
    x, naive = case(window, 20, planes=4)
    y = np.full((4, *naive.output), np.float32(7))
    mask = np.full(y.shape, 7, np.int32)
    pooling.find_largest(x[0, 1:3], window, y[1:3], mask[1:3])
    assert (y[[0, 3]] == 7).all() and (mask[[0, 3]] == 7).all()
    np.testing.assert_array_equal(y[1:3], naive.maximum(x)[0][0, 1:3])
    y[[0, 3]] = 7
    averages.sum_rectangles(x[0, 1:3], averages.means(window, x.shape[2:], naive.output), y[1:3])
    assert (y[[0, 3]] == 7).all()
    np.testing.assert_allclose(y[1:3], naive.average(x)[0, 1:3], rtol=1e-6, atol=1e-6)
    pooling.find_largest(x[0, 1:3], window, y[1:3], mask[1:3])
    dx = np.full_like(x[0], 7)
    pooling.scatter(1, 3, y.reshape(4, -1), mask.reshape(4, -1), dx.reshape(4, -1))
    assert (dx[[0, 3]] == 7).all()
    np.testing.assert_allclose(dx[1:3].sum(axis=(1, 2)), y[1:3].sum(axis=(1, 2)), rtol=1e-5)


def test_a_draw_belongs_to_its_cell_wherever_the_work_is_cut():
    spans = pooling.spans_of(Window(3, 3, 3, 3, 0, 0), (9, 9), (3, 3))
    x = RANDOM.random((4, 9, 9), np.float32)
    whole, parts = (np.empty((4, 3, 3), np.float32) for _ in range(2))
    mask = np.empty((4, 3, 3), np.int32)
    key = np.uint64(5)
    pooling.sample_forward(0, 4, x, *spans, key, whole, mask)
    for start in range(4):
        pooling.sample_forward(start, start + 1, x, *spans, key, parts, mask)
    np.testing.assert_array_equal(whole, parts)
