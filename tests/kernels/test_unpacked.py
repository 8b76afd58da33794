"""Products that read the second operand where it lies, against NumPy's in float64."""

import numpy as np
import pytest

from blobnet import config
from blobnet.kernels import unpacked

SHAPES = {
    "one": (1, 1, 1, 1),
    "no sums": (2, 9, 50, 0),
    "one tile": (1, 8, 48, 16),
    "one more than a tile": (3, 9, 49, 17),
    "rows shorter than a vector": (2, 20, 3, 40),
    "several blocks": (2, 150, 1000, 90),
    "several slices": (1, 17, 401, 600),
    "long rows": (1, 5, 20000, 6),
}
PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-13)])


def operands(shape, dtype=np.float32):
    members, rows, columns, depth = shape
    generator = np.random.default_rng(7)
    shapes = (rows, depth), (members, depth, columns), (members, rows, columns), (rows,)
    return [generator.standard_normal(shape).astype(dtype) for shape in shapes]


@PRECISIONS
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("added", ["nothing", "another", "itself"])
def test_shapes(shape, added, dtype, tolerance):
    a, b, c, bias = operands(SHAPES[shape], dtype)
    addend = {"nothing": None, "another": c.copy(), "itself": c}[added]
    known = 0 if addend is None else addend.astype(float)
    if addend is not c:
        c[...] = np.nan
    expected = np.maximum(a.astype(float) @ b.astype(float) + bias[:, None] + known, -0.5)
    unpacked.multiply(unpacked.panels(a), b, c, bias, -0.5, addend)
    np.testing.assert_allclose(c, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_row_and_column(value):
    a, b, c, _ = operands((2, 13, 70, 300))
    a[12, 299], b[1, 3, 69] = value, value
    with np.errstate(invalid="ignore"):
        expected = a @ b
    unpacked.multiply(unpacked.panels(a), b, c)
    np.testing.assert_array_equal(np.isnan(c), np.isnan(expected))
    np.testing.assert_array_equal(c[np.isinf(c)], expected[np.isinf(expected)])


def test_the_same_bits_on_any_number_of_threads():
    a, b, c, bias = operands((3, 150, 1000, 300))
    before = config.threads()
    results = []
    for threads in (1, 2, 4):
        config.set_threads(threads)
        unpacked.multiply(unpacked.panels(a), b, c, bias)
        results.append(c.tobytes())
    config.set_threads(before)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("rows", [1, 8, 13])
def test_panels_hold_the_rows_side_by_side(rows):
    a = operands((1, rows, 1, 5))[0]
    packed = unpacked.panels(a, keep=True)
    side_by_side = packed.swapaxes(1, 2).reshape(-1, 5)
    np.testing.assert_array_equal(side_by_side[:rows], a)
    np.testing.assert_array_equal(side_by_side[rows:], np.broadcast_to(a[-1], side_by_side[rows:].shape))
    np.testing.assert_array_equal(unpacked.panels(np.ascontiguousarray(a.T), transposed=True), packed)
