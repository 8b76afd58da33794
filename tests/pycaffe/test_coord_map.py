# ruff: noqa: C408 (dict(...) is how such programs write messages)
"""Offsets and scales against positions worked out by hand."""

import numpy as np
import pytest

import blobnet.pycaffe as caffe
from blobnet.pycaffe import layers as L  # noqa: N812
from blobnet.pycaffe.coord_map import (
    AxisMismatchException,
    UndefinedMapException,
    compose,
    coord_map,
    coord_map_from_to,
    crop,
    inverse,
)


def image(*spatial):
    return L.Input(shape=dict(dim=[1, 3, *(spatial or (60, 60))]))


def down_and_up(source, down, up, kernel=1, pad=0, up_pad=0):
    pooled = L.Pooling(L.Convolution(source, kernel_size=kernel, pad=pad), kernel_size=down, stride=down)
    return L.Deconvolution(pooled, convolution_param=dict(kernel_size=2 * up, stride=up, pad=up_pad))


def test_pooling_undone_by_deconvolution():
    """Pooling by s looks at [s i, s i + s); a deconvolution of kernel 2 s reaches s / 2 beyond it on each side."""
    source = image()
    for stride in (2, 4):
        axis, scale, shift = coord_map_from_to(down_and_up(source, stride, stride), source)
        assert (axis, scale, shift) == (1, 1, -stride / 2)


@pytest.mark.parametrize("pad", [0, 3])
def test_padding_shifts(pad):
    source = image()
    plain = coord_map_from_to(down_and_up(source, 2, 2), source)[2]
    assert coord_map_from_to(down_and_up(source, 2, 2, pad=pad), source)[2] == plain - pad
    assert coord_map_from_to(down_and_up(source, 2, 2, up_pad=pad), source)[2] == plain + pad
    assert coord_map_from_to(down_and_up(source, 2, 2, kernel=2 * pad + 1, pad=pad), source)[2] == plain


def test_dilation_widens_the_kernel():
    source = image()
    wide = L.Convolution(source, kernel_size=3, dilation=4, pad=4)
    assert coord_map_from_to(wide, source) == (1, 1, 0)


def test_axes_are_mapped_apart():
    source = image(60, 60, 60)
    mixed = L.Convolution(source, kernel_size=[1, 3, 5], stride=[1, 2, 3], pad=[2, 1, 0])
    axis, scale, shift = coord_map_from_to(mixed, source)
    assert axis == 1
    np.testing.assert_allclose(scale, [1, 2, 3])
    np.testing.assert_allclose(shift, [-2, 0, 2])


def test_layers_that_keep_positions():
    source = image()
    top = L.Dropout(L.ReLU(L.Scale(L.BatchNorm(down_and_up(source, 2, 2)))), in_place=True)
    assert coord_map_from_to(top, source) == coord_map_from_to(down_and_up(source, 2, 2), source)
    assert coord_map_from_to(source, source) == (None, 1, 0)


def test_every_top_of_a_layer_is_mapped_alike():
    first, second = image(), image()
    one, two = L.Convolution(first, second, ntop=2, kernel_size=5, stride=2)
    assert coord_map_from_to(one, first) == coord_map_from_to(two, second) == (1, 2, 2)


def test_tops_beside_each_other():
    source = image()
    fine = L.Convolution(source, kernel_size=3)
    coarse = down_and_up(source, 2, 2)
    assert coord_map_from_to(coarse, fine) == (1, 1, -2)


def test_crop_shifts_by_its_offset():
    source = image()
    up = down_and_up(source, 4, 4)
    cut = L.Crop(up, source, crop_param=dict(axis=2, offset=5))
    assert coord_map_from_to(cut, source)[2] == coord_map_from_to(up, source)[2] + 5


def test_crop_lines_tops_up(tmp_path):
    n = caffe.NetSpec()
    n.data = image(20, 26)
    n.conv = L.Convolution(n.data, kernel_size=3, pad=9, num_output=2)
    n.pool = L.Pooling(n.conv, kernel_size=2, stride=2)
    n.up = L.Deconvolution(n.pool, convolution_param=dict(kernel_size=4, stride=2, num_output=2))
    n.cropped = crop(n.up, n.data)
    assert n.cropped.fn.params == dict(crop_param=dict(axis=2, offset=[9]))
    (tmp_path / "net.prototxt").write_text(str(n.to_proto()))
    assert caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST).blobs["cropped"].data.shape == (1, 2, 20, 26)


def test_tops_that_cannot_be_lined_up_are_assertion_errors():
    source = image()
    with pytest.raises(AssertionError, match="different scales"):
        crop(down_and_up(source, 3, 2), source)
    with pytest.raises(AssertionError, match="negative"):
        crop(down_and_up(source, 2, 2, up_pad=9), source)
    with pytest.raises(AssertionError, match="whole number"):
        crop(L.Convolution(source, kernel_size=2, pad=2), source)


def test_tops_without_spatial_relation_are_runtime_errors():
    source = image()
    for top in (L.InnerProduct(source), image()):
        with pytest.raises(RuntimeError, match="no common origin"):
            coord_map_from_to(top, source)
    with pytest.raises(UndefinedMapException):
        coord_map(L.InnerProduct(source).fn)


def test_sizes_by_side_are_refused():
    with pytest.raises(AssertionError, match="kernel_h"):
        coord_map(L.Convolution(image(), kernel_h=3, kernel_w=2).fn)


def test_maps_compose_and_invert():
    one, other = (1, 2, 3), (1, 0.5, -1)
    assert compose(one, other) == (1, 1, 1)
    assert compose(one, inverse(one)) == compose(inverse(one), one) == (1, 1, 0)
    with pytest.raises(AxisMismatchException):
        compose(one, (2, 1, 0))
