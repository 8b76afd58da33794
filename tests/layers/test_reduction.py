import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.testing import check_gradient
from tests.layers.alone import around_zeros

RANDOM = np.random.default_rng(12)
X = RANDOM.uniform(0.1, 1, (2, 3, 4)) * RANDOM.choice([-1, 1], (2, 3, 4))
REDUCTIONS = {
    "SUM": np.sum,
    "ASUM": lambda x, axis: np.abs(x).sum(axis),
    "SUMSQ": lambda x, axis: (x**2).sum(axis),
    "MEAN": np.mean,
}


@pytest.mark.parametrize("axis, reduced", [(0, (0, 1, 2)), (1, (1, 2)), (-1, 2)])
@pytest.mark.parametrize("coeff", [1, -0.5])
@pytest.mark.parametrize("operation", REDUCTIONS)
def test_reduction(operation, coeff, axis, reduced):
    layer = f'type: "Reduction" reduction_param {{ operation: {operation} axis: {axis} coeff: {coeff} }}'
    expected = coeff * REDUCTIONS[operation](X, axis=reduced)
    [y] = around_zeros(layer, X.shape).forward(X)
    np.testing.assert_allclose(y, expected, rtol=1e-14)
    assert y.shape == X.shape[: axis % 3]
    [y] = around_zeros(layer, X.shape, dtype=np.float32).forward(X)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    check_gradient(f'layer {{ name: "l" {layer} }}', [X])


def test_reduction_defaults_to_the_sum_of_all():
    np.testing.assert_allclose(around_zeros('type: "Reduction"', X.shape).forward(X)[0], X.sum())


def test_a_sum_of_absolutes_has_the_gradient_0_at_0():
    alone = around_zeros('type: "Reduction" reduction_param { operation: ASUM }', (3,))
    alone.forward([-1, 0, 2])
    np.testing.assert_array_equal(alone.backward(1), [[-1, 0, 1]])


def test_long_sums_of_float32_stay_exact():
    alone = around_zeros('type: "Reduction" reduction_param { operation: SUMSQ }', (1 << 20,), dtype=np.float32)
    assert alone.forward(np.full(1 << 20, 0.1, np.float32))[0] == np.float32(
        (1 << 20) * np.float64(np.float32(0.1)) ** 2
    )


def argmax(fields, x):
    return around_zeros(f'type: "ArgMax" argmax_param {{ {fields} }}', np.shape(x)).forward(x)[0]


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("top_k", [1, 2])
def test_argmax_along_an_axis(axis, top_k):
    x = RANDOM.permutation(24).reshape(2, 3, 4).astype(float)
    order = np.flip(np.sort(x, axis), axis).take(range(top_k), axis)
    values = argmax(f"axis: {axis} top_k: {top_k} out_max_val: true", x)
    np.testing.assert_array_equal(values, order)
    indices = argmax(f"axis: {axis} top_k: {top_k}", x).astype(int)
    np.testing.assert_array_equal(np.take_along_axis(x, indices, axis), order)


@pytest.mark.parametrize(
    "shape, fields, top",
    [
        ((3, 6), "", (3, 1, 1)),
        ((3, 6), "top_k: 3", (3, 1, 3)),
        ((3, 6), "top_k: 2 out_max_val: true", (3, 2, 2)),
        ((2, 3, 2, 2), "", (2, 1, 1, 1)),
        ((2, 3, 2, 2), "top_k: 5 out_max_val: true", (2, 2, 5, 1)),
        ((4,), "", (4, 1, 1)),
    ],
)
def test_argmax_over_whole_items(shape, fields, top):
    x = RANDOM.permutation(np.prod(shape)).reshape(shape).astype(float)
    y = argmax(fields, x)
    assert y.shape == top
    rows = x.reshape(shape[0], -1)
    indices = y.reshape(shape[0], top[1], top[2])[:, 0].astype(int)
    largest = np.flip(np.sort(rows, axis=1), axis=1)[:, : top[2]]
    np.testing.assert_array_equal(np.take_along_axis(rows, indices, 1), largest)
    if top[1] == 2:
        np.testing.assert_array_equal(y.reshape(shape[0], 2, top[2])[:, 1], largest)


def test_of_equal_elements_the_higher_index_comes_first():
    np.testing.assert_array_equal(argmax("top_k: 3", [[5, 1, 5, 5]]).ravel(), [3, 2, 0])
    np.testing.assert_array_equal(argmax("axis: 1", [[2, 2, 1]]), [[1]])


@pytest.mark.parametrize(
    "fields, shape, message",
    [
        ("top_k: 0", (2, 3), "at most the 3 elements.*got 0"),
        ("top_k: 4", (2, 3), "at most the 3 elements.*got 4"),
        ("top_k: 3 axis: 0", (2, 3), "at most the 2 elements.*got 3"),
        ("axis: 2", (2, 3), "axis 2 is out of range"),
    ],
)
def test_bad_argmax(fields, shape, message):
    with pytest.raises(BlobnetError, match=rf'net.prototxt:1: layer "l" \(ArgMax\): .*{message}'):
        around_zeros(f'type: "ArgMax" argmax_param {{ {fields} }}', shape)


def test_argmax_has_no_gradient():
    alone = around_zeros('type: "ArgMax"', (2, 3))
    with pytest.raises(BlobnetError, match="ArgMax has no gradient"):
        alone.backward(np.zeros((2, 1, 1)))
