"""The common depthwise convolutions against the textbook way, over image sizes around the lengths of vectors."""

import numpy as np
import pytest

from blobnet.kernels import depthwise_3x3, reference
from blobnet.kernels.geometry import Geometry, convolved

RANDOM = np.random.default_rng(40)
STRIDES = pytest.mark.parametrize("stride", [1, 2])


def case(height, width, stride, dtype=np.float32, images=3, channels=3):
    """Geometry, x, w, dy and bias."""
    output = tuple(convolved(size, 3, stride, 1, 1) for size in (height, width))
    geometry = Geometry((height, width), (3, 3), (stride, stride), (1, 1), (1, 1), output)
    shapes = (
        (images, channels, height * width),
        (channels, 1, 9),
        (images, channels, output[0] * output[1]),
        (channels,),
    )
    return geometry, *(RANDOM.standard_normal(shape).astype(dtype) for shape in shapes)


def run(module, geometry, x, w, dy, bias):
    """y, dx and dw."""
    group = () if module is depthwise_3x3 else (len(w),)
    y, dx, dw = np.empty_like(dy), np.empty_like(x), np.ones_like(w)
    module.forward(x, w, y, geometry, *group, bias)
    module.backward_data(dy, w, dx, geometry, *group, bias)
    module.backward_weights(x, dy, dw, geometry, *group)
    return y, dx, dw


@STRIDES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sizes(stride, dtype):
    sizes = [(1, 1), (2, 3), (3, 2), (1, 9), (33, 1), *((9 + width % 2, width) for width in range(4, 40)), (150, 130)]
    for size in sizes:
        arrays = case(*size, stride, dtype)
        assert depthwise_3x3.fits(arrays[0], 3, 3)
        for found, expected in zip(run(depthwise_3x3, *arrays), run(reference, *arrays), strict=True):
            tolerance = np.abs(expected).max() * (1e-5 if dtype is np.float32 else 1e-12)
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=str(size))


@STRIDES
def test_a_part_of_the_planes_writes_its_own_only(stride, monkeypatch):
    def run_parts(kernel, count, *args, grain=1):
        for start in range(1, count - 1):
            kernel(start, start + 1, *args)

    arrays = case(9, 11, stride)
    expected = run(depthwise_3x3, *arrays)
    monkeypatch.setattr(depthwise_3x3, "parallel_for", run_parts)
    geometry, x, w, dy, bias = arrays
    y, dx, dw = np.full_like(dy, 7), np.full_like(x, 7), np.ones_like(w)
    depthwise_3x3.forward(x, w, y, geometry, bias)
    depthwise_3x3.backward_data(dy, w, dx, geometry, bias)
    depthwise_3x3.backward_weights(x, dy, dw, geometry)
    for found, whole, outside in ((y, expected[0], 7), (dx, expected[1], 7), (dw, expected[2], 1)):
        found, whole = (array.reshape(-1, array.shape[-1]) for array in (found, whole))
        assert (found[[0, -1]] == outside).all()
        np.testing.assert_array_equal(found[1:-1], whole[1:-1])


@STRIDES
def test_no_result_is_less_than_the_least(stride):
    for width in (5, 19, 40):
        geometry, x, w, dy, bias = case(9, width, stride)
        x[0, 0, width], (free, bound) = np.nan, np.empty((2, *dy.shape), dy.dtype)
        depthwise_3x3.forward(x, w, free, geometry, bias)
        depthwise_3x3.forward(x, w, bound, geometry, bias, 0.25)
        np.testing.assert_array_equal(bound, np.where(free <= 0.25, np.float32(0.25), free))
        assert np.isnan(bound).any() and (free < 0.25).any()


@STRIDES
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_stays_where_the_textbook_has_it(stride, value):
    for width in (5, 8, 19):
        geometry, x, w, dy, bias = case(6, width, stride)
        x[:, :, width], dy[:, :, -1] = value, value
        with np.errstate(invalid="ignore"):
            expected = run(reference, geometry, x, w, dy, bias)
        for found, right in zip(run(depthwise_3x3, geometry, x, w, dy, bias), expected, strict=True):
            np.testing.assert_array_equal(np.isfinite(found), np.isfinite(right))


@STRIDES
@pytest.mark.parametrize("tap", [0, 4, 8])
def test_an_infinite_weight_meets_the_zeros_of_the_padding(stride, tap):
    for size in ((5, 8), (6, 37), (1, 20)):
        geometry, x, w, dy, bias = case(*size, stride)
        w[1, 0, tap] = np.inf
        found, expected = np.empty_like(dy), np.empty_like(dy)
        depthwise_3x3.forward(x, w, found, geometry, bias)
        with np.errstate(invalid="ignore"):
            reference.forward(x, w, expected, geometry, len(w), bias)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))


def test_other_convolutions_do_not_fit():
    geometry = case(9, 9, 1)[0]
    assert not depthwise_3x3.fits(geometry, 3, 6)
    for other in (
        geometry._replace(stride=(3, 3)),
        geometry._replace(stride=(1, 2)),
        geometry._replace(pad=(0, 0)),
        geometry._replace(dilation=(2, 2)),
        geometry._replace(kernel=(5, 5)),
        Geometry((9,), (3,), (1,), (1,), (1,), (9,)),
        Geometry((), (), (), (), (), ()),
    ):
        assert not depthwise_3x3.fits(other, 3, 3)
