"""Normalisation kernels against NumPy's moments, over rows of many lengths and over parts of them."""

import numpy as np
import pytest

from blobnet.kernels import normalization
from blobnet.kernels.normalization import Response
from tests.naive import lrn as naive

RANDOM = np.random.default_rng(31)
LENGTHS = [1, 2, 7, 8, 9, 16, 31, 64, 65, 1000]


def rows(count, length):
    return (RANDOM.standard_normal((count, length)) + 3).astype(np.float32)


@pytest.mark.parametrize("length", LENGTHS)
def test_moments(length):
    x = rows(12, length)
    mean, squares = np.empty(12), np.empty(12)
    normalization.row_moments(0, 5, x, mean, squares)
    normalization.row_moments(5, 12, x, mean, squares)
    exact = x.astype(float)
    np.testing.assert_allclose(mean, exact.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(squares, exact.var(axis=1) * length, rtol=1e-10, atol=1e-12)
    channel_mean, variance = np.empty(4), np.empty(4)
    normalization.channel_moments(mean, squares, length, channel_mean, variance)
    by_channel = exact.reshape(3, 4, length)
    np.testing.assert_allclose(channel_mean, by_channel.mean(axis=(0, 2)), rtol=1e-12)
    np.testing.assert_allclose(variance, by_channel.var(axis=(0, 2)), rtol=1e-10)


@pytest.mark.parametrize("length", LENGTHS)
def test_in_place_and_in_parts(length):
    x, dy = rows(12, length), rows(12, length)
    mean, factor, mean_dy, mean_product = RANDOM.random((4, 4))
    y, dx = np.empty_like(x), np.empty_like(x)
    normalization.normalize(0, 12, x, mean, factor, y)
    normalization.normalize_backward(0, 12, x, mean, factor, mean_dy, mean_product, dy, dx)
    within, within_dy = x.copy(), dy.copy()
    for start, stop in ((0, 3), (3, 12)):
        normalization.normalize(start, stop, within, mean, factor, None)
        normalization.normalize_backward(start, stop, x, mean, factor, mean_dy, mean_product, within_dy, None)
    np.testing.assert_array_equal(within, y)
    np.testing.assert_array_equal(within_dy, dx)
    channel = np.arange(12) % 4
    normalized = (x - mean[channel, None]) * factor[channel, None]
    np.testing.assert_allclose(y, normalized, rtol=1e-5, atol=1e-6)
    expected = (dy - mean_dy[channel, None] - normalized * mean_product[channel, None]) * factor[channel, None]
    np.testing.assert_allclose(dx, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", LENGTHS)
def test_responses_across_rows_of_many_lengths(length):
    x = rows(2 * 6, length).reshape(2, 6, length)
    dy = rows(2 * 6, length).reshape(2, 6, length)
    y, scale, dx = (np.empty_like(x) for _ in range(3))
    response = Response(1, 0, 0.5 / 3, 0.75, 2.0)
    for start in range(2):
        normalization.response_forward(start, start + 1, x, response, scale, y)
        normalization.response_backward(start, start + 1, x, scale, dy, response, dx)
    settings = {"size": 3, "alpha": 0.5, "beta": 0.75, "k": 2.0, "within": False}
    np.testing.assert_allclose(y, naive.forward(x[..., None], **settings)[..., 0], rtol=1e-5)
    expected = naive.backward(x[..., None], dy[..., None], **settings)[..., 0]
    np.testing.assert_allclose(dx, expected, rtol=1e-4, atol=1e-5)
