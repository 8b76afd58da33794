import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.testing import check_gradient
from tests.layers.alone import around_zeros

RANDOM = np.random.default_rng(10)
SHAPE = (2, 3, 4, 5)
THREE = [RANDOM.normal(size=SHAPE) for _ in range(3)]


def eltwise(fields):
    return f'type: "Eltwise" eltwise_param {{ {fields} }}'


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    "fields, function",
    [
        ("", np.sum),
        ("operation: PROD", np.prod),
        ("operation: PROD stable_prod_grad: false", np.prod),
        ("operation: MAX", np.max),
    ],
)
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (np.float64, 1e-15)])
def test_value(fields, function, count, dtype, tolerance):
    alone = around_zeros(eltwise(fields), *[SHAPE] * count, dtype=dtype)
    [y] = alone.forward(*THREE[:count])
    np.testing.assert_allclose(y, function(THREE[:count], axis=0), rtol=tolerance, atol=tolerance)


def test_coefficients():
    [y] = around_zeros(eltwise("coeff: 1 coeff: -0.5 coeff: 2"), *[SHAPE] * 3).forward(*THREE)
    np.testing.assert_allclose(y, THREE[0] - 0.5 * THREE[1] + 2 * THREE[2])


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("fields", ["", "operation: PROD", "operation: PROD stable_prod_grad: false", "operation: MAX"])
def test_gradient(fields, count):
    check_gradient(f'layer {{ name: "l" {eltwise(fields)} }}', [x[:, :, :2, :2] for x in THREE[:count]])


def test_gradient_of_a_weighted_sum():
    check_gradient(f'layer {{ name: "l" {eltwise("coeff: 1 coeff: -0.5 coeff: 2")} }}', THREE)


def test_a_product_with_zeros_has_its_gradient():
    alone = around_zeros(eltwise("operation: PROD"), (2,), (2,), (2,))
    alone.forward([0, 0], [2, 0], [3, 4])
    np.testing.assert_array_equal(alone.backward([1, 1], wanted=range(3)), [[6, 0], [0, 0], [0, 0]])


