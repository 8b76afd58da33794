import numpy as np
import pytest

from blobnet import config
from blobnet.kernels import activation, arithmetic, elements, eltwise

RANDOM = np.random.default_rng(5)


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = config.threads()
    config.set_threads(request.param)
    yield request.param
    config.set_threads(before)


@pytest.mark.parametrize("count", [1, 7, 16384, 100_001])
def test_every_element_once_for_any_number_of_threads(threads, count):
    x = RANDOM.normal(size=count)
    y = np.full(count, np.nan)
    elements.run(activation.relu, count, x, y)
    np.testing.assert_array_equal(y, np.maximum(x, 0))


@pytest.mark.parametrize("rows, size", [(1, 5), (3, 40_000), (50_000, 1), (300, 129)])
def test_every_row_once_for_any_number_of_threads(threads, rows, size):
    x, factor, shift = RANDOM.normal(size=(rows, size)), np.array([2.0]), np.array([1.0])
    y = np.full_like(x, np.nan)
    elements.run_rows(eltwise.scale, rows, size, x, factor, shift, y)
    np.testing.assert_allclose(y, 2 * x + 1, rtol=1e-15)


def test_in_place_is_the_same():
    x = RANDOM.normal(size=1000)
    y = np.empty_like(x)
    elements.run(arithmetic.clip, x.size, x, -0.5, 0.5, y)
    elements.run(arithmetic.clip, x.size, x, -0.5, 0.5, None)
    np.testing.assert_array_equal(x, y)


def test_nothing_outside_the_span_is_touched():
    x, y = np.ones(10), np.zeros(10)
    activation.relu(3, 6, x, y)
    np.testing.assert_array_equal(np.flatnonzero(y), [3, 4, 5])
