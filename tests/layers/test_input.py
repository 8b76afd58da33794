import numpy as np
import pytest

from blobnet import BlobnetError
from tests.layers.alone import around_zeros


def shapes(alone):
    return [top.shape for top in alone.tops]


@pytest.mark.parametrize(
    "fields, expected",
    [
        ("", [(), ()]),
        ("shape { dim: 2 dim: 3 }", [(2, 3), (2, 3)]),
        ("shape { dim: 2 dim: 3 } shape { dim: 4 }", [(2, 3), (4,)]),
    ],
)
def test_input(fields, expected):
    alone = around_zeros(f'type: "Input" input_param {{ {fields} }}', tops=2)
    assert shapes(alone) == expected
    alone.tops[0].data[...] = 5
    assert (alone.forward()[0] == 5).all()


def test_an_input_keeps_the_shape_a_caller_gives_it():
    alone = around_zeros('type: "Input" input_param { shape { dim: 2 } }')
    alone.tops[0].reshape(7, 3)
    alone.reshape()
    assert shapes(alone) == [(7, 3)]


def test_dummy_data_fills_constants_once_and_draws_the_rest_anew():
    filled = 'shape { dim: 50 } data_filler { value: 3 } data_filler { type: "gaussian" }'
    alone = around_zeros(f'type: "DummyData" dummy_data_param {{ {filled} }}', tops=2)
    constant, first = alone.forward()
    assert (constant == 3).all()
    alone.tops[0].data[0] = 9
    constant, second = alone.forward()
    assert constant[0] == 9
    assert (first != second).all()


@pytest.mark.parametrize(
    "fields, expected",
    [
        ("shape { dim: 2 dim: 3 }", [(2, 3), (2, 3)]),
        ("shape { dim: 2 } shape { dim: 5 }", [(2,), (5,)]),
        ("num: 2 channels: 3 height: 1 width: 4", [(2, 3, 1, 4)] * 2),
        ("num: 2 num: 5 channels: 3 height: 1 width: 4", [(2, 3, 1, 4), (5, 3, 1, 4)]),
    ],
)
def test_dummy_data_shapes(fields, expected):
    alone = around_zeros(f'type: "DummyData" dummy_data_param {{ {fields} }}', tops=2)
    assert shapes(alone) == expected
    assert all((y == 0).all() for y in alone.forward())


def test_one_filler_for_all_tops():
    alone = around_zeros('type: "DummyData" dummy_data_param { shape { dim: 2 } data_filler { value: 3 } }', tops=3)
    np.testing.assert_array_equal(alone.forward(), np.full((3, 2), 3))


@pytest.mark.parametrize(
    "layer, tops, message",
    [
        ('type: "Input" input_param { shape { dim: 1 } shape { dim: 2 } }', 3, "once for each of the 3 tops; got 2"),
        ('type: "Input" input_param { shape { dim: -1 } }', 1, r"extents must be 0 or more; got \[-1\]"),
        (
            'type: "DummyData" dummy_data_param { shape { dim: 1 } shape { dim: 2 } shape { dim: 2 } }',
            2,
            "shape must be given 1 or 2 times for 2 tops; got 3",
        ),
        ('type: "DummyData"', 1, "shape must be given 1 times for 1 tops; got 0"),
        ('type: "DummyData" dummy_data_param { num: 1 }', 1, "channels must be given 1 times for 1 tops; got 0"),
        ('type: "DummyData" dummy_data_param { num: 1 shape { dim: 1 } }', 1, "give shape or num"),
        (
            'type: "DummyData" dummy_data_param { shape { dim: 1 } data_filler { } data_filler { } }',
            3,
            "data_filler must be given 0 or 1 or 3 times",
        ),
        (
            'type: "DummyData" dummy_data_param { shape { dim: 1 } data_filler { type: "gausian" } }',
            1,
            'did you mean "gaussian"',
        ),
        ('type: "Parameter" parameter_param { shape { dim: -2 } }', 1, r"extents must be 0 or more; got \[-2\]"),
    ],
)
def test_bad_sources(layer, tops, message):
    with pytest.raises(BlobnetError, match=rf'net.prototxt:1: layer "l" .*{message}'):
        around_zeros(layer, tops=tops).forward()


def test_parameter_is_learned():
    alone = around_zeros('type: "Parameter" parameter_param { shape { dim: 2 dim: 3 } }')
    [blob] = alone.layer.blobs
    assert blob.shape == (2, 3)
    blob.data[...] = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(alone.forward()[0], blob.data)
    for _ in range(2):
        alone.backward(np.ones((2, 3)), wanted=())
    np.testing.assert_array_equal(blob.diff, np.full((2, 3), 2))


def test_writing_into_the_top_of_a_parameter_leaves_it_alone():
    alone = around_zeros('type: "Parameter" parameter_param { shape { dim: 2 } }')
    alone.forward()
    alone.tops[0].data[...] = 5
    assert (alone.layer.blobs[0].data == 0).all()


def test_silence_takes_any_bottoms_and_gives_them_the_gradient_0():
    alone = around_zeros('type: "Silence"', (2, 3), (4,), tops=0)
    assert alone.forward(np.ones((2, 3)), np.ones(4)) == []
    for bottom in alone.bottoms:
        bottom.diff[...] = 7
    alone.layer.backward([], [True, False], alone.bottoms)
    assert [bottom.diff.flat[0] for bottom in alone.bottoms] == [0, 7]
