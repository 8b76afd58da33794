"""Normalisation kernels against NumPy, for rows of many lengths and parts of the channels."""

import numpy as np
import pytest

from blobnet.kernels import normalization
from blobnet.kernels.normalization import Response
from tests.naive import lrn as naive

RANDOM = np.random.default_rng(31)
LENGTHS = [1, 2, 7, 8, 9, 16, 31, 64, 65, 1000]


def rows(count, length):
    return (RANDOM.standard_normal((count, length)) + 3).astype(np.float32)


def channels(length):
    return rows(12, length).reshape(3, 4, length)


def room(x):
    return normalization.room_for_sums(x.shape[1], x.dtype)[0]


def by_channel(values):
    return values[:, None]


@pytest.mark.parametrize("length", [*LENGTHS, 2500])
@pytest.mark.parametrize("copied", [False, True])
def test_moments(length, copied):
    x = channels(length)
    kept = np.empty_like(x) if copied else None
    mean, variance = np.empty(4), np.empty(4)
    for start, stop in ((0, 1), (1, 4)):
        normalization.moments(start, stop, x, kept, mean, variance, room(x))
    exact = x.astype(float)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, exact.var(axis=(0, 2)), rtol=2e-6)
    if copied:
        np.testing.assert_array_equal(kept, x)


def test_moments_of_equal_numbers_are_exact():
    x, mean, variance = np.full((3, 1, 50), 1e6 / 3, np.float32), np.empty(1), np.empty(1)
    normalization.moments(0, 1, x, None, mean, variance, room(x))
    assert (mean[0], variance[0]) == (np.float32(1e6 / 3), 0)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("clip", [False, True])
def test_lines_and_their_gradients(length, clip):
    x, dy = channels(length), channels(length) - 3
    mean, factor = 3 + RANDOM.random(4), RANDOM.random(4)
    scale, shift = RANDOM.standard_normal((2, 4)).astype(np.float32)
    line = normalization.Line(mean, factor, scale, shift, clip)
    normalized = (x - by_channel(mean)) * by_channel(factor)
    expected_y = by_channel(scale) * normalized + by_channel(shift)
    g = np.where(expected_y <= 0, 0, dy) if clip else dy
    expected_sums = g.sum(axis=(0, 2)), (g * normalized).sum(axis=(0, 2))
    means = [by_channel(total / (3 * length)) for total in expected_sums]
    rate = by_channel(scale * factor)

    y, dx, dx_at_once, fixed = (np.empty_like(x) for _ in range(4))
    sums, sums_at_once = np.empty((2, 2, 4))
    within, within_dy, within_fixed = x.copy(), dy.copy(), dy.copy()
    for start, stop in ((0, 3), (3, 4)):
        normalization.apply_line(start, stop, x, line, y)
        normalization.apply_line(start, stop, within, line, None)
        normalization.gradient_sums(start, stop, x, dy, None, line, *sums, room(x))
        normalization.line_gradient(start, stop, x, dy, line, *sums, dx)
        normalization.line_gradient(start, stop, x, within_dy, line, *sums, None)
        normalization.sums_and_line_gradient(start, stop, x, dy, None, line, *sums_at_once, dx_at_once, room(x))
        normalization.fixed_line_gradient(start, stop, x, dy, line, scale, fixed)
        normalization.fixed_line_gradient(start, stop, x, within_fixed, line, scale, None)
    close = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(y, np.maximum(expected_y, 0) if clip else expected_y, **close)
    np.testing.assert_allclose(sums, expected_sums, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(dx, rate * (g - means[0] - normalized * means[1]), **close)
    np.testing.assert_allclose(fixed, by_channel(scale) * g, **close)
    np.testing.assert_array_equal(within, y)
    np.testing.assert_array_equal(within_dy, dx)
    np.testing.assert_array_equal(dx_at_once, dx)
    np.testing.assert_array_equal(sums_at_once, sums)
    np.testing.assert_array_equal(within_fixed, fixed)


@pytest.mark.parametrize("length", LENGTHS)
def test_a_line_that_is_joined_by_another_array(length):
    x, z, dy, more = (channels(length) - 3 for _ in range(4))
    z[0, 1, 0] = np.nan
    line = normalization.Line(RANDOM.random(4), RANDOM.random(4), *rows(2, 4), False)
    plain, y, g, dx, expected_dx = (np.empty_like(x) for _ in range(5))
    sums, expected_sums = np.empty((2, 2, 4))
    normalization.apply_line(0, 4, x, line, plain)
    for start, stop in ((0, 3), (3, 4)):
        normalization.join_line(start, stop, x, line, z, y)
    np.testing.assert_array_equal(y, np.maximum(plain + z, 0))

    joined = normalization.Joined(y, more, g)
    for start, stop in ((0, 3), (3, 4)):
        normalization.sums_and_line_gradient(start, stop, x, dy, joined, line, *sums, dx, room(x))
    np.testing.assert_array_equal(g, np.where(y <= 0, 0, dy + more))
    normalization.sums_and_line_gradient(0, 4, x, g, None, line, *expected_sums, expected_dx, room(x))
    np.testing.assert_array_equal(sums, expected_sums)
    np.testing.assert_array_equal(dx, expected_dx)


def test_remembered_statistics():
    mean, variance = RANDOM.random((2, 4))
    sums = RANDOM.random((2, 4)).astype(np.float32)
    weight = np.array([2.5], np.float32)
    expected = 0.9 * sums[0] + mean, 0.9 * sums[1] + 1.25 * variance, [0.9 * 2.5 + 1]
    for start, stop in ((0, 3), (3, 4)):
        normalization.remember(start, stop, mean, variance, 1.25, 0.9, *sums, weight)
    for found, right in zip((*sums, weight), expected, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-6)


@pytest.mark.parametrize("length", LENGTHS)
def test_responses_across_rows_of_many_lengths(length):
    x = rows(2 * 6, length).reshape(2, 6, length)
    dy = rows(2 * 6, length).reshape(2, 6, length)
    y, scale, dx = (np.empty_like(x) for _ in range(3))
    response = Response(1, 0, 0.5 / 3, 0.75, 2.0)
    sizes = normalization.window_sizes(6, length, response)
    work = normalization.room_for_windows(sizes, x.dtype)[0]
    for start in range(2):
        normalization.response_forward(start, start + 1, x, response, sizes, scale, y, work)
        normalization.response_backward(start, start + 1, x, scale, dy, response, sizes, dx, work)
    settings = {"size": 3, "alpha": 0.5, "beta": 0.75, "k": 2.0, "within": False}
    np.testing.assert_allclose(y, naive.forward(x[..., None], **settings)[..., 0], rtol=1e-5)
    expected = naive.backward(x[..., None], dy[..., None], **settings)[..., 0]
    np.testing.assert_allclose(dx, expected, rtol=1e-4, atol=1e-5)
