import numpy as np
import pytest

from blobnet.kernels.finite import all_finite
from blobnet.kernels.tiles import SEARCHED_AT_ONCE


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 37, SEARCHED_AT_ONCE, 3 * SEARCHED_AT_ONCE + 5])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_one_value_that_is_not_finite_is_found(value, size, dtype):
    values = np.full((1, size), np.finfo(dtype).max, dtype)  # whose sums, and squares, are not finite
    assert all_finite(values)
    for place in {0, size // 2, size - 1}:
        kept, values[0, place] = values[0, place], value
        assert not all_finite(values)
        values[0, place] = kept
    assert all_finite(values)
