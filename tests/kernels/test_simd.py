"""The vector operations, one by one."""

import numpy as np
import pytest

from blobnet.kernels import simd
from blobnet.kernels._jit import jit
from blobnet.kernels.tiles import TILE_ROWS

transpose_tile = simd.transposing_copy(TILE_ROWS)
transpose_vectors = simd.transposing_copy(simd.VECTOR_BYTES)
DTYPES = pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)], ids=str)


@jit(cache=False)
def copy(target, i, source, j, count):
    simd.copy_first(target, i, source, j, count)


@jit(cache=False)
def transpose(target, i, step, source, j, starts, count, whole):
    if whole:
        transpose_vectors(target, i, step, source, j, starts, count)
    else:
        transpose_tile(target, i, step, source, j, starts, count)


@DTYPES
def test_copy_writes_a_vector_of_the_first_elements_and_zeros(dtype):
    lanes = simd.lanes(dtype)
    source = np.arange(1, 6 + lanes, dtype=dtype)
    for count in range(1, lanes + 1):
        target = np.full(3 * lanes, -1, dtype)
        copy(target, 2, source, 5, count)
        np.testing.assert_array_equal(target[2 : 2 + count], source[5 : 5 + count])
        assert (target[2 + count : 2 + lanes] == 0).all()
        assert (target[:2] == -1).all()
        assert (target[2 + lanes :] == -1).all()


@DTYPES
@pytest.mark.parametrize("whole", [False, True])
def test_transposing_copy(dtype, whole):
    lanes = simd.lanes(dtype)
    rows = lanes if whole else min(lanes, TILE_ROWS)
    step = rows if rows < lanes else rows + 3
    source = np.random.default_rng(0).standard_normal((rows, 3 * lanes)).astype(dtype)
    starts = np.random.default_rng(1).permutation(rows) * source.shape[1]
    for count in range(1, lanes + 1):
        target = np.full(4 + lanes * step, -1, dtype)
        transpose(target, 4, step, source, 3, starts, count, whole)
        columns = target[4:].reshape(lanes, step)[:, :rows]
        order = starts // source.shape[1]
        np.testing.assert_array_equal(columns[:count], source[order, 3 : 3 + count].T)
        assert (columns[count:] == 0).all()
        assert (target[:4] == -1).all()


@DTYPES
def test_a_transposing_copy_that_checks_adds_nothing_but_nan(dtype):
    copy_and_check = simd.transposing_copy(simd.VECTOR_BYTES, checks=True)

    @jit(cache=False)
    def transpose_and_check(target, source, starts, count, nothing):
        copy_and_check(target, 0, len(starts), source, 0, starts, count, nothing)

    lanes = simd.lanes(dtype)
    source = np.random.default_rng(0).standard_normal((lanes, lanes)).astype(dtype)
    source[0, 0], source[1, 1] = np.inf, np.nan
    nothing, target = np.zeros(lanes, dtype), np.empty((lanes, lanes), dtype)
    for count, not_finite in ((0, []), (1, [0]), (lanes, [0, 1])):
        transpose_and_check(target, source, np.arange(lanes) * lanes, count, nothing)
        np.testing.assert_array_equal(target[:count], source.T[:count])
        np.testing.assert_array_equal(nothing, np.where(np.isin(np.arange(lanes), not_finite), np.nan, 0))


@DTYPES
@pytest.mark.parametrize("vectors", [1, 2, 3])
def test_tile_product(dtype, vectors):
    multiply = simd.tile_product(vectors)

    @jit(cache=False)
    def run(a, b, c, depth, accumulate):
        multiply(a, 1, 2, a.shape[1], b, 3, b.shape[1], depth, c, 4, c.shape[1], accumulate)

    rows, columns = TILE_ROWS, vectors * simd.lanes(dtype)
    for depth in (0, 1, 2, 33):
        generator = np.random.default_rng(depth)
        a, b, c = (
            generator.standard_normal(shape).astype(dtype)
            for shape in ((depth, 2 * rows + 3), (depth, columns + 5), (rows, columns + 7))
        )
        for accumulate in (False, True):
            found = c.copy()
            run(a, b, found, depth, accumulate)
            expected = c.copy()
            expected[:, 4 : 4 + columns] *= accumulate
            expected[:, 4 : 4 + columns] += a[:, 1 : 1 + 2 * rows : 2].T @ b[:, 3 : 3 + columns]
            np.testing.assert_allclose(found, expected, atol=1e-5)


@DTYPES
def test_tile_product_of_several_taps(dtype):
    multiply = simd.tile_product(2, taps=3)

    @jit(cache=False)
    def run(a, b, c):
        multiply(a, 0, 1, a.shape[2], b, 4, b.shape[1], len(b), c, 0, c.shape[1], False)

    generator = np.random.default_rng(0)
    rows, columns = TILE_ROWS, 2 * simd.lanes(dtype)
    a, b = (generator.standard_normal(shape).astype(dtype) for shape in ((5, 3, rows), (5, columns + 9)))
    found = np.empty((rows, columns), dtype)
    run(a, b, found)
    expected = sum(a[:, tap].T @ b[:, 4 + tap : 4 + tap + columns] for tap in range(3))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@DTYPES
