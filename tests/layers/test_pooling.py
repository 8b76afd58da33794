"""Pooling and SPP against their windows, written out."""

import itertools

import numpy as np
import pytest

from blobnet import config
from blobnet.errors import BlobnetError
from blobnet.proto import blobnet_pb2 as pb
from blobnet.testing import check_gradient
from tests.layers.alone import Alone
from tests.naive.pooling import Pool

RANDOM = np.random.default_rng(20)


def pooling(settings):
    return f'layer {{ name: "pool" type: "Pooling" pooling_param {{ {settings} }} }}'


def spp(settings):
    return f'layer {{ name: "spp" type: "SPP" spp_param {{ {settings} }} }}'


def image(*shape):
    """Small whole numbers, so that there are ties."""
    return RANDOM.integers(-4, 5, shape).astype(np.float32)


def random_case():
    shape = tuple(RANDOM.integers(1, 15, 2).tolist())
    kernel = tuple(RANDOM.integers(1, 5, 2).tolist())
    if RANDOM.random() < 0.3:
        kernel = kernel[:1] * 2
    stride = tuple(RANDOM.integers(1, 5, 2).tolist())
    if RANDOM.random() < 0.3:
        stride = (2, 2)
    pad = tuple(int(RANDOM.integers(0, k)) for k in kernel) if RANDOM.random() < 0.5 else (0, 0)
    return shape, kernel, stride, pad, bool(RANDOM.random() < 0.3)


def fits(shape, kernel, pad):
    return all(k <= extent + 2 * p for extent, k, p in zip(shape, kernel, pad, strict=True))


CASES = [case for case in (random_case() for _ in range(450)) if fits(case[0], case[1], case[3])]
CASES += [
    ((1, 1), (1, 1), (1, 1), (0, 0), False),
    ((1, 1), (1, 1), (3, 3), (0, 0), False),
    ((1, 1), (3, 3), (2, 2), (2, 2), False),
    ((40, 70), (2, 2), (2, 2), (0, 0), False),
    ((41, 71), (3, 3), (2, 2), (0, 0), False),
    ((40, 70), (3, 3), (1, 1), (1, 1), False),
]


def settings_of(kernel, stride, pad, floor):
    sizes = itertools.chain(
        zip(("kernel_h", "kernel_w"), kernel, strict=True),
        zip(("stride_h", "stride_w"), stride, strict=True),
        zip(("pad_h", "pad_w"), pad, strict=True),
    )
    return " ".join(f"{name}: {value}" for name, value in sizes) + (" round_mode: FLOOR" if floor else "")


def test_there_are_enough_cases():
    assert len(CASES) >= 300


