"""Joining and splitting along every axis, against NumPy."""

import numpy as np
import pytest

from blobnet.kernels import parts


@pytest.mark.parametrize("axis", range(4))
def test_join_and_split(axis):
    random = np.random.default_rng(3)
    extents = [3, 1, 4]
    shapes = [[*(2, 5, 6, 7)[:axis], extent, *(2, 5, 6, 7)[axis + 1 :]] for extent in extents]
    given = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    whole = np.empty_like(np.concatenate(given, axis=axis))
    parts.join(given, whole, axis)
    np.testing.assert_array_equal(whole, np.concatenate(given, axis=axis))
    found = [np.empty_like(part) for part in given]
    parts.split(whole, extents, found, axis)
    for part, expected in zip(found, given, strict=True):
        np.testing.assert_array_equal(part, expected)
    last = np.empty_like(given[2])
    parts.split(whole, extents, [None, None, last], axis)
    np.testing.assert_array_equal(last, given[2])