def test_ties_of_a_maximum():
    alone = around_zeros(eltwise("operation: MAX"), (4,), (4,), (4,))
    alone.forward([1, 1, 0, 2], [1, 0, 1, 1], [1, 1, 1, 3])
    np.testing.assert_array_equal(
        alone.backward([1, 1, 1, 1], wanted=range(3)), [[0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]
    )


@pytest.mark.parametrize(
    "fields, shapes, message",
    [
        ("coeff: 1", [(2, 3), (2, 3)], r"coeff must be left out or given once a bottom; got 1 for 2"),
        ("operation: PROD coeff: 1 coeff: 2", [(2, 3), (2, 3)], r"SUM only; got operation PROD"),
        ("operation: MAX coeff: 1 coeff: 2", [(2, 3), (2, 3)], r"SUM only; got operation MAX"),
        ("", [(2, 3), (3, 2)], r'one shape; got blob "bottom0" \(2 x 3\) and blob "bottom1" \(3 x 2\)'),
    ],
)
def test_bad_eltwise(fields, shapes, message):
    with pytest.raises(BlobnetError, match=rf'net.prototxt:1: layer "l" \(Eltwise\): .*{message}'):
        around_zeros(eltwise(fields), *shapes)


OPERANDS = [  # fields, bottom, shape of the operand, its shape for broadcasting
    ("", (2, 3, 4, 5), (3,), (3, 1, 1)),
    ("", (4, 5), (5,), (5,)),
    ("axis: -1", (2, 3, 4, 5), (5,), (5,)),
    ("axis: 0", (2, 3, 4), (2,), (2, 1, 1)),
    ("axis: 1 num_axes: 2", (2, 3, 4, 5), (3, 4), (3, 4, 1)),
    ("axis: 2 num_axes: 2", (2, 3, 4, 5), (4, 5), (4, 5)),
    ("axis: 0 num_axes: -1", (2, 3, 4), (2, 3, 4), (2, 3, 4)),
    ("axis: 0 num_axes: 0", (2, 3, 4), (), ()),
    ("num_axes: 0", (2, 3, 4), (), ()),
]


def naive(x, dy, factor, shift):
    """Value and gradients of factor x + shift by broadcasting; the gradients of the operands in their shape."""
    spread = np.broadcast_to(factor, x.shape)
    summed = tuple(axis for axis in range(x.ndim) if axis < x.ndim - factor.ndim or factor.shape[axis - x.ndim] == 1)
    return (
        spread * x + shift,
        spread * dy,
        (x * dy).sum(summed, keepdims=True).reshape(factor.shape),
        dy.sum(summed, keepdims=True).reshape(factor.shape),
    )


def close(found, expected):
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
@pytest.mark.parametrize("fields, shape, operand, spread", OPERANDS)
def test_learned_scale_and_bias(fields, shape, operand, spread, in_place):
    x, dy = RANDOM.normal(size=shape), RANDOM.normal(size=shape)
    alone = around_zeros(f'type: "Scale" scale_param {{ {fields} bias_term: true }}', shape, in_place=in_place)
    factor, shift = alone.layer.blobs
    assert factor.shape == shift.shape == operand
    for blob in (factor, shift):
        blob.data[...] = RANDOM.normal(size=operand)
        blob.diff[...] = 7
    y, dx, dfactor, dshift = naive(x, dy, factor.data.reshape(spread), shift.data.reshape(spread))
    close(alone.forward(x)[0], y)
    close(alone.backward(dy)[0], dx)
    close(factor.diff, 7 + dfactor)
    close(shift.diff, 7 + dshift)


@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
@pytest.mark.parametrize("fields, shape, operand, spread", OPERANDS)
def test_learned_bias(fields, shape, operand, spread, in_place):
    x, dy = RANDOM.normal(size=shape), RANDOM.normal(size=shape)
    alone = around_zeros(f'type: "Bias" bias_param {{ {fields} }}', shape, in_place=in_place)
    [bias] = alone.layer.blobs
    assert bias.shape == operand
    bias.data[...] = RANDOM.normal(size=operand)
    bias.diff[...] = 7
    y, dx, _, dbias = naive(x, dy, np.ones(spread), bias.data.reshape(spread))
    close(alone.forward(x)[0], y)
    close(alone.backward(dy)[0], dx)
    close(bias.diff, 7 + dbias)


TWO_BOTTOMS = [case for case in OPERANDS if "num_axes: -1" not in case[0]]


@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
@pytest.mark.parametrize("fields, shape, operand, spread", TWO_BOTTOMS)
def test_scale_and_bias_by_a_second_bottom(fields, shape, operand, spread, in_place):
    x, dy, by = RANDOM.normal(size=shape), RANDOM.normal(size=shape), RANDOM.normal(size=operand)
    y, dx, dby, dshift = naive(x, dy, by.reshape(spread), np.zeros(spread))
    alone = around_zeros(f'type: "Scale" scale_param {{ {fields} bias_term: true }}', shape, operand, in_place=in_place)
    close(alone.forward(x, by)[0], y)
    for _ in range(2):  # the gradient of a bottom is overwritten
        alone.tops[0].diff[...] = dy
        alone.layer.backward(alone.tops, [False, True], alone.bottoms)
        close(alone.bottoms[1].diff, dby)
    close(alone.layer.blobs[0].diff, 2 * dshift)
    close(alone.backward(dy)[0], dx)
    biased = around_zeros(f'type: "Bias" bias_param {{ {fields} }}', shape, operand, in_place=in_place)
    close(biased.forward(x, by)[0], x + by.reshape(spread))
    for found, expected in zip(biased.backward(dy, wanted=(0, 1)), (dy, dshift), strict=True):
        close(found, expected)


@pytest.mark.parametrize("fields, shape, operand, spread", OPERANDS)
def test_gradients(fields, shape, operand, spread):
    x = RANDOM.normal(size=shape)
    learned = {"Scale": [RANDOM.normal(size=operand)] * 2, "Bias": [RANDOM.normal(size=operand)]}
    for top in ("", 'top: "bottom0"'):
        scale = f'type: "Scale" scale_param {{ {fields} bias_term: true }} {top}'
        check_gradient(f'layer {{ name: "l" {scale} }}', [x], params=learned["Scale"])
        check_gradient(f'layer {{ name: "l" {scale} }}', [x, learned["Scale"][0]], params=learned["Bias"])
        bias = f'type: "Bias" bias_param {{ {fields} }} {top}'
        check_gradient(f'layer {{ name: "l" {bias} }}', [x], params=learned["Bias"])
        check_gradient(f'layer {{ name: "l" {bias} }}', [x, learned["Bias"][0]])


def test_fillers_and_their_defaults():
    scale = around_zeros('type: "Scale" scale_param { bias_term: true }', (2, 3)).layer
    assert [blob.data.tolist() for blob in scale.blobs] == [[1, 1, 1], [0, 0, 0]]
    filled = around_zeros(
        'type: "Scale" scale_param { bias_term: true filler { value: 2 } bias_filler { value: 3 } }', (2, 3)
    ).layer
    assert [blob.data.tolist() for blob in filled.blobs] == [[2, 2, 2], [3, 3, 3]]
    assert around_zeros('type: "Bias"', (2, 3)).layer.blobs[0].data.tolist() == [0, 0, 0]
    assert around_zeros('type: "Bias" bias_param { filler { value: 4 } }', (2, 3)).layer.blobs[0].data.tolist() == [
        4,
        4,
        4,
    ]


def test_scale_follows_the_batch_and_not_the_channels():
    alone = around_zeros('type: "Scale"', (2, 3))
    np.testing.assert_array_equal(alone.forward(np.ones((4, 3)))[0], np.ones((4, 3)))
    with pytest.raises(BlobnetError, match=r'"bottom0" \(4 x 2\) must have the extents of blob "l\[0\]" \(3\)'):
        alone.forward(np.ones((4, 2)))


@pytest.mark.parametrize("kind", ["Scale", "Bias"])
@pytest.mark.parametrize(
    "fields, shapes, message",
    [
        ("axis: 4", [(2, 3)], r"axis 4 is out of range"),
        ("num_axes: 2", [(2, 3)], r"num_axes must be -1 or at most 1.*got 2"),
        ("num_axes: -2", [(2, 3)], r"num_axes must be -1 or at most 1.*got -2"),
        ("", [(2, 3), (4,)], r'"bottom0" \(2 x 3\) must have the extents of blob "bottom1" \(4\)'),
        ("", [(2, 3), (3, 4)], r'"bottom0" \(2 x 3\) must have the extents of blob "bottom1" \(3 x 4\)'),
    ],
)
def test_bad_scale_and_bias(kind, fields, shapes, message):
    with pytest.raises(BlobnetError, match=rf'net.prototxt:1: layer "l" \({kind}\): .*{message}'):
        around_zeros(f'type: "{kind}" {kind.lower()}_param {{ {fields} }}', *shapes)


def test_a_learned_bias_keeps_the_shape_of_the_scale():
    alone = around_zeros('type: "Scale" scale_param { bias_term: true }', (2, 3), (3,))
    with pytest.raises(BlobnetError, match=r"bias was made with shape \(3,\).*\(4\)"):
        alone.forward(np.ones((2, 4)), np.ones(4))
