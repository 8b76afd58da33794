"""Convolution that reads pixels where they lie, against the defining sum."""

import numpy as np
import pytest

from blobnet import config
from blobnet.kernels import convolution, shallow, unpacked
from blobnet.kernels.geometry import Geometry, convolved
from tests.naive import convolution as naive

# Size, kernel, stride, pad, dilation; images, channels, filters.
SHAPES = {
    "one pixel": ((1, 1), (1, 1), (1, 1), (0, 0), (1, 1), 1, 1, 1),
    "whole vectors": ((9, 32), (5, 5), (1, 1), (2, 2), (1, 1), 3, 3, 16),
    "whole vectors and a pixel": ((6, 33), (3, 3), (1, 1), (1, 1), (1, 1), 2, 3, 20),
    "whole vectors but a pixel": ((5, 31), (3, 3), (1, 1), (1, 1), (1, 1), 2, 1, 9),
    "rows shorter than a vector": ((7, 5), (3, 2), (1, 1), (0, 1), (1, 1), 4, 4, 7),
    "stride 2": ((17, 64), (7, 7), (2, 2), (3, 3), (1, 1), 2, 3, 8),
    "stride 2, odd": ((16, 35), (3, 3), (2, 2), (0, 0), (1, 1), 2, 3, 17),
    "stride 2, rows that end before the plane": ((8, 37), (2, 2), (2, 2), (0, 0), (1, 1), 1, 2, 3),
    "stride 4": ((23, 71), (11, 11), (4, 4), (0, 0), (1, 1), 1, 3, 12),
    "strides apart": ((9, 40), (5, 2), (2, 3), (4, 0), (1, 1), 2, 3, 20),
    "stride beyond the kernel": ((11, 70), (1, 2), (3, 5), (0, 1), (1, 1), 2, 2, 4),
    "stride beyond the plane": ((3, 1), (2, 2), (1, 2), (1, 2), (1, 1), 2, 2, 4),
    "dilation": ((13, 40), (3, 3), (1, 2), (2, 3), (2, 3), 2, 3, 11),
    "padding beyond the plane": ((2, 3), (3, 2), (1, 2), (5, 9), (1, 1), 2, 3, 5),
    "one axis": ((50,), (4,), (3,), (5,), (1,), 3, 2, 9),
    "three axes": ((5, 6, 33), (2, 3, 2), (1, 2, 2), (1, 0, 1), (1, 1, 1), 2, 2, 3),
}
PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
NAMES = pytest.mark.parametrize("name", SHAPES)


class Case:
    def __init__(self, name, dtype=np.float32):
        size, *steps, images, channels, filters = SHAPES[name]
        kernel, stride, pad, dilation = steps
        self.geometry = Geometry(size, *steps, tuple(map(convolved, size, kernel, stride, pad, dilation)))
        shapes = (images, channels, *size), (filters, channels, *kernel), (images, filters, *self.geometry.output)
        generator = np.random.default_rng(5)
        self.x, self.w, self.dy = (generator.standard_normal(shape).astype(dtype) for shape in shapes)
        self.bias = generator.standard_normal(filters).astype(dtype)

    def forward(self, least=-np.inf, addend=None):
        y = np.full_like(self.dy, np.nan)
        panels = unpacked.panels(self.w.reshape(len(self.w), -1))
        shallow.forward(_flat(self.x), panels, _flat(y), self.geometry, self.bias, least, addend)
        return y

    def backward_weights(self, beta=1):
        dw = np.full_like(self.w, 1 if beta else np.nan)
        shallow.backward_weights(_flat(self.x), _flat(self.dy), _flat(dw), self.geometry, beta)
        return dw

    def expected(self):
        bias = self.bias.reshape(-1, *[1] * len(self.geometry.kernel))
        with np.errstate(invalid="ignore"):
            return (
                naive.forward(self.x, self.w, self.geometry, 1) + bias,
                naive.backward_weights(self.x, self.dy, self.geometry, 1),
            )


def _flat(array):
    return array.reshape(*array.shape[:2], -1)


@NAMES
@PRECISIONS
@pytest.mark.parametrize("most", [None, 1], ids=["bands", "bands of a row"])
def test_shapes(name, dtype, tolerance, most, monkeypatch):
    if most:
        monkeypatch.setattr(shallow, "FRAME_BYTES", most)
        monkeypatch.setattr(shallow, "FRAME_BYTES_BACKWARD", most)
    case = Case(name, dtype)
    y, dw = case.expected()
    results = (
        (case.forward(), y),
        (case.forward(0.5, _flat(case.dy)), np.maximum(y + case.dy, 0.5)),
        (case.backward_weights(), dw + 1),
        (case.backward_weights(beta=0), dw),
    )
    for found, expected in results:
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max()))


@NAMES
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("array", ["x", "w", "dy"])
def test_what_is_not_finite_stays_where_the_sum_has_it(name, value, array):
    case = Case(name)
    getattr(case, {"x": "dy", "w": "x", "dy": "x"}[array]).reshape(-1)[::2] = 0
    getattr(case, array).reshape(-1)[-1] = value
    for found, expected in zip((case.forward(), case.backward_weights()), case.expected(), strict=True):
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        np.testing.assert_array_equal(found[np.isinf(found)], expected[np.isinf(found)])
        np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))


@pytest.mark.parametrize("name", ["whole vectors and a pixel", "stride 2"])
def test_the_same_bits_on_any_number_of_threads(name):
    case, before, results = Case(name), config.threads(), []
    for threads in (1, 2, 4):
        config.set_threads(threads)
        results.append((case.forward().tobytes(), case.backward_weights().tobytes()))
    config.set_threads(before)
    assert results[0] == results[1] == results[2]


def test_convolution_takes_it_where_it_pays(monkeypatch):
    monkeypatch.setattr(shallow, "LEAST_PRODUCTS", 1)
    case = Case("whole vectors")
    y, dw = np.empty_like(case.dy), np.ones_like(case.w)
    convolution.forward(_flat(case.x), _flat(case.w), _flat(y), case.geometry, 1, case.bias)
    convolution.backward_weights(_flat(case.x), _flat(case.dy), _flat(dw), case.geometry, 1)
    np.testing.assert_array_equal(y, case.forward())
    np.testing.assert_array_equal(dw, case.backward_weights())


@pytest.mark.parametrize("limits", [shallow.FORWARD_LIMITS, shallow.BACKWARD_LIMITS])
def test_where_it_pays(limits):
    dtype = np.dtype(np.float32)
    large, small = (Geometry((size, size), (5, 5), (1, 1), (2, 2), (1, 1), (size, size)) for size in (64, 5))
    assert shallow.pays(large, 8, 3, 32, 1, dtype, limits)
    assert not shallow.pays(large, 8, 3, 33, 3, dtype, limits)
    assert not shallow.pays(large, 8, 32, 32, 1, dtype, limits)
    assert not shallow.pays(small, 8, 3, 32, 1, dtype, limits)