@pytest.mark.parametrize("part", range(8))
def test_random_windows(part):
    for shape, kernel, stride, pad, floor in CASES[part::8]:
        naive = Pool(shape, kernel, stride, pad, floor)
        x = image(2, 2, *shape)
        settings = settings_of(kernel, stride, pad, floor)
        if naive.has_empty_window:
            with pytest.raises(BlobnetError, match="would be empty"):
                Alone(pooling(settings), x)
            continue
        dy = RANDOM.standard_normal((2, 2, *naive.output)).astype(np.float32)

        layer = Alone(pooling(settings), x, tops=2)
        y, mask = layer.forward()
        expected, expected_mask = naive.maximum(x)
        np.testing.assert_array_equal(y, expected, err_msg=settings)
        np.testing.assert_array_equal(mask, expected_mask, err_msg=settings)
        np.testing.assert_allclose(layer.backward(dy)[0], naive.maximum_backward(x, dy), rtol=1e-5, atol=1e-5)

        layer = Alone(pooling(f"pool: AVE {settings}"), x)
        np.testing.assert_allclose(layer.forward()[0], naive.average(x), rtol=1e-5, atol=1e-6, err_msg=settings)
        np.testing.assert_allclose(layer.backward(dy)[0], naive.average_backward(x, dy), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(layer.bottoms[0].data, x)

        if not any(pad):
            layer = Alone(pooling(f"pool: STOCHASTIC {settings}"), x)
            np.testing.assert_allclose(layer.forward()[0], naive.weighted(x), rtol=1e-5, atol=1e-6, err_msg=settings)


@pytest.mark.parametrize(
    "settings",
    [
        "kernel_size: 2 stride: 2",
        "kernel_size: 3 stride: 2",
        "kernel_size: 3 stride: 1 pad: 1",
        "kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2",
        "global_pooling: true",
        "kernel_size: 2 stride: 3 round_mode: FLOOR",
    ],
)
@pytest.mark.parametrize("method", ["MAX", "AVE", "STOCHASTIC"])
@pytest.mark.parametrize("phase", [pb.TRAIN, pb.TEST])
def test_gradient(method, settings, phase):
    if method == "STOCHASTIC" and "pad" in settings:
        settings = settings.replace("pad: 1", "")
    x = np.random.default_rng(1).permutation(2 * 2 * 6 * 7).reshape(2, 2, 6, 7) / 20 + 0.1
    assert check_gradient(pooling(f"pool: {method} {settings}"), [x], phase=phase) < 1e-5


def test_global_pooling_follows_the_image():
    layer = Alone(pooling("global_pooling: true pool: AVE"), image(2, 3, 4, 5))
    for shape in ((2, 3, 4, 5), (1, 3, 7, 2)):
        x = image(*shape)
        layer.reshape(x)
        np.testing.assert_allclose(layer.forward()[0], x.mean(axis=(2, 3), keepdims=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("settings", ["kernel_size: 2 stride: 2", "kernel_size: 3 stride: 1 pad: 1", "kernel_size: 4"])
def test_nan_and_infinity_stay_in_their_windows(settings, bad):
    x = RANDOM.standard_normal((1, 36, 6, 6)).astype(np.float32)
    spots = np.eye(36, dtype=bool).reshape(x.shape)  # one in each channel
    windows = Alone(pooling(settings), spots).forward()[0] > 0
    others = Alone(pooling(settings), np.where(spots, -9, x)).forward()[0]
    layer = Alone(pooling(settings), np.where(spots, bad, x), tops=2)
    y, mask = layer.forward()
    np.testing.assert_array_equal(y, others if bad == -np.inf else np.where(windows, bad, others))
    assert ((mask >= 0) & (mask < 36)).all()
    assert layer.backward(np.ones_like(y))[0].sum() == y.size


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_average_takes_nan_and_infinity_from_its_window_only(bad):
    x = RANDOM.standard_normal((1, 36, 6, 6)).astype(np.float32)
    spots = np.eye(36, dtype=bool).reshape(x.shape)
    text = pooling("pool: AVE kernel_size: 3 stride: 1 pad: 1")
    windows = Alone(text, spots).forward()[0] > 0
    plain = Alone(text, x).forward()[0]
    layer = Alone(text, np.where(spots, bad, x))
    np.testing.assert_allclose(layer.forward()[0], np.where(windows, bad, plain), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.isnan(layer.backward(np.where(spots, np.nan, x))[0]), windows)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_a_window_far_larger_than_the_image_is_the_image(method):
    x = image(2, 2, 4, 5)
    reduce = {"MAX": np.max, "AVE": np.mean}[method]
    huge = "kernel_size: 4000000001 stride: 4000000001"
    y = Alone(pooling(f"pool: {method} {huge}"), x).forward()[0]
    np.testing.assert_allclose(y, reduce(x, axis=(2, 3), keepdims=True), rtol=1e-5, atol=1e-6)


def test_a_window_of_minus_infinities_keeps_a_valid_mask():
    layer = Alone(pooling("kernel_size: 2 stride: 2"), np.full((1, 1, 4, 4), -np.inf), tops=2)
    y, mask = layer.forward()
    assert (y == -np.inf).all()
    np.testing.assert_array_equal(mask[0, 0], [[0, 2], [8, 10]])


def test_a_window_of_nans_keeps_a_valid_mask():
    layer = Alone(pooling("kernel_size: 3 stride: 2"), np.full((1, 2, 5, 5), np.nan), tops=2)
    y, mask = layer.forward()
    assert np.isnan(y).all() and ((mask >= 0) & (mask < 25)).all()
    layer.backward(np.ones_like(y))


class TestStochastic:
    TRAIN = {"phase": pb.TRAIN}

    def test_draws_in_proportion_to_the_activation(self):
        cells = np.array([[1, 2], [0, 5]], np.float32)
        x = np.broadcast_to(cells, (4, 5000, 2, 2))
        (y,) = Alone(pooling("pool: STOCHASTIC kernel_size: 2"), x, **self.TRAIN).forward()
        for value in cells.flat:
            share = value / cells.sum()
            bound = 4 * np.sqrt(share * (1 - share) / y.size)
            assert abs((y == value).mean() - share) <= bound

    def test_each_pass_draws_anew_and_the_seed_decides(self):
        x = RANDOM.random((2, 3, 8, 8), dtype=np.float32)
        first, second = (Alone(pooling("pool: STOCHASTIC kernel_size: 2 stride: 2"), x, **self.TRAIN) for _ in range(2))
        drawn = [first.forward()[0] for _ in range(2)]
        assert (drawn[0] != drawn[1]).any()
        np.testing.assert_array_equal(second.forward()[0], drawn[0])
        other = Alone(pooling("pool: STOCHASTIC kernel_size: 2 stride: 2"), x, seed=2, **self.TRAIN)
        assert (other.forward()[0] != drawn[0]).any()

    def test_the_gradient_goes_to_the_cell_drawn(self):
        x = 1 + RANDOM.permutation(2 * 3 * 6 * 6).reshape(2, 3, 6, 6).astype(np.float32)
        layer = Alone(pooling("pool: STOCHASTIC kernel_size: 3 stride: 3"), x, **self.TRAIN)
        (y,) = layer.forward()
        (dx,) = layer.backward(np.ones_like(y))
        np.testing.assert_array_equal(np.sort(x[dx == 1]), np.sort(y.ravel()))
        assert dx.sum() == y.size

    @pytest.mark.parametrize("phase", [pb.TRAIN, pb.TEST])
    def test_a_window_without_activation_gives_0(self, phase):
        layer = Alone(pooling("pool: STOCHASTIC kernel_size: 2"), np.zeros((1, 1, 3, 3)), phase=phase)
        assert (layer.forward()[0] == 0).all()
        assert np.isfinite(layer.backward(np.ones((1, 1, 2, 2)))[0]).all()

    @pytest.mark.parametrize("phase", [pb.TRAIN, pb.TEST])
    def test_nan_reaches_the_output(self, phase):
        x = np.ones((1, 1, 2, 4))
        x[0, 0, 1, 0] = np.nan
        (y,) = Alone(pooling("pool: STOCHASTIC kernel_size: 2 stride: 2"), x, phase=phase).forward()
        np.testing.assert_array_equal(y[0, 0], [[np.nan, 1]])


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_the_bits_do_not_depend_on_threads(method, monkeypatch):
    x = RANDOM.standard_normal((8, 16, 40, 40)).astype(np.float32)
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(config, "_threads", threads)
        layer = Alone(pooling(f"pool: {method} kernel_size: 3 stride: 2"), x)
        (y,) = layer.forward()
        results.append((y, *layer.backward(y)))
    for one, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize(
    ("settings", "shape", "message"),
    [
        ("kernel_size: 2 pad: 2", (1, 1, 6, 6), "pad must be smaller than the kernel; got pad 2 x 2, kernel 2 x 2"),
        ("global_pooling: true stride: 2", (1, 1, 6, 6), "one window only; leave stride and pad out .got stride 2 x 2"),
        ("global_pooling: true kernel_size: 2", (1, 1, 6, 6), "leave kernel_size, kernel_h and kernel_w out"),
        ("kernel_size: 2", (1, 6, 6), 'blob "bottom0" .1 x 6 x 6. must have 4 axes'),
        ("", (1, 1, 6, 6), "give either kernel_size, or both kernel_h and kernel_w"),
        ("kernel_h: 2", (1, 1, 6, 6), "give either kernel_size, or both"),
        ("kernel_size: 2 kernel_h: 2 kernel_w: 2", (1, 1, 6, 6), "give either kernel_size, or both"),
        ("kernel_size: 0", (1, 1, 6, 6), "the kernel must be 1 x 1 or larger; got 0 x 0"),
        ("kernel_size: 2 stride: 0", (1, 1, 6, 6), "the stride must be 1 or more; got 0 x 0"),
        ("kernel_size: 2 stride: 2 stride_h: 1 stride_w: 1", (1, 1, 6, 6), "give either stride, or both"),
        ("kernel_size: 2 pad_h: 1", (1, 1, 6, 6), "give either pad, or both pad_h and pad_w"),
        ("kernel_size: 7", (1, 1, 6, 6), "no window fits: height 6, kernel 7, stride 1, pad 0"),
        ("kernel_size: 7 stride: 2 round_mode: FLOOR", (1, 1, 6, 6), "no window fits"),
        (
            "kernel_size: 1 stride: 2",
            (1, 1, 7, 6),
            "window 4 along the width would be empty: width 6, kernel 1",
        ),
        ("pool: STOCHASTIC kernel_size: 2 pad: 1", (1, 1, 6, 6), "STOCHASTIC pooling takes no padding; got 1 x 1"),
    ],
)
def test_errors(settings, shape, message):
    with pytest.raises(BlobnetError, match=f'net.prototxt:1: layer "pool" .Pooling.: .*{message}'):
        Alone(pooling(settings), image(*shape))


def test_a_mask_is_made_by_max_only():
    with pytest.raises(BlobnetError, match="made by MAX pooling only; pool is AVE"):
        Alone(pooling("pool: AVE kernel_size: 2"), image(1, 1, 4, 4), tops=2)


class TestSPP:
    @pytest.mark.parametrize("method", ["MAX", "AVE"])
    @pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 2, 8, 12), (2, 1, 7, 11), (2, 2, 15, 6)])
    def test_is_the_poolings_of_its_levels(self, method, shape):
        x = image(*shape)
        layer = Alone(spp(f"pool: {method} pyramid_height: 3"), x)
        parts, dx = [], np.zeros(shape)
        sizes = []
        for bins in (1, 2, 4):
            kernel = tuple(-(-extent // bins) for extent in shape[2:])
            pad = tuple((k * bins - extent + 1) // 2 for k, extent in zip(kernel, shape[2:], strict=True))
            naive = Pool(shape[2:], kernel, kernel, pad)
            forward = {"MAX": lambda x, naive=naive: naive.maximum(x)[0], "AVE": naive.average}[method]
            backward = {"MAX": naive.maximum_backward, "AVE": naive.average_backward}[method]
            parts.append(forward(x).reshape(len(x), -1))
            sizes.append((naive, backward))
        (y,) = layer.forward()
        np.testing.assert_allclose(y, np.concatenate(parts, axis=1), rtol=1e-5, atol=1e-6)
        dy = RANDOM.standard_normal(y.shape).astype(np.float32)
        start = 0
        for (naive, backward), part in zip(sizes, parts, strict=True):
            piece = dy[:, start : start + part.shape[1]]
            dx += backward(x, piece.reshape(*shape[:2], *naive.output))
            start += part.shape[1]
        np.testing.assert_allclose(layer.backward(dy)[0], dx, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("settings", ["pyramid_height: 1", "pyramid_height: 3", "pool: AVE pyramid_height: 3"])
    def test_gradient(self, settings):
        x = RANDOM.permutation(2 * 2 * 7 * 8).reshape(2, 2, 7, 8) / 10
        assert check_gradient(spp(settings), [x]) < 1e-5

    def test_one_vector_length_for_images_of_any_size(self):
        layer = Alone(spp("pyramid_height: 2"), image(1, 3, 8, 8))
        for shape in ((1, 3, 8, 8), (2, 3, 13, 6)):
            layer.reshape(image(*shape))
            assert layer.forward()[0].shape == (shape[0], 15)

    def test_stochastic_levels_draw_and_resume(self):
        x = RANDOM.random((2, 2, 8, 8), dtype=np.float32)
        layer = Alone(spp("pool: STOCHASTIC pyramid_height: 2"), x, phase=pb.TRAIN)
        layer.forward()
        state = layer.layer.state()
        second = layer.forward()[0]
        layer.layer.restore(state)
        np.testing.assert_array_equal(layer.forward()[0], second)

    @pytest.mark.parametrize(
        ("settings", "shape", "message"),
        [
            ("", (1, 1, 8, 8), "pyramid_height must be given and positive"),
            ("pyramid_height: 2", (1, 8, 8), "must have 4 axes"),
            ("pyramid_height: 4", (1, 1, 5, 5), "too small for 4 x 4 bins; make pyramid_height smaller than 3"),
            ("pyramid_height: 40", (1, 1, 5, 5), "too small"),
        ],
    )
    def test_errors(self, settings, shape, message):
        with pytest.raises(BlobnetError, match=f'net.prototxt:1: layer "spp" .SPP.: .*{message}'):
            Alone(spp(settings), image(*shape))
