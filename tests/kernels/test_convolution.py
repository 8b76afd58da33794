"""Convolution kernels against their defining sum, over random shapes."""

import numpy as np
import pytest

from blobnet import config
from blobnet.kernels import convolution
from blobnet.kernels.geometry import Geometry, convolved
from tests.naive import convolution as naive

EDGES = {
    "stride larger than the kernel": {"size": (11, 9), "kernel": (2, 1), "stride": (3, 4)},
    "dilation meets a stride": {
        "size": (13, 12),
        "kernel": (3, 3),
        "stride": (2, 3),
        "dilation": (3, 2),
        "pad": (2, 1),
    },
    "padding larger than the image": {"size": (2, 3), "kernel": (3, 2), "pad": (5, 4)},
    "padding larger than the kernel": {"size": (5, 5), "kernel": (1, 1), "pad": (2, 3), "stride": (2, 2)},
    "one pixel": {"size": (1, 1), "kernel": (1, 1)},
    "one tap at a stride": {"images": 3, "size": (7, 9), "kernel": (1, 1), "stride": (2, 3), "group": 2},
    "one tap, parts of vectors": {"images": 8, "channels": 19, "filters": 13, "size": (9, 11), "kernel": (1, 1)},
    "one tap, several blocks": {"images": 3, "channels": 5, "filters": 24, "size": (25, 31), "kernel": (1, 1)},
    "one tap at a stride, many pixels": {
        "images": 8,
        "filters": 9,
        "size": (19, 22),
        "kernel": (1, 1),
        "stride": (2, 1),
    },
    "few outputs of long rows": {"size": (9, 40), "kernel": (5, 11), "stride": (2, 1), "dilation": (1, 2)},
    "one pixel, padded": {"size": (1, 1), "kernel": (3, 3), "pad": (1, 1)},
    "no spatial axis": {"size": (), "kernel": ()},
    "depthwise": {"channels": 5, "filters": 5, "group": 5, "size": (8, 7), "kernel": (3, 3), "pad": (1, 1)},
    "depthwise, short rows": {
        "channels": 37,
        "filters": 37,
        "group": 37,
        "size": (7, 7),
        "kernel": (3, 3),
        "pad": (1, 1),
    },
    "depthwise, by rows": {"channels": 5, "filters": 5, "group": 5, "size": (8, 20), "kernel": (3, 3), "pad": (1, 1)},
    "depthwise, two filters a channel": {
        "channels": 3,
        "filters": 6,
        "group": 3,
        "size": (8, 7),
        "kernel": (3, 3),
        "stride": (2, 2),
    },
    "many images of few pixels": {"images": 40, "size": (3, 3), "kernel": (2, 2), "channels": 3, "filters": 17},
    "full blocks": {"images": 3, "channels": 70, "filters": 130, "size": (30, 31), "kernel": (3, 3), "pad": (1, 1)},
    "long rows": {"channels": 1, "filters": 2, "size": (300,), "kernel": (7,), "stride": (2,)},
    "winograd": {"images": 3, "channels": 32, "filters": 80, "size": (30, 21), "kernel": (3, 3), "pad": (1, 1)},
    "winograd, pieces of rows": {
        "images": 7,
        "channels": 16,
        "filters": 16,
        "size": (9, 24),
        "kernel": (3, 3),
        "pad": (1, 1),
    },
    "winograd, more sums than the cache holds": {
        "images": 5,
        "channels": 80,
        "filters": 64,
        "size": (30, 31),
        "kernel": (3, 3),
        "pad": (1, 1),
    },
    "winograd, by groups": {
        "images": 3,
        "channels": 96,
        "filters": 64,
        "group": 2,
        "size": (15, 21),
        "kernel": (5, 5),
        "pad": (2, 2),
    },
    "winograd, many channels": {"channels": 256, "filters": 272, "size": (11, 10), "kernel": (3, 3), "pad": (1, 1)},
    "winograd, many channels, 5 x 5": {
        "channels": 272,
        "filters": 256,
        "size": (6, 5),
        "kernel": (5, 5),
        "pad": (2, 2),
    },
    "winograd, uneven padding": {"channels": 48, "filters": 32, "size": (41, 30), "kernel": (3, 3), "pad": (2, 0)},
    "winograd, 5 x 5": {"images": 3, "channels": 32, "filters": 80, "size": (17, 10), "kernel": (5, 5), "pad": (2, 2)},
    "winograd, 5 x 5, uneven padding": {
        "channels": 16,
        "filters": 48,
        "size": (12, 31),
        "kernel": (5, 5),
        "pad": (4, 0),
    },
    "winograd, parts of vectors": {"images": 6, "channels": 33, "filters": 20, "size": (13, 12), "kernel": (3, 3)},
    "winograd, 5 x 5, parts of vectors": {
        "images": 12,
        "channels": 20,
        "filters": 50,
        "size": (12, 12),
        "kernel": (5, 5),
    },
    "winograd, few tiles of dy": {"images": 19, "channels": 33, "filters": 20, "size": (9, 14), "kernel": (3, 3)},
    "winograd, few tiles of dy, 5 x 5": {
        "images": 17,
        "channels": 20,
        "filters": 50,
        "size": (9, 14),
        "kernel": (5, 5),
        "pad": (1, 0),
    },
    "strips": {
        "images": 13,
        "channels": 16,
        "filters": 11,
        "size": (30, 32),
        "kernel": (3, 3),
        "pad": (1, 1),
    },
    "strips, four vectors a row, uneven padding": {
        "images": 40,
        "channels": 9,
        "filters": 10,
        "size": (9, 62),
        "kernel": (3, 3),
        "pad": (2, 1),
    },
    "strips, no padding": {"images": 12, "channels": 16, "filters": 16, "size": (12, 64), "kernel": (3, 3)},
    "winograd, many channels, parts of vectors": {
        "channels": 259,
        "filters": 270,
        "size": (11, 10),
        "kernel": (3, 3),
        "pad": (1, 1),
    },
}


