"""BatchNorm, MVN and LRN against their formulas."""

import numpy as np
import pytest

from blobnet import config
from blobnet.errors import BlobnetError
from blobnet.proto import blobnet_pb2 as pb
from blobnet.testing import check_gradient, net_from_text
from tests.layers.alone import Alone
from tests.naive import lrn as naive

RANDOM = np.random.default_rng(21)
TRAIN = {"phase": pb.TRAIN}


def values(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def close(found, expected, tolerance=1e-5):
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def batch_norm(settings="", params=""):
    return f'layer {{ name: "bn" type: "BatchNorm" {params} batch_norm_param {{ {settings} }} }}'


def statistics(x):
    """Mean, variance and count of each channel, shaped to broadcast."""
    axes = (0, *range(2, x.ndim))
    x = x.astype(float)
    return x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True), x.size // x.shape[1]


class TestBatchNorm:
    @pytest.mark.parametrize("shape", [(6, 5), (3, 4, 5), (3, 4, 5, 3), (2, 3, 2, 3, 2), (1, 4), (1, 2, 3, 3)])
    @pytest.mark.parametrize("eps", [1e-5, 0.1])
    def test_batch_statistics(self, shape, eps):
        x = 3 * values(*shape) + 2
        layer = Alone(batch_norm(f"eps: {eps} moving_average_fraction: 0.9"), x, **TRAIN)
        blobs = [blob.data for blob in layer.layer.blobs]
        blobs[0][...], blobs[1][...], blobs[2][...] = 0.5, 0.25, 2
        (y,) = layer.forward()
        mean, variance, m = statistics(x)
        close(y, (x - mean) / np.sqrt(variance + eps), 2e-5)
        close(blobs[0], 0.9 * 0.5 + mean.ravel())
        close(blobs[1], 0.9 * 0.25 + variance.ravel() * (m / max(1, m - 1)))
        close(blobs[2], [0.9 * 2 + 1])

    @pytest.mark.parametrize("shape", [(6, 5), (3, 4, 5), (3, 2, 4, 3), (2, 3, 2, 2, 2), (1, 2, 3, 3)])
    def test_gradient(self, shape):
        assert check_gradient(batch_norm(), [RANDOM.standard_normal(shape)]) < 1e-5

    def test_gradient_with_a_large_eps(self):
        assert check_gradient(batch_norm("eps: 0.5"), [RANDOM.standard_normal((3, 2, 4, 3))]) < 1e-5

    @pytest.mark.parametrize("settings, phase", [("", pb.TEST), ("use_global_stats: true", pb.TRAIN)])
    def test_remembered_statistics(self, settings, phase):
        x = values(3, 4, 5, 2)
        layer = Alone(batch_norm(settings), x, phase=phase)
        stored = [values(4), np.abs(values(4)), np.array([2.5], np.float32)]
        for blob, value in zip(layer.layer.blobs, stored, strict=True):
            blob.data[...] = value
        (y,) = layer.forward()
        mean, variance = (stored[i].astype(float).reshape(4, 1, 1) / 2.5 for i in range(2))
        close(y, (x - mean) / np.sqrt(variance + 1e-5))
        dy = values(*x.shape)
        close(layer.backward(dy)[0], dy / np.sqrt(variance + 1e-5))
        for blob, value in zip(layer.layer.blobs, stored, strict=True):
            np.testing.assert_array_equal(blob.data, value)

    def test_untrained_statistics_count_as_zero(self):
        x = values(2, 3, 2, 2)
        close(Alone(batch_norm(), x).forward()[0], x / np.sqrt(1e-5))

    def test_batch_statistics_in_the_test_phase_are_remembered_too(self):
        layer = Alone(batch_norm("use_global_stats: false"), values(2, 3, 2, 2))
        layer.forward()
        assert layer.layer.blobs[2].data[0] == 1

    @pytest.mark.parametrize("phase", [pb.TRAIN, pb.TEST])
    def test_in_place_is_the_same(self, phase):
        x, dy = values(3, 4, 5, 3), values(3, 4, 5, 3)
        apart, within = (Alone(batch_norm(), x, phase=phase, in_place=in_place) for in_place in (False, True))
        np.testing.assert_array_equal(apart.forward(), within.forward())
        np.testing.assert_array_equal(apart.backward(dy), within.backward(dy))
        np.testing.assert_array_equal(apart.bottoms[0].data, x)

    def test_a_change_of_the_top_leaves_the_gradient(self):
        x, dy = values(3, 4, 5, 3), values(3, 4, 5, 3)
        one, other = Alone(batch_norm(), x, **TRAIN), Alone(batch_norm(), x, **TRAIN)
        one.forward(), other.forward()
        other.tops[0].data[...] = 0
        np.testing.assert_array_equal(one.backward(dy), other.backward(dy))

    def test_a_large_mean_costs_no_precision(self):
        x = (values(4, 2, 8, 8) + 4000).astype(np.float32)
        mean, variance, _ = statistics(x)
        close(Alone(batch_norm(), x, **TRAIN).forward()[0], (x - mean) / np.sqrt(variance + 1e-5), 1e-6)

    def test_nan_and_infinity_stay_in_their_channel(self):
        x = values(2, 3, 4, 4)
        x[0, 0, 1, 1], x[1, 2, 0, 0] = np.nan, np.inf
        layer = Alone(batch_norm(), x, **TRAIN)
        (y,) = layer.forward()
        (dx,) = layer.backward(np.ones_like(y))
        assert np.isnan(y[:, 0]).all() and np.isfinite(y[:, 1]).all() and np.isnan(y[:, 2]).any()
        assert np.isnan(dx[:, 0]).all() and np.isfinite(dx[:, 1]).all()

    def test_the_bits_do_not_depend_on_threads(self, monkeypatch):
        x, dy = values(8, 16, 40, 40), values(8, 16, 40, 40)
        results = []
        for threads in (1, 3):
            monkeypatch.setattr(config, "_threads", threads)
            layer = Alone(batch_norm(), x, **TRAIN)
            results.append([*layer.forward(), *layer.backward(dy), *(blob.data for blob in layer.layer.blobs)])
        for one, three in zip(*results, strict=True):
            np.testing.assert_array_equal(one, three)

    def test_the_statistics_are_no_parameters(self):
        layer = Alone(batch_norm(), values(2, 3)).layer
        assert [spec.lr_mult for spec in layer.param.param] == [0, 0, 0]

    @pytest.mark.parametrize(
        ("params", "shape", "message"),
        [
            ("", (6,), 'blob "bottom0" .6. must have a channel axis'),
            ("param { lr_mult: 1 }", (2, 3), "lr_mult must be 0 in each param; got 1"),
            ("param { lr_mult: 0 } param { decay_mult: 0 }", (2, 3), "lr_mult must be 0 in each param; got 1"),
        ],
    )
    def test_errors(self, params, shape, message):
        with pytest.raises(BlobnetError, match=f'net.prototxt:1: layer "bn" .BatchNorm.: .*{message}'):
            Alone(batch_norm(params=params), values(*shape))

    def test_the_channels_are_fixed(self):
        layer = Alone(batch_norm(), values(2, 3))
        with pytest.raises(BlobnetError, match="must have 3 channels, as when the layer was made"):
            layer.reshape(values(2, 4))


