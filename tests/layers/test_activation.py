import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.testing import check_gradient
from tests.layers.alone import around_zeros, check_closed_form

RANDOM = np.random.default_rng(7)
SHAPE = (2, 3, 4, 5)
X = RANDOM.uniform(0.1, 3, SHAPE) * RANDOM.choice([-1, 1], SHAPE)  # away from the kink at 0
DY = RANDOM.normal(size=SHAPE)


def logistic(x):
    return 1 / (1 + np.exp(-x))


def leaky(slope):
    return lambda x: np.where(x > 0, x, slope * x), lambda x: np.where(x > 0, 1, slope)


def elu(alpha):
    return lambda x: np.where(x > 0, x, alpha * np.expm1(x)), lambda x: np.where(x > 0, 1, alpha * np.exp(x))


def swish(beta):
    def derivative(x):
        gate = logistic(beta * x)
        return gate + beta * x * gate * (1 - gate)

    return lambda x: x * logistic(beta * x), derivative


CASES = {  # layer text: (f, f')
    'type: "ReLU"': leaky(0),
    'type: "ReLU" relu_param { negative_slope: 0.25 }': leaky(0.25),
    'type: "ReLU" relu_param { negative_slope: -0.5 }': leaky(-0.5),
    'type: "PReLU"': leaky(0.25),
    'type: "PReLU" prelu_param { channel_shared: true filler { value: -0.5 } }': leaky(-0.5),
    'type: "ELU"': elu(1),
    'type: "ELU" elu_param { alpha: 0.5 }': elu(0.5),
    'type: "ELU" elu_param { alpha: -0.5 }': elu(-0.5),
    'type: "Sigmoid"': (logistic, lambda x: logistic(x) * (1 - logistic(x))),
    'type: "TanH"': (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    'type: "Swish"': swish(1),
    'type: "Swish" swish_param { beta: 2.5 }': swish(2.5),
    'type: "BNLL"': (lambda x: np.log1p(np.exp(x)), logistic),
}


@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("layer", CASES)
def test_value_and_gradient_are_the_closed_form(layer, dtype, tolerance, in_place):
    check_closed_form(layer, X, DY, *CASES[layer], dtype, tolerance, in_place)


@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
@pytest.mark.parametrize("layer", CASES)
def test_gradient(layer, in_place):
    top = 'top: "bottom0"' if in_place else ""
    check_gradient(f'layer {{ name: "l" {layer} {top} }}', [X])


def test_relu_at_0_takes_the_negative_slope():
    alone = around_zeros('type: "ReLU" relu_param { negative_slope: 0.25 }', (3,))
    alone.forward([-1, 0, 1])
    np.testing.assert_array_equal(alone.backward([1, 1, 1]), [[0.25, 0.25, 1]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinity_and_nan(dtype):
    x = [-np.inf, np.inf, np.nan]
    expected = {
        'type: "ReLU"': [0, np.inf, np.nan],
        'type: "ReLU" relu_param { negative_slope: 0.5 }': [-np.inf, np.inf, np.nan],
        'type: "ELU"': [-1, np.inf, np.nan],
        'type: "Sigmoid"': [0, 1, np.nan],
        'type: "TanH"': [-1, 1, np.nan],
        'type: "BNLL"': [0, np.inf, np.nan],
    }
    for layer, y in expected.items():
        np.testing.assert_array_equal(around_zeros(layer, (3,), dtype=dtype).forward(x)[0], y, err_msg=layer)


def test_bnll_does_not_overflow():
    alone = around_zeros('type: "BNLL"', (2,), dtype=np.float32)
    np.testing.assert_array_equal(alone.forward([1000, -1000]), [[1000, 0]])
    np.testing.assert_array_equal(alone.backward([1, 1]), [[1, 0]])


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (1, 3, 2, 2, 2)])
def test_prelu_has_a_slope_for_each_channel_of_any_blob(shape):
    x = RANDOM.normal(size=shape)
    alone = around_zeros('type: "PReLU"', shape)
    slope = alone.layer.blobs[0]
    slope.data[...] = [0.1, 0.2, 0.3]
    slopes = slope.data.reshape(3, *[1] * (len(shape) - 2))
    np.testing.assert_allclose(alone.forward(x)[0], np.where(x > 0, x, slopes * x))
    slope.diff[...] = 5
    dy = RANDOM.normal(size=shape)
    alone.backward(dy)
    others = tuple(axis for axis in range(len(shape)) if axis != 1)
    np.testing.assert_allclose(slope.diff, 5 + np.where(x > 0, 0, x * dy).sum(others))


def test_prelu_follows_the_batch():
    alone = around_zeros('type: "PReLU"', (2, 3))
    x = RANDOM.normal(size=(5, 3))
    np.testing.assert_allclose(alone.forward(x)[0], np.where(x > 0, x, 0.25 * x))


def test_prelu_needs_two_axes():
    with pytest.raises(BlobnetError, match=r'layer "l" \(PReLU\): .*two axes.*"bottom0" \(6\)'):
        around_zeros('type: "PReLU"', (6,))


def test_prelu_keeps_its_channels():
    alone = around_zeros('type: "PReLU"', (2, 3))
    with pytest.raises(BlobnetError, match=r"made for 3 channels.*2 x 4"):
        alone.forward(np.zeros((2, 4)))