class Case:
    """Random arrays for a convolution, and what must come of them."""

    def __init__(
        self, generator, size, kernel, stride=None, pad=None, dilation=None, images=2, channels=4, filters=6, group=1
    ):
        axes = len(size)
        stride, pad, dilation = stride or (1,) * axes, pad or (0,) * axes, dilation or (1,) * axes
        output = tuple(map(convolved, size, kernel, stride, pad, dilation))
        self.geometry = Geometry(size, kernel, stride, pad, dilation, output)
        self.group = group
        self.x = generator.standard_normal((images, channels, *size))
        self.w = generator.standard_normal((filters, channels // group, *kernel))
        self.dy = generator.standard_normal((images, filters, *output))
        self.bias = generator.standard_normal(filters)

    def run(self, dtype=np.float32):
        """y, dx and dw from the kernels."""
        x, w, dy, bias = (array.astype(dtype) for array in (self.x, self.w, self.dy, self.bias))
        y, dx, dw = np.full_like(dy, np.nan), np.full_like(x, np.nan), np.ones_like(w)
        where = self.geometry, self.group
        convolution.forward(_flat(x), _flat(w), _flat(y), *where, bias)
        convolution.backward_data(_flat(dy), _flat(w), _flat(dx), *where)
        convolution.backward_weights(_flat(x), _flat(dy), _flat(dw), *where)
        return y, dx, dw

    def expected(self):
        where = self.geometry, self.group
        bias = self.bias.reshape(-1, *[1] * len(self.geometry.kernel))
        return (
            naive.forward(self.x, self.w, *where) + bias,
            naive.backward_data(self.dy, self.w, *where),
            naive.backward_weights(self.x, self.dy, *where) + 1,
        )


def _flat(array):
    return array.reshape(*array.shape[:2], -1)


def _check(case, dtype=np.float32, tolerance=1e-5):
    _compare(case.run(dtype), case.expected(), tolerance)


def _compare(found, expected, tolerance):
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def _random_case(generator, depthwise=False):
    axes = int(generator.choice([1, 2, 2, 2, 2, 3]))
    kernel, stride, dilation = (tuple(generator.integers(1, most, axes)) for most in (5, 5, 4))
    pad = tuple(generator.integers(0, 6, axes))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, pad, strict=True)]
    size = tuple(int(least_size + generator.integers(0, 12)) for least_size in least)
    group = int(generator.choice([1, 1, 2, 3]))
    channels, filters = (group * int(generator.integers(1, 7)) for _ in range(2))
    if depthwise:
        channels, filters = group, group * int(generator.integers(1, 4))
    images = int(generator.integers(1, 5))
    plain = [tuple(map(int, values)) for values in (kernel, stride, pad, dilation)]
    return Case(generator, size, *plain, images, channels, filters, group)


