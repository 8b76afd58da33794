import numpy as np
import pytest

from blobnet import streams
from blobnet.kernels import random

KEY = np.uint64(0x0123456789ABCDEF)
HALF = np.uint64(2**31)


def mask(count, key=KEY, bound=HALF, start=0):
    y = np.full(count, np.nan)
    random.dropout(start, count, np.ones(count), key, bound, 1.0, y)
    return y[start:]


def test_bits_are_the_upper_half_of_splitmix64():
    for index in (0, 1, 2**40):
        mixed = streams.mix(int(KEY) + index * 0x9E3779B97F4A7C15)
        assert int(random.bits(KEY, index)) == mixed >> 32


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_the_share_of_dropped_elements(ratio):
    count = 100_000
    dropped = mask(count, bound=np.uint64(ratio * 2**32)) == 0
    assert abs(dropped.mean() - ratio) < 4 * np.sqrt(ratio * (1 - ratio) / count)


def test_elements_and_keys_are_independent():
    count = 100_000
    bound = 4 / np.sqrt(count)
    a = 2 * mask(count) - 1
    for other in (KEY + np.uint64(1), KEY ^ np.uint64(2**31), KEY ^ np.uint64(2**63)):
        b = 2 * mask(count, key=other) - 1
        for lag in range(4):
            assert abs((a[lag:] * b[: count - lag]).mean()) < bound
    for lag in (1, 2, 64, 1000, 1024):
        assert abs((a[lag:] * a[:-lag]).mean()) < bound
    assert abs((a[2:] * a[1:-1] * a[:-2]).mean()) < bound


@pytest.mark.parametrize("size", [8, 64, 1000])
def test_blocks_of_elements_vary_as_sums_of_independent_ones(size):
    """The squares of the deviations, in standard deviations, have the mean 1 and the variance 2."""
    blocks = 2000
    sums = (2 * mask(blocks * size) - 1).reshape(blocks, size).sum(axis=1)
    assert abs((sums**2 / size).mean() - 1) < 4 * np.sqrt(2 / blocks)


def test_an_element_does_not_depend_on_where_a_thread_starts():
    np.testing.assert_array_equal(mask(1000)[123:], mask(1000, start=123))


def test_a_dropped_element_is_0_whatever_it_was():
    x, y = np.full(1000, np.nan), np.empty(1000)
    random.dropout(0, x.size, x, KEY, HALF, 2.0, y)
    kept = mask(1000) == 1
    assert np.isnan(y[kept]).all()
    assert (y[~kept] == 0).all()
