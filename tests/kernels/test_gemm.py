"""Matrix products against NumPy's in float64, over random shapes."""

import numpy as np
import pytest

from blobnet import config
from blobnet.kernels import packing, product
from blobnet.kernels.gemm import gemm

SHAPES = {
    "one": (1, 1, 1),
    "row times column": (1, 1, 1000),
    "column times row": (37, 41, 1),
    "vector times matrix": (1, 300, 200),
    "matrix times vector": (300, 1, 200),
    "one tile": (8, 48, 16),
    "one more than a tile": (9, 49, 17),
    "several blocks": (300, 500, 700),
    "several blocks of columns": (300, 1200, 300),
    "long sums": (20, 25, 5000),
    "short sums": (700, 800, 20),
}


def _operands(generator, m, n, k, transpose_a, transpose_b, dtype):
    a = generator.standard_normal((k, m) if transpose_a else (m, k)).astype(dtype)
    b = generator.standard_normal((n, k) if transpose_b else (k, n)).astype(dtype)
    return a, b, generator.standard_normal((m, n)).astype(dtype)


def _expected(a, b, c, transpose_a, transpose_b, alpha, beta):
    a, b, c = (array.astype(np.float64) for array in (a, b, c))
    return alpha * (a.T if transpose_a else a) @ (b.T if transpose_b else b) + beta * c


def _check(generator, m, n, k, dtype, tolerance):
    transpose_a, transpose_b = (bool(flag) for flag in generator.integers(0, 2, 2))
    alpha, beta = generator.choice([0, 1, -0.5], 2)
    a, b, c = _operands(generator, m, n, k, transpose_a, transpose_b, dtype)
    expected = _expected(a, b, c, transpose_a, transpose_b, alpha, beta)
    gemm(a, b, c, transpose_a, transpose_b, alpha, beta)
    np.testing.assert_allclose(c, expected, rtol=0, atol=tolerance * np.abs(expected).max())


PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-13)])


@PRECISIONS
@pytest.mark.parametrize("shape", SHAPES)
def test_chosen_shapes(shape, dtype, tolerance):
    for seed in range(8):
        _check(np.random.default_rng(seed), *SHAPES[shape], dtype, tolerance)


@PRECISIONS
def test_random_shapes(dtype, tolerance):
    generator = np.random.default_rng(0)
    for _ in range(150):
        _check(generator, *generator.integers(1, 130, 3), dtype, tolerance)


def test_the_reference_path(monkeypatch):
    monkeypatch.setattr(config, "reference_kernels", lambda: True)
    generator = np.random.default_rng(0)
    for _ in range(50):
        _check(generator, *generator.integers(1, 50, 3), np.float32, 1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_bits_on_any_number_of_threads(shape):
    before = config.threads()
    results = []
    for threads in (1, 2, 4):
        config.set_threads(threads)
        a, b, c = _operands(np.random.default_rng(1), *SHAPES[shape], False, True, np.float32)
        gemm(a, b, c, transpose_b=True, beta=1)
        results.append(c.tobytes())
    config.set_threads(before)
    assert results[0] == results[1] == results[2]


def test_threads_that_get_nothing_are_harmless():
    before = config.threads()
    config.set_threads(7)
    a, b, c = _operands(np.random.default_rng(1), 257, 49, 300, False, False, np.float32)
    gemm(a, b, c)
    config.set_threads(before)
    np.testing.assert_allclose(c, a.astype(np.float64) @ b, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_beta_zero_does_not_read_the_old_result(shape):
    a, b, c = _operands(np.random.default_rng(1), *SHAPES[shape], False, False, np.float32)
    c[...] = np.nan
    gemm(a, b, c)
    assert np.isfinite(c).all()


def test_infinity_times_zero_is_nan():
    a, b, c = np.zeros((20, 30), np.float32), np.ones((30, 70), np.float32), np.zeros((20, 70), np.float32)
    b[3, 5] = np.inf
    gemm(a, b, c)
    assert np.isnan(c[:, 5]).all()
    assert (np.delete(c, 5, axis=1) == 0).all()


def test_operands_are_not_modified():
    a, b, c = _operands(np.random.default_rng(1), 50, 60, 70, False, False, np.float32)
    before = a.copy(), b.copy()
    gemm(a, b, c)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])


@pytest.mark.parametrize("in_place", [False, True])
def test_scattered_operands_and_result(in_place):
    """A batch of two products whose rows and columns lie anywhere in memory."""
    generator = np.random.default_rng(1)
    data = generator.standard_normal(4000).astype(np.float32)
    a_layout, b_layout, c_layout = (
        product.Layout(np.array([0, 2000]), generator.permutation(rows) * 40, generator.permutation(columns), runs)
        for rows, columns, runs in ((13, 30, True), (37, 30, False), (13, 37, True))
    )
    c = np.zeros(4000, np.float32)
    bias = np.arange(26, dtype=np.float32)
    product.multiply(data, a_layout, data, b_layout, c, c_layout, bias=bias, in_place=in_place)
    for g in range(2):
        a, b, found = (
            array[layout.starts[g] + np.add.outer(layout.outer, layout.inner)]
            for array, layout in ((data, a_layout), (data, b_layout), (c, c_layout))
        )
        np.testing.assert_allclose(found, a @ b.T + np.arange(13 * g, 13 * g + 13)[:, None], atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_fit_the_tables_of_their_runs(dtype):
    generator = np.random.default_rng(9)
    for _ in range(2000):
        m, n, k = (int(extent) for extent in 10 ** generator.uniform(0, 5, 3))
        batch, threads = (int(count) for count in generator.integers(1, 70, 2))
        in_place, kept = (bool(flag) for flag in generator.integers(0, 2, 2))
        shape = product.shape_of(batch, m, n, k, np.dtype(dtype), in_place, kept, threads)
        assert max(shape.columns, shape.depth, shape.tile, shape.panel) <= packing.MOST_RUNS
