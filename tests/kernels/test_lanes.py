"""Planes that are turned side by side and back, and what is done with their vectors."""

import numpy as np
import pytest

from blobnet.kernels import lanes, simd
from blobnet.kernels._jit import jit

DTYPES = pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)])


@DTYPES
@pytest.mark.parametrize("pixels", [1, 4, 16, 21])
def test_there_and_back(dtype, pixels):
    width = simd.lanes(dtype)
    planes = np.random.default_rng(0).standard_normal((width, pixels + 3)).astype(dtype)
    starts = np.arange(width) * planes.shape[1]
    turned, back = np.zeros((pixels + width + 1, width), dtype), np.zeros_like(planes)
    lanes.turn(planes.reshape(-1), 2, pixels, starts, turned.reshape(-1), width)
    np.testing.assert_array_equal(turned[1 : 1 + pixels], planes[:, 2 : 2 + pixels].T)
    assert (turned[0] == 0).all()
    lanes.turn_back(turned.reshape(-1), width, pixels, starts, back.reshape(-1), 1)
    np.testing.assert_array_equal(back[:, 1 : 1 + pixels], planes[:, 2 : 2 + pixels])
    assert (back[:, [0, -2, -1]] == 0).all()


def test_fewer_planes_than_lanes_are_written_over_and_over():
    width = simd.lanes(np.dtype(np.float32))
    planes = np.arange(10, dtype=np.float32).reshape(2, 5)
    starts = np.minimum(np.arange(width), 1) * 5
    turned, back = np.empty((5 + width) * width, np.float32), np.zeros((3, 5), np.float32)
    lanes.turn(planes.reshape(-1), 0, 5, starts, turned, 0)
    lanes.turn_back(turned, 0, 5, starts, back.reshape(-1), 0)
    np.testing.assert_array_equal(back, [*planes, np.zeros(5)])


@DTYPES
def test_sums_and_quotients(dtype):
    @jit(cache=False)
    def run(source, count, target, row_sum, quotient):
        lanes.add_vectors(source, 3, 40, count, target, 1)
        lanes.add_row(source, 5, count, row_sum, 2)
        lanes.divide_vector(quotient, 1, source.dtype.type(3))

    width = simd.lanes(dtype)
    for count in (0, 1, 5, 17, 64):
        source = np.random.default_rng(count).standard_normal(40 * 64 + 3 + width).astype(dtype)
        target, row_sum, quotient = (np.full(width + 3, 2, dtype) for _ in range(3))
        run(source, count, target, row_sum, quotient)
        expected = 2 + sum(source[3 + 40 * n :][:width].astype(float) for n in range(count))
        np.testing.assert_allclose(target[1 : 1 + width], expected, atol=1e-5)
        np.testing.assert_allclose(
            row_sum[2 : 2 + width].sum(dtype=float), source[5 : 5 + count].sum(dtype=float), atol=1e-5
        )
        np.testing.assert_allclose(quotient[1 : 1 + width], 2 / 3, rtol=1e-6)
        assert (target[[0, -1]] == 2).all() and (row_sum[[0, 1, -1]] == 2).all() and (quotient[[0, -1]] == 2).all()
