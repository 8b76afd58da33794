"""Loops along rows against NumPy, for rows of many lengths."""

import numpy as np
import pytest

from blobnet.kernels import rows, simd
from blobnet.kernels._jit import jit
from blobnet.kernels.rows import at

RANDOM = np.random.default_rng(5)
DTYPES = pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)], ids=str)
LENGTHS = pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 8, 15, 16, 33, 49, 64, 65, 1000])


def weigh(emitter, numbers, x, z):
    """a x + b and z; the terms are a x and a x z."""
    a, b = numbers
    scaled = emitter.builder.fmul(a, x)
    return [emitter.builder.fadd(scaled, b), z], [scaled, emitter.builder.fmul(scaled, z)]


def clip(emitter, numbers, x):
    return [emitter.where_positive(x, x)], []


weigh_row, clip_row = rows.loop(weigh, 2), rows.loop(clip)


@jit(cache=False)
def weigh_all(x, z, first, count, a, b, y, copy, totals):
    weigh_row(count, (a, b), (at(x, first), at(z, first)), (at(y, first), at(copy, first)), at(totals, 1))


@jit(cache=False)
def clip_all(x):
    clip_row(x.size, (), (at(x, 0),), (at(x, 0),), None)


@DTYPES
@LENGTHS
def test_outputs_and_sums(length, dtype):
    x, z = RANDOM.standard_normal((2, length + 4)).astype(dtype)
    y, copy = np.full_like(x, 9), np.full_like(x, 9)
    lanes = simd.lanes(dtype)
    totals = np.ones(2 * lanes + 2)
    weigh_all(x, z, 2, length, 2.0, 0.5, y, copy, totals)
    within = slice(2, 2 + length)
    np.testing.assert_allclose(y[within], 2 * x[within] + 0.5, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(copy[within], z[within])
    sums = totals[1:-1].reshape(2, lanes).sum(axis=1) - lanes
    np.testing.assert_allclose(sums, [2 * x[within].sum(), 2 * (x * z)[within].sum()], rtol=1e-4, atol=1e-4)
    assert (np.delete(y, np.r_[within]) == 9).all() and (np.delete(copy, np.r_[within]) == 9).all()
    assert totals[0] == totals[-1] == 1


@LENGTHS
def test_in_place(length):
    x = RANDOM.standard_normal(length).astype(np.float32)
    x[length // 2 :] = np.nan
    expected = np.where(x <= 0, 0, x)
    clip_all(x)
    np.testing.assert_array_equal(x, expected)


def test_what_follows_a_row_is_not_summed():
    x = np.full(2, np.inf, np.float32)
    totals = np.zeros(2 * simd.lanes(x.dtype) + 2)
    weigh_all(x, x, 0, 1, 1.0, 0.0, x.copy(), x.copy(), totals)
    assert np.isinf(totals).sum() == 2


@DTYPES
@pytest.mark.parametrize("vectors", [1, 2, 7])
def test_the_largest_wherever_it_stands(vectors, dtype):
    @jit(cache=False)
    def find(x, count, known):
        return rows.largest(count, at(x, 1), known)

    lanes = simd.lanes(dtype)
    x = RANDOM.standard_normal(vectors * lanes + 2).astype(dtype) - 100
    x[[0, -1]] = 1000
    for place in range(1, len(x) - 1):
        x[place] = place
        assert find(x, vectors * lanes, dtype.type(-np.inf)) == place
    assert find(x, vectors * lanes, dtype.type(500)) == 500
    x[2] = np.nan
    assert find(x, vectors * lanes, dtype.type(-np.inf)) == len(x) - 2