def test_tile_product_that_fetches(dtype):
    multiply, multiply_and_fetch = simd.tile_product(2), simd.tile_product(2, fetches=True)

    @jit(cache=False)
    def run(a, b, plain, found, beyond):
        size = a, 0, 1, TILE_ROWS, b, 0, b.shape[1], len(b)
        multiply(*size, plain, 0, plain.shape[1], False)
        multiply_and_fetch(*size, found, 0, found.shape[1], False, b, beyond, b.shape[1])

    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal((9, size)).astype(dtype) for size in (TILE_ROWS, 2 * simd.lanes(dtype)))
    plain, found = np.zeros((2, TILE_ROWS, b.shape[1]), dtype)
    for beyond in (0, 1 << 50):
        run(a, b, plain, found, beyond)
        np.testing.assert_array_equal(found, plain)
        np.testing.assert_allclose(found, a.T @ b, atol=1e-5)


@DTYPES
def test_whole_copy(dtype):
    copy = simd.whole_copy(2)

    @jit(cache=False)
    def run(target, source):
        simd.fetch_to_write(target, 3, target.size)
        copy(target, 3, source, 5)

    size = 2 * simd.lanes(dtype)
    source, target = np.arange(size + 9, dtype=dtype), np.full(size + 7, -1, dtype)
    run(target, source)
    np.testing.assert_array_equal(target, [-1] * 3 + list(range(5, 5 + size)) + [-1] * 4)


@DTYPES
def test_tile_product_of_scattered_elements(dtype):
    multiply = simd.tile_product(2)

    @jit(cache=False)
    def run(a, rows, steps, b, c):
        multiply(a, 1, rows, steps, b, 3, b.shape[1], len(steps), c, 4, c.shape[1], False)

    columns, depth = 2 * simd.lanes(dtype), 9
    generator = np.random.default_rng(0)
    rows, steps = generator.permutation(50)[:TILE_ROWS], generator.permutation(50)[:depth]
    a, b = (generator.standard_normal(shape).astype(dtype) for shape in (101, (depth, columns + 5)))
    c = np.zeros((TILE_ROWS, columns + 7), dtype)
    run(a, rows, steps, b, c)
    expected = a[1 + np.add.outer(rows, steps)] @ b[:, 3 : 3 + columns]
    np.testing.assert_allclose(c[:, 4 : 4 + columns], expected, atol=1e-5)


@DTYPES
def test_weighted_sums(dtype):
    sum_weighted = simd.weighted_sums(3)

    @jit(cache=False)
    def run(w, x, offsets, y):
        sum_weighted(w, x, 5, offsets, 1, len(offsets), 7, y, 2, 40)

    lanes = simd.lanes(dtype)
    generator = np.random.default_rng(0)
    w, x = generator.standard_normal((4, lanes)).astype(dtype), generator.standard_normal(600).astype(dtype)
    offsets = np.array([0, 30, 2, 11])
    y = np.zeros(200, dtype)
    run(w.reshape(-1), x, offsets, y)
    for p in range(3):
        expected = sum(w[t] * x[5 + offsets[t] * lanes + 7 * p :][:lanes] for t in (1, 2, 3))
        np.testing.assert_allclose(y[2 + 40 * p :][:lanes], expected, atol=1e-5)


@DTYPES
def test_products_with_shifts(dtype):
    multiply_shifted = simd.products_with_shifts(2)

    @jit(cache=False)
    def run(x, y, offsets, sums):
        multiply_shifted(x, 3, y, 5, offsets, 1, 7, 4, sums)

    lanes = simd.lanes(dtype)
    generator = np.random.default_rng(0)
    x, y, sums = (generator.standard_normal(size).astype(dtype) for size in (100, 600, 3 * lanes))
    offsets, before = np.array([0, 30, 2]), sums.copy()
    run(x, y, offsets, sums)
    np.testing.assert_array_equal(sums[:lanes], before[:lanes])
    for t in (1, 2):
        expected = sum(x[3 + q * lanes :][:lanes] * y[5 + offsets[t] * lanes + 7 * q :][:lanes] for q in range(4))
        found = sums[t * lanes : (t + 1) * lanes] - before[t * lanes : (t + 1) * lanes]
        np.testing.assert_allclose(found, expected, atol=1e-5)


MATRICES = {
    "zeros": [[1, 0, -2], [0.5, 3, 0]],
    "a row of zeros": [[0, 0, 0], [0.5, 3, 0]],
    "rows and columns of one size": [[1, -2, 3], [1, 2, -3], [-4, -1, 1], [0, 5, 5]],
    "three rows and columns of one size": [[1, -1, 1], [1, 1, 1], [-1, 1, 1]],
}


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("adds", [False, True])
@DTYPES
def test_tile_transform(dtype, adds, name):
    matrix = np.array(MATRICES[name], float)
    transform_tile = simd.tile_transform({1: [[7.0]], 3: matrix.tolist()}, adds)

    @jit(cache=False)
    def run(which, x, y):
        transform_tile(which, x, 0, x.strides[0] // x.itemsize, x.shape[2], y, 0, y.shape[2], y.shape[1] * y.shape[2])

    lanes = simd.lanes(dtype)
    x = np.random.default_rng(0).standard_normal((3, 3, lanes)).astype(dtype)
    y = np.full((len(matrix), len(matrix), lanes), 0.5, dtype)
    run((0, 1, 2), x, y)
    np.testing.assert_allclose(y, np.einsum("ir,rcl,jc->jil", matrix, x, matrix) + 0.5 * adds, atol=1e-5)
