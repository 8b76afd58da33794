"""Softmax kernels: both directions of the loops, over lengths around those of vectors."""

import numpy as np
import pytest

from blobnet.kernels import softmax
from tests.naive import softmax as naive

RANDOM = np.random.default_rng(32)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("inner", [1, 2, 17])
def test_lengths(inner, dtype, tolerance):
    for classes in (1, 2, 7, 8, 9, 15, 16, 17, 33, 100):
        x = (5 * RANDOM.standard_normal((3, classes, inner))).astype(dtype)
        dy = RANDOM.standard_normal(x.shape).astype(dtype)
        y, dx = np.empty_like(x), np.empty_like(x)
        softmax.forward(x, y)
        softmax.backward(y, dy, dx)
        np.testing.assert_allclose(y, naive.forward(x, 1), rtol=0, atol=tolerance)
        np.testing.assert_allclose(dx, naive.backward(x, dy, 1), rtol=0, atol=5 * tolerance)
        softmax.forward(x, None)
        softmax.backward(y, dy, None)
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance)
        np.testing.assert_allclose(dy, dx, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kernel", [softmax.forward_rows, softmax.forward_columns])
def test_a_part_of_the_items_writes_its_own_only(kernel):
    x = RANDOM.standard_normal((4, 5) if kernel is softmax.forward_rows else (4, 5, 2)).astype(np.float32)
    y, work = np.full_like(x, 7), np.empty(4, np.float32)
    kernel(1, 3, x, y, *([work] if kernel is softmax.forward_columns else []))
    assert (y[[0, 3]] == 7).all()
    np.testing.assert_allclose(y[1:3], naive.forward(x, 1)[1:3], rtol=1e-5)
