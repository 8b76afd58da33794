import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.testing import check_gradient, net_from_text
from tests.layers.alone import around_zeros, check_closed_form

RANDOM = np.random.default_rng(8)
SHAPE = (2, 3, 4, 5)
X = RANDOM.uniform(0.1, 2, SHAPE) * RANDOM.choice([-1, 1], SHAPE)
DY = RANDOM.normal(size=SHAPE)
LN2, LN10 = np.log(2), np.log(10)


def power(exponent, scale, shift):
    return (
        lambda x: (shift + scale * x) ** exponent,
        lambda x: exponent * scale * (shift + scale * x) ** (exponent - 1),
    )


CASES = {  # layer text: (f, f')
    'type: "Exp"': (np.exp, np.exp),
    'type: "Exp" exp_param { base: 2 }': (lambda x: 2**x, lambda x: 2**x * LN2),
    'type: "Exp" exp_param { base: 10 scale: 0.5 shift: -0.75 }': (
        lambda x: 10 ** (0.5 * x - 0.75),
        lambda x: 10 ** (0.5 * x - 0.75) * LN10 * 0.5,
    ),
    'type: "Exp" exp_param { base: 1 }': (np.ones_like, np.zeros_like),
    'type: "Log" log_param { shift: 3 }': (lambda x: np.log(x + 3), lambda x: 1 / (x + 3)),
    'type: "Log" log_param { base: 2 scale: -0.5 shift: 4 }': (
        lambda x: np.log2(4 - 0.5 * x),
        lambda x: -0.5 / (4 - 0.5 * x) / LN2,
    ),
    'type: "Power"': (lambda x: x, np.ones_like),
    'type: "Power" power_param { scale: -3 shift: 0.25 }': power(1, -3, 0.25),
    'type: "Power" power_param { power: 2 scale: 0.5 shift: -1 }': power(2, 0.5, -1),
    'type: "Power" power_param { power: 3 }': power(3, 1, 0),
    'type: "Power" power_param { power: -2 }': power(-2.0, 1, 0),
    'type: "Power" power_param { power: 0.5 shift: 3 }': power(0.5, 1, 3),
    'type: "Power" power_param { power: 0 scale: 2 shift: 1 }': (np.ones_like, np.zeros_like),
    'type: "Power" power_param { power: 2 scale: 0 shift: 3 }': (lambda x: 9 + 0 * x, np.zeros_like),
}


@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 3e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("layer", CASES)
def test_value_and_gradient_are_the_closed_form(layer, dtype, tolerance, in_place):
    check_closed_form(layer, X, DY, *CASES[layer], dtype, tolerance, in_place)


@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
@pytest.mark.parametrize("layer", [case for case in CASES if "power: -2" not in case])
def test_gradient(layer, in_place):
    top = 'top: "bottom0"' if in_place else ""
    check_gradient(f'layer {{ name: "l" {layer} {top} }}', [X])


@pytest.mark.parametrize(
    "layer",
    ['type: "AbsVal"', 'type: "Clip" clip_param { min: -1 max: 0.5 }', 'type: "Power" power_param { power: -2 }'],
)
def test_gradient_away_from_kinks(layer):
    values = np.array([-1.7, -1.2, -0.8, 0.9, 0.3, 1.1]).reshape(2, 3)
    check_gradient(f'layer {{ name: "l" {layer} }}', [values])


def test_absolute_value_at_0_has_the_gradient_0():
    alone = around_zeros('type: "AbsVal"', (4,))
    np.testing.assert_array_equal(alone.forward([-2, 0, 3, np.nan]), [[2, 0, 3, np.nan]])
    np.testing.assert_array_equal(alone.backward([1, 1, 1, 1]), [[-1, 0, 1, 0]])


def test_the_gradient_of_a_power_at_0_is_the_limit():
    for exponent, slope in ((3, 0), (1.5, 0), (0.5, np.inf)):
        alone = around_zeros(f'type: "Power" power_param {{ power: {exponent} }}', (1,))
        alone.forward([0])
        np.testing.assert_array_equal(alone.backward([1]), [[slope]])


def test_a_constant_power_does_not_see_its_input():
    alone = around_zeros('type: "Power" power_param { power: 0 }', (3,))
    np.testing.assert_array_equal(alone.forward([np.nan, np.inf, 0]), [[1, 1, 1]])
    np.testing.assert_array_equal(alone.backward([1, 1, 1]), [[0, 0, 0]])


def test_overflow_is_infinity():
    alone = around_zeros('type: "Exp" exp_param { scale: 2 }', (2,), dtype=np.float32)
    np.testing.assert_array_equal(alone.forward([100, -100]), [[np.inf, 0]])
    [y] = around_zeros('type: "Exp" exp_param { base: 10 shift: 1000 }', (1,)).forward([1])
    assert y == np.inf
    [y] = around_zeros('type: "Power" power_param { power: -1 scale: 0 }', (1,)).forward([1])
    assert y == np.inf


@pytest.mark.parametrize("in_place", [False, True])
def test_clip_passes_gradients_within_its_bounds_and_in_place_all(in_place):
    alone = around_zeros('type: "Clip" clip_param { min: -1 max: 0.5 }', (6,), in_place=in_place)
    x = [-2, -1, 0.25, 0.5, 3, np.nan]
    np.testing.assert_array_equal(alone.forward(x), [[-1, -1, 0.25, 0.5, 0.5, np.nan]])
    [dx] = alone.backward(np.arange(1, 7))
    np.testing.assert_array_equal(dx[:5], [1, 2, 3, 4, 5] if in_place else [0, 2, 3, 4, 0])


def test_clip_without_bounds_gives_0():
    np.testing.assert_array_equal(around_zeros('type: "Clip"', (2,)).forward([-1, 1]), [[0, 0]])


def test_threshold_is_strict():
    alone = around_zeros('type: "Threshold" threshold_param { threshold: 0.5 }', (4,))
    np.testing.assert_array_equal(alone.forward([0.25, 0.5, 0.75, np.nan]), [[0, 0, 1, 0]])
    np.testing.assert_array_equal(around_zeros('type: "Threshold"', (2,)).forward([0, 1e-9]), [[0, 1]])
    with pytest.raises(BlobnetError, match=r'layer "l" \(Threshold\): .*no gradient'):
        alone.backward([1, 1, 1, 1])


@pytest.mark.parametrize(
    "layer, message",
    [
        ('type: "Exp" exp_param { base: -2 }', r"base must be greater than 0 .*-1 for e; got -2"),
        ('type: "Exp" exp_param { base: 0 }', r"base must be greater than 0 .*got 0"),
        ('type: "Log" log_param { base: -3 }', r"base must be greater than 0 .*got -3"),
        ('type: "Log" log_param { base: 1 }', r"base must not be 1"),
        ('type: "Clip" clip_param { min: 2 max: 1 }', r"min must not exceed max; got min 2, max 1"),
    ],
)
def test_bad_parameters(layer, message):
    with pytest.raises(BlobnetError, match=rf'net.prototxt:1: layer "l" .*{message}'):
        around_zeros(layer, (2,))


def test_absval_refuses_to_work_in_place():
    with pytest.raises(BlobnetError, match="AbsVal cannot work in place"):
        net_from_text(
            'layer { name: "x" type: "Input" top: "x" } layer { name: "l" type: "AbsVal" bottom: "x" top: "x" }'
        )