def mvn(settings=""):
    return f'layer {{ name: "mvn" type: "MVN" mvn_param {{ {settings} }} }}'


class TestMVN:
    @pytest.mark.parametrize("settings", ["", "eps: 0.5"])
    @pytest.mark.parametrize("across", [False, True])
    @pytest.mark.parametrize("variance", [False, True])
    def test_formula(self, settings, across, variance):
        x, dy = 2 * values(3, 4, 5, 2) + 1, values(3, 4, 5, 2)
        eps = 0.5 if settings else 1e-9
        text = f"{settings} across_channels: {across} normalize_variance: {variance}".replace("T", "t").replace(
            "F", "f"
        )
        axes = (1, 2, 3) if across else (2, 3)

        def mean(array):
            return array.astype(float).mean(axis=axes, keepdims=True)

        factor = 1 / (x.astype(float).std(axis=axes, keepdims=True) + eps) if variance else 1
        expected = (x - mean(x)) * factor
        expected_dx = (dy - mean(dy) - (expected * mean(dy * expected) if variance else 0)) * factor
        for in_place in (False, True):
            layer = Alone(mvn(text), x, in_place=in_place)
            close(layer.forward()[0], expected)
            close(layer.backward(dy)[0], expected_dx)

    @pytest.mark.parametrize(
        "settings",
        ["", "across_channels: true", "normalize_variance: false", "normalize_variance: false across_channels: true"],
    )
    def test_gradient(self, settings):
        assert check_gradient(mvn(settings), [RANDOM.standard_normal((2, 3, 4, 2))]) < 1e-5

    @pytest.mark.parametrize("shape, top", [((2, 6), (2, 6, 1, 1)), ((3,), (3, 1, 1, 1)), ((2, 3, 4), (2, 3, 4, 1))])
    def test_the_top_has_four_axes(self, shape, top):
        assert Alone(mvn(), values(*shape)).forward()[0].shape == top

    def test_more_axes_are_an_error(self):
        with pytest.raises(BlobnetError, match='layer "mvn" .MVN.: blob "bottom0" .* must have 1 to 4 axes'):
            Alone(mvn(), values(1, 2, 3, 2, 2))

    def test_nan_stays_in_its_channel(self):
        x = values(2, 2, 3, 3)
        x[0, 1, 0, 0] = np.nan
        (y,) = Alone(mvn(), x).forward()
        assert np.isnan(y[0, 1]).all() and np.isnan(y).sum() == 9


