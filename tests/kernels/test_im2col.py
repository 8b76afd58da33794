"""im2col against plain indexing, and col2im as its transpose."""

import itertools

import numpy as np
import pytest

from blobnet.kernels import im2col
from blobnet.kernels.geometry import Geometry, convolved

CASES = {
    "plain": ((5, 6), (3, 2), (1, 1), (0, 0), (1, 1)),
    "everything": ((7, 6), (3, 2), (2, 3), (1, 2), (2, 1)),
    "padding larger than the image": ((1, 2), (2, 2), (1, 2), (4, 3), (1, 1)),
    "stride larger than the kernel": ((9,), (2,), (4,), (0,), (1,)),
    "three axes": ((3, 4, 5), (2, 3, 1), (1, 2, 2), (1, 0, 1), (1, 1, 2)),
    "no axis": ((), (), (), (), ()),
}


def _geometry(case):
    size, kernel, stride, pad, dilation = CASES[case]
    return Geometry(size, kernel, stride, pad, dilation, tuple(map(convolved, size, kernel, stride, pad, dilation)))


def _pixel(geometry, tap, output):
    """The input pixel under a tap at an output pixel, None in the padding."""
    position = [
        o * s + k * d - p
        for o, s, k, d, p in zip(output, geometry.stride, tap, geometry.dilation, geometry.pad, strict=True)
    ]
    inside = all(0 <= place < extent for place, extent in zip(position, geometry.input, strict=True))
    return tuple(position) if inside else None


@pytest.mark.parametrize("case", CASES)
def test_im2col(case):
    geometry = _geometry(case)
    image = np.random.default_rng(0).standard_normal((3, *geometry.input)).astype(np.float32)
    table = im2col.tap_table(geometry)
    columns = np.full((3, *table.shape), np.nan, np.float32)
    im2col.im2col(0, 3, image.reshape(3, -1), table, columns)
    for t, tap in enumerate(itertools.product(*map(range, geometry.kernel))):
        for p, output in enumerate(itertools.product(*map(range, geometry.output))):
            pixel = _pixel(geometry, tap, output)
            expected = np.zeros(3) if pixel is None else image[(slice(None), *pixel)]
            np.testing.assert_array_equal(columns[:, t, p], expected)


@pytest.mark.parametrize("case", CASES)
def test_col2im_is_the_transpose(case):
    geometry = _geometry(case)
    generator = np.random.default_rng(0)
    table = im2col.tap_table(geometry)
    image, spread = (generator.standard_normal((3, int(np.prod(geometry.input)))) for _ in range(2))
    columns, gathered = (generator.standard_normal((3, *table.shape)) for _ in range(2))
    im2col.im2col(0, 3, image, table, gathered)
    im2col.col2im(0, 3, columns, table, spread)
    np.testing.assert_allclose((gathered * columns).sum(), (image * spread).sum(), rtol=1e-12, atol=1e-12)
