import numpy as np
import pytest

from blobnet.kernels import activation, arithmetic


def apply(kernel, x, *args):
    y = np.empty_like(x)
    kernel(0, x.size, x, *args, y)
    return y


def exp(x):
    one = x.dtype.type(1)
    return apply(arithmetic.exponential, x, one, one)


def tanh(x):
    return apply(activation.hyperbolic_tangent, x)


def sigmoid(x):
    return apply(activation.logistic, x)


def units_in_the_last_place(found, exact):
    return np.max(np.abs(found - exact) / np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64))


ALL_EXPONENTS = np.concatenate([s * 10.0 ** np.linspace(-30, 1.94, 200_001) for s in (-1, 1)]).astype(np.float32)
MODERATE = np.linspace(-100, 88.7, 200_001).astype(np.float32)


@pytest.mark.parametrize("x", [ALL_EXPONENTS, MODERATE], ids=["all exponents", "moderate"])
def test_float32_is_within_units_in_the_last_place(x):
    exact = x.astype(np.float64)
    assert units_in_the_last_place(exp(x), np.exp(exact)) <= 2
    assert units_in_the_last_place(tanh(x), np.tanh(exact)) <= 3
    normal = x > -87  # below, 1 / (1 + exp(-x)) is less than the smallest normal number, and may become 0
    assert units_in_the_last_place(sigmoid(x)[normal], 1 / (1 + np.exp(-exact[normal]))) <= 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_limits(dtype):
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0], dtype)
    np.testing.assert_array_equal(exp(x), np.array([np.nan, np.inf, 0, np.inf, 0, 1]))
    np.testing.assert_array_equal(tanh(x), np.array([np.nan, 1, -1, 1, -1, 0]))
    np.testing.assert_array_equal(sigmoid(x), np.array([np.nan, 1, 0, 1, 0, 0.5]))


def test_the_edges_of_float32():
    x = np.array([88.72283, 88.72284, -87.4, -103.97, -104], np.float32)
    np.testing.assert_allclose(exp(x)[[0, 2]], np.exp(x.astype(np.float64))[[0, 2]], rtol=2e-7)
    np.testing.assert_array_equal(exp(x)[[1, 3, 4]], np.array([np.inf, 2.0**-149, 0], np.float32))


def test_float64_is_the_c_library():
    x = np.linspace(-20, 20, 1001)
    np.testing.assert_allclose(exp(x), np.exp(x), rtol=1e-15)
    np.testing.assert_allclose(tanh(x), np.tanh(x), rtol=1e-15)