@pytest.mark.parametrize("name", EDGES)
def test_edge_shapes(name):
    case = Case(np.random.default_rng(1), **EDGES[name])
    expected = case.expected()
    _compare(case.run(), expected, 1e-5)
    _compare(case.run(np.float64), expected, 1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_random_shapes(seed):
    generator = np.random.default_rng(seed)
    for number in range(40):
        _check(_random_case(generator), *((np.float64, 1e-12) if number % 4 == 0 else ()))


def test_random_depthwise_shapes():
    generator = np.random.default_rng(5)
    for number in range(80):
        _check(_random_case(generator, depthwise=True), *((np.float64, 1e-12) if number % 4 == 0 else ()))


def test_the_reference_path(monkeypatch):
    monkeypatch.setattr(config, "reference_kernels", lambda: True)
    generator = np.random.default_rng(2)
    for _ in range(40):
        _check(_random_case(generator))


@pytest.mark.parametrize(
    "name",
    [
        "full blocks",
        "dilation meets a stride",
        "depthwise",
        "winograd",
        "winograd, 5 x 5",
        "winograd, 5 x 5, parts of vectors",
        "winograd, few tiles of dy, 5 x 5",
        "winograd, more sums than the cache holds",
        "winograd, many channels",
        "strips",
        "one tap, several blocks",
    ],
)
def test_the_same_bits_on_any_number_of_threads(name):
    case = Case(np.random.default_rng(3), **EDGES[name])
    before = config.threads()
    results = []
    for threads in (1, 2, 4):
        config.set_threads(threads)
        results.append([array.tobytes() for array in case.run()])
    config.set_threads(before)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("name", EDGES)
def test_gradients_of_weights_replace_what_is_not_read(name, kernels, monkeypatch):
    monkeypatch.setattr(config, "reference_kernels", lambda: kernels == "reference")
    case = Case(np.random.default_rng(8), **EDGES[name])
    x, dy = (_flat(array.astype(np.float32)) for array in (case.x, case.dy))
    added, new = (_flat(np.full(case.w.shape, value, np.float32)) for value in (0, np.nan))
    for dw, beta in ((added, 1), (new, 0)):
        convolution.backward_weights(x, dy, dw, case.geometry, case.group, beta)
    np.testing.assert_array_equal(new, added)


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("array", ["x", "w", "dy"])
def test_infinity_and_nan_reach_what_the_sum_says(name, value, array):
    """With one of the operands zero elsewhere, infinity times zero must give NaN, and only there."""
    case = Case(np.random.default_rng(4), **EDGES[name])
    zeroed = {"x": "w", "dy": "w", "w": "x"}[array]
    getattr(case, zeroed).reshape(-1)[::2] = 0
    getattr(case, array).reshape(-1)[getattr(case, array).size // 2] = value
    with np.errstate(invalid="ignore"):
        expected = case.expected()
    for got, wanted in zip(case.run(), expected, strict=True):
        np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
        np.testing.assert_array_equal(got[np.isinf(got)], wanted[np.isinf(wanted)])


@pytest.mark.parametrize("beta", [0, 1])
@pytest.mark.parametrize("name", ["winograd", "winograd, more sums than the cache holds"])
def test_gradients_of_weights_are_whole_where_winograds_way_ends_in_nan(name, beta):
    case = Case(np.random.default_rng(9), **EDGES[name])
    case.x[-1, 3, -1, -1] = np.inf
    case.dy[-1, :, -2:, -2:] = np.abs(case.dy[-1, :, -2:, -2:])  # all that meet it: no infinity minus another
    x, dy = (_flat(array.astype(np.float32)) for array in (case.x, case.dy))
    dw = _flat(np.full(case.w.shape, 1 if beta else np.nan, np.float32))
    convolution.backward_weights(x, dy, dw, case.geometry, case.group, beta)
    expected = _flat(case.expected()[2]) - (1 - beta)
    np.testing.assert_array_equal(np.isposinf(dw), np.isposinf(expected))
    rest = np.isfinite(expected)
    assert 0 < rest.mean() < 1
    np.testing.assert_allclose(dw[rest], expected[rest], rtol=0, atol=1e-5 * np.abs(expected[rest]).max())


CLIPPED = {
    **{
        name: EDGES[name]
        for name in (
            "full blocks",
            "winograd",
            "winograd, parts of vectors",
            "strips",
            "one pixel, padded",
            "one tap, parts of vectors",
        )
    },
    "grouped": {"channels": 6, "filters": 4, "group": 2, "size": (9, 8), "kernel": (3, 2), "stride": (2, 1)},
    "long sums, taken apart": {"channels": 700, "filters": 6, "size": (4, 4), "kernel": (1, 1)},
}


DEPTHWISE = [name for name in EDGES if "depthwise" in name]


@pytest.mark.parametrize("name", [*CLIPPED, *DEPTHWISE])
def test_clipped_outputs_are_the_others_or_zero(name):
    case = Case(np.random.default_rng(6), **(EDGES | CLIPPED)[name])
    case.x[0, 0] = np.nan
    x, w, bias = (array.astype(np.float32) for array in (case.x, case.w, case.bias))
    plain, clipped = (np.empty(case.dy.shape, np.float32) for _ in range(2))
    for clip, y in ((False, plain), (True, clipped)):
        convolution.forward(_flat(x), _flat(w), _flat(y), case.geometry, case.group, bias, clip)
    np.testing.assert_array_equal(clipped, np.where(plain <= 0, 0, plain))


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("name", [name for name in EDGES if name not in DEPTHWISE] + list(CLIPPED))
def test_outputs_among_those_of_others(name, kept):
    case = Case(np.random.default_rng(3), **(EDGES | CLIPPED)[name])
    x, w, bias = (array.astype(np.float32) for array in (case.x, case.w, case.bias))
    shape = _flat(case.dy).shape
    for shift in (bias, None):
        alone, among = np.empty(shape, np.float32), np.full((shape[0], shape[1] + 5, shape[2]), 7, np.float32)
        for y, first in ((alone, 0), (among, 3)):
            orders = {} if kept else None
            given = _flat(x), _flat(w), y, case.geometry, case.group, shift
            convolution.forward(*given, clip=True, kept=orders, first=first)
        np.testing.assert_array_equal(among[:, 3:-2], alone)
        assert (among[:, :3] == 7).all() and (among[:, -2:] == 7).all()


@pytest.mark.parametrize("apart, first, known_first", [(False, 0, 0), (True, 0, 0), (True, 2, 0), (True, 2, 3)])
def test_the_gradient_of_clipped_outputs_and_the_bias(apart, first, known_first):
    generator = np.random.default_rng(7)
    y, dy = generator.standard_normal((2, 3, 8, 37)).astype(np.float32)
    known, y, dy = y, y[:, known_first : known_first + 5], dy if first else dy[:, :5]
    expected = np.where(y <= 0, 0, dy[:, first : first + 5])
    given, g, db = dy.copy(), np.empty_like(y), np.ones(5, np.float32)
    convolution.clip_gradient(known, known_first, given, first, g if apart else None, db, 1)
    np.testing.assert_array_equal(g if apart else given, expected)
    np.testing.assert_allclose(db, 1 + expected.sum(axis=(0, 2), dtype=np.float64), rtol=1e-5)
    if apart:
        np.testing.assert_array_equal(given, dy)


@pytest.mark.parametrize("name", [name for name in EDGES if name not in DEPTHWISE])
def test_filters_that_are_kept_and_an_addend(name):
    case = Case(np.random.default_rng(3), **EDGES[name])
    x, w, bias = (array.astype(np.float32) for array in (case.x, case.w, case.bias))
    expected = np.maximum(case.expected()[0] + case.dy, 0)
    kept = {}
    for _ in range(2):
        y, addend = np.full_like(_flat(case.dy), np.nan, np.float32), _flat(case.dy.astype(np.float32))
        where = case.geometry, case.group, bias
        convolution.forward(_flat(x), _flat(w), y, *where, clip=True, addend=addend, kept=kept)
        np.testing.assert_allclose(y.reshape(expected.shape), expected, atol=1e-5 * abs(expected).max(), rtol=0)
        w *= np.nan  # what is kept is not read again


@pytest.mark.parametrize(("kernel", "images"), [(1, 1), (3, 1), (1, 7), (3, 2)])
def test_kept_filters_of_many_channels_over_few_pixels(kernel, images):
    """Several blocks of rows, the last one in part, and slices of the sums; the same bits on any number of threads."""
    pad = kernel // 2
    shape = {"images": images, "channels": 150, "filters": 150, "size": (7, 7)}
    case = Case(np.random.default_rng(5), **shape, kernel=(kernel, kernel), pad=(pad, pad))
    x, w = (_flat(array).astype(np.float32) for array in (case.x, case.w))
    bias = case.bias.astype(np.float32)
    kept, found, before = {}, [], config.threads()
    for threads in (1, 2, 4):
        config.set_threads(threads)
        y = np.full_like(_flat(case.dy), np.nan, np.float32)
        convolution.forward(x, w, y, case.geometry, 1, bias, kept=kept)
        found.append(y)
    config.set_threads(before)
    expected = _flat(case.expected()[0])
    for y in found:
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * abs(expected).max())
        np.testing.assert_array_equal(y, found[0])


@pytest.mark.parametrize("name", ["winograd", "strips"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_kept_filters_leave_winograds_way_for_what_is_not_finite(value, name):
    case = Case(np.random.default_rng(3), **EDGES[name])
    x, w = (_flat(array.astype(np.float32)) for array in (case.x, case.w))
    found, expected = (np.empty(_flat(case.dy).shape, np.float32) for _ in range(2))
    kept = {}
    convolution.forward(x, w, found, case.geometry, 1, kept=kept)
    x[1, 3, 17] = value
    convolution.forward(x, w, found, case.geometry, 1, kept=kept)
    convolution.forward(x, w, expected, case.geometry, 1)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    assert 0 < np.isfinite(expected).mean() < 1