def lrn(settings=""):
    return f'layer {{ name: "norm" type: "LRN" lrn_param {{ {settings} }} }}'


def lrn_case():
    return {
        "shape": tuple(int(RANDOM.integers(1, most)) for most in (3, 9, 8, 8)),
        "size": int(RANDOM.choice([1, 3, 5, 7, 9])),
        "alpha": float(RANDOM.choice([1e-4, 0.3, 1, 2.5])),
        "beta": float(RANDOM.choice([0.75, 0.5, 1, 0.6, 2])),
        "k": float(RANDOM.choice([1, 2, 0.5])),
        "within": bool(RANDOM.integers(2)),
    }


def lrn_text(size, alpha, beta, k, within):
    region = "WITHIN_CHANNEL" if within else "ACROSS_CHANNELS"
    return lrn(f"local_size: {size} alpha: {alpha} beta: {beta} k: {k} norm_region: {region}")


class TestLRN:
    @pytest.mark.parametrize("part", range(6))
    def test_random_settings(self, part):
        for case in [lrn_case() for _ in range(50)]:
            shape = case.pop("shape")
            x, dy = 2 * values(*shape), values(*shape)
            layer = Alone(lrn_text(**case), x)
            close(layer.forward()[0], naive.forward(x, **case))
            close(layer.backward(dy)[0], naive.backward(x, dy, **case))
            np.testing.assert_array_equal(layer.bottoms[0].data, x)

    @pytest.mark.parametrize("region", ["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
    @pytest.mark.parametrize("settings", ["", "local_size: 3 alpha: 0.5 beta: 0.6 k: 2", "local_size: 7 beta: 1"])
    def test_gradient(self, region, settings):
        x = RANDOM.standard_normal((2, 4, 3, 4))
        assert check_gradient(lrn(f"{settings} norm_region: {region}"), [x]) < 1e-5

    @pytest.mark.parametrize("region", ["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_nan_and_infinity_reach_the_neighbours_only(self, region, bad):
        x = values(1, 9, 9, 9)
        x[0, 4, 4, 4] = bad
        (y,) = Alone(lrn(f"local_size: 3 norm_region: {region}"), x).forward()
        with np.errstate(invalid="ignore"):
            expected = naive.forward(x, 3, 1, 0.75, 1, region == "WITHIN_CHANNEL")
        close(np.nan_to_num(y), np.nan_to_num(expected))
        np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))

    def test_follows_the_shape_of_its_bottom(self):
        layer = Alone(lrn(), values(1, 3, 4, 4))
        for shape in ((2, 3, 5, 5), (1, 3, 2, 2)):
            x = values(*shape)
            layer.reshape(x)
            close(layer.forward()[0], naive.forward(x, 5, 1, 0.75, 1, False))

    @pytest.mark.parametrize(
        ("settings", "shape", "message"),
        [
            ("local_size: 4", (1, 2, 3, 3), "local_size must be odd, so that the window has a centre; got 4"),
            ("local_size: 0", (1, 2, 3, 3), "local_size must be odd"),
            ("", (2, 6), 'blob "bottom0" .2 x 6. must have 4 axes'),
        ],
    )
    def test_errors(self, settings, shape, message):
        with pytest.raises(BlobnetError, match=f'net.prototxt:1: layer "norm" .LRN.: .*{message}'):
            Alone(lrn(settings), values(*shape))

    def test_does_not_work_in_place(self):
        text = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: [1, 2, 3, 3] } } }'
        with pytest.raises(BlobnetError, match="LRN cannot work in place"):
            net_from_text(text + 'layer { name: "norm" type: "LRN" bottom: "x" top: "x" }')
