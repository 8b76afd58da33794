import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.testing import check_gradient, net_from_text
from tests.layers.alone import around_zeros

RANDOM = np.random.default_rng(11)


def values(shape):
    return RANDOM.normal(size=shape)


RESHAPED = [  # layer, bottom, top
    ('type: "Flatten"', (2, 3, 4), (2, 12)),
    ('type: "Flatten"', (2, 3), (2, 3)),
    ('type: "Flatten" flatten_param { axis: 0 }', (2, 3, 4), (24,)),
    ('type: "Flatten" flatten_param { axis: 0 end_axis: 1 }', (2, 3, 4), (6, 4)),
    ('type: "Flatten" flatten_param { axis: -3 end_axis: -2 }', (5, 2, 3, 4), (5, 6, 4)),
    ('type: "Flatten" flatten_param { axis: 1 end_axis: 1 }', (2, 3, 4), (2, 3, 4)),
    ('type: "Reshape" reshape_param { shape { dim: 0 dim: 2 dim: 4 } }', (2, 8), (2, 2, 4)),
    ('type: "Reshape" reshape_param { shape { dim: 0 dim: -1 dim: 4 } }', (2, 8), (2, 2, 4)),
    ('type: "Reshape" reshape_param { shape { dim: -1 } }', (2, 3, 4), (24,)),
    ('type: "Reshape" reshape_param { shape { dim: 4 dim: 1 dim: 6 } }', (2, 3, 4), (4, 1, 6)),
    ('type: "Reshape" reshape_param { shape { dim: 1 } num_axes: 0 }', (2, 8), (1, 2, 8)),
    ('type: "Reshape" reshape_param { shape { dim: 1 } axis: 1 num_axes: 0 }', (2, 8), (2, 1, 8)),
    ('type: "Reshape" reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }', (2, 8), (2, 8, 1)),
    ('type: "Reshape" reshape_param { shape { dim: -1 } axis: 1 num_axes: 2 }', (2, 3, 4, 5), (2, 12, 5)),
    ('type: "Reshape" reshape_param { shape { dim: 2 dim: -1 } axis: 1 }', (5, 6), (5, 2, 3)),
    ('type: "Reshape" reshape_param { shape { dim: 0 dim: 0 dim: -1 } axis: 0 }', (2, 3, 4, 5), (2, 3, 20)),
    ('type: "Reshape" reshape_param { num_axes: 0 }', (2, 3), (2, 3)),
    ('type: "Reshape" reshape_param { }', (1, 1), ()),
]


@pytest.mark.parametrize("layer, bottom, top", RESHAPED)
def test_another_shape_of_the_same_values(layer, bottom, top):
    x, alone = values(bottom), around_zeros(layer, bottom)
    [y] = alone.forward(x)
    np.testing.assert_array_equal(y, x.reshape(top), strict=True)
    np.testing.assert_array_equal(alone.backward(y + 1)[0], x + 1, strict=True)
    check_gradient(f'layer {{ name: "l" {layer} }}', [x])


def test_reshape_follows_its_bottom():
    alone = around_zeros('type: "Reshape" reshape_param { shape { dim: 0 dim: -1 } }', (2, 3, 4))
    assert alone.forward(np.zeros((5, 6, 2)))[0].shape == (5, 12)


def test_writing_into_the_top_leaves_the_bottom_alone():
    alone = around_zeros('type: "Flatten"', (2, 3, 4))
    alone.forward(np.ones((2, 3, 4)))
    alone.tops[0].data[...] = 5
    assert (alone.bottoms[0].data == 1).all()


@pytest.mark.parametrize(
    "layer, shape, message",
    [
        ('type: "Flatten" flatten_param { axis: 2 end_axis: 1 }', (2, 3, 4), "axis must not come after end_axis"),
        ('type: "Flatten" flatten_param { axis: 3 }', (2, 3, 4), "axis 3 is out of range"),
        ('type: "Reshape" reshape_param { shape { dim: 3 dim: 4 } }', (2, 5), r"3 x 4 has 12, .*\(2 x 5\) has 10"),
        ('type: "Reshape" reshape_param { shape { dim: -1 dim: -1 } }', (2, 6), r"one -1 at most; got \[-1, -1\]"),
        ('type: "Reshape" reshape_param { shape { dim: -2 } }', (2, 6), r"extents of -1 or more; got \[-2\]"),
        ('type: "Reshape" reshape_param { shape { dim: 5 dim: -1 } }', (2, 6), r"must divide the count.*\(2 x 6\)"),
        ('type: "Reshape" reshape_param { shape { dim: 2 dim: 6 dim: 0 } }', (2, 6), "copies axis 2.*has 2 axes"),
        ('type: "Reshape" reshape_param { shape { dim: 1 } axis: 3 }', (2, 6), "axis must be between -3 and 2.*got 3"),
        (
            'type: "Reshape" reshape_param { shape { dim: 1 } axis: -4 }',
            (2, 6),
            "axis must be between -3 and 2.*got -4",
        ),
        ('type: "Reshape" reshape_param { axis: 1 num_axes: 2 }', (2, 6), "num_axes must be -1 or at most 1.*got 2"),
    ],
)
def test_bad_shapes(layer, shape, message):
    with pytest.raises(BlobnetError, match=rf'net.prototxt:1: layer "l" .*{message}'):
        around_zeros(layer, shape)


@pytest.mark.parametrize("kind", ["Flatten", "Reshape"])
def test_no_work_in_place(kind):
    with pytest.raises(BlobnetError, match=f"{kind} cannot work in place: give its top another name"):
        net_from_text(
            f'layer {{ name: "x" type: "Input" top: "x" }} layer {{ name: "l" type: "{kind}" bottom: "x" top: "x" }}'
        )


@pytest.mark.parametrize(
    "fields, axis, shapes",
    [
        ("", 1, [(2, 3, 2), (2, 1, 2)]),
        ("axis: 0", 0, [(2, 3), (1, 3), (4, 3)]),
        ("axis: -1", 2, [(2, 3, 1), (2, 3, 4)]),
        ("concat_dim: 0", 0, [(2, 3), (1, 3)]),
        ("", 1, [(2, 3)]),
    ],
)
def test_concat(fields, axis, shapes):
    layer = f'type: "Concat" concat_param {{ {fields} }}'
    inputs, alone = [values(shape) for shape in shapes], around_zeros(layer, *shapes)
    [y] = alone.forward(*inputs)
    np.testing.assert_array_equal(y, np.concatenate(inputs, axis))
    for dx, x in zip(alone.backward(y + 1, wanted=range(len(inputs))), inputs, strict=True):
        np.testing.assert_array_equal(dx, x + 1)
    check_gradient(f'layer {{ name: "l" {layer} }}', inputs)


@pytest.mark.parametrize(
    "fields, shapes, message",
    [
        ("", [(2, 3), (3, 3)], r'but for axis 1; got blob "bottom0" \(2 x 3\) and blob "bottom1" \(3 x 3\)'),
        ("", [(2, 3), (2, 3, 1)], "but for axis 1"),
        ("axis: 2", [(2, 3), (2, 3)], "axis 2 is out of range"),
        ("concat_dim: 2", [(2, 3), (2, 3)], "axis 2 is out of range"),
        ("axis: 0 concat_dim: 0", [(2, 3), (2, 3)], "give axis or concat_dim"),
    ],
)
def test_bad_concat(fields, shapes, message):
    with pytest.raises(BlobnetError, match=rf'net.prototxt:1: layer "l" \(Concat\): .*{message}'):
        around_zeros(f'type: "Concat" concat_param {{ {fields} }}', *shapes)


@pytest.mark.parametrize(
    "fields, axis, points, shape",
    [
        ("", 1, [2], (3, 4)),
        ("axis: 0", 0, [1, 2], (3, 4)),
        ("axis: 1 slice_point: 1 slice_point: 4", 1, [1, 4], (2, 6, 2)),
        ("axis: -1 slice_point: 2", 2, [2], (2, 3, 5)),
        ("slice_dim: 0 slice_point: 1", 0, [1], (3, 4)),
        ("", 1, [], (2, 3)),
    ],
)
def test_slice(fields, axis, points, shape):
    x = values(shape)
    alone = around_zeros(f'type: "Slice" slice_param {{ {fields} }}', shape, tops=len(points) + 1)
    tops = alone.forward(x)
    for y, part in zip(tops, np.split(x, points, axis), strict=True):
        np.testing.assert_array_equal(y, part)
    np.testing.assert_array_equal(alone.backward(*(y + 1 for y in tops))[0], x + 1)
    names = " ".join(f'top: "top{index}"' for index in range(len(tops)))
    check_gradient(f'layer {{ name: "l" type: "Slice" {names} slice_param {{ {fields} }} }}', [x])


@pytest.mark.parametrize(
    "fields, message",
    [
        ("", r"axis 1 of blob \"bottom0\" \(2 x 5\) does not divide into 2 equal tops"),
        ("slice_point: 1 slice_point: 2", "given 1 times.*got 2"),
        ("slice_point: 5", r"more than 0 to less than 5.*got \[5\]"),
        ("slice_point: 0", r"more than 0 to less than 5.*got \[0\]"),
        ("slice_point: 7", r"more than 0 to less than 5.*got \[7\]"),
        ("axis: 3", "axis 3 is out of range"),
        ("axis: 1 slice_dim: 1", "give axis or slice_dim"),
    ],
)
def test_bad_slice(fields, message):
    with pytest.raises(BlobnetError, match=rf'net.prototxt:1: layer "l" \(Slice\): .*{message}'):
        around_zeros(f'type: "Slice" slice_param {{ {fields} }}', (2, 5), tops=2)


@pytest.mark.parametrize("tops", [1, 2, 3])
def test_split(tops):
    x, alone = values((2, 3, 4)), around_zeros('type: "Split"', (2, 3, 4), tops=tops)
    for y in alone.forward(x):
        np.testing.assert_array_equal(y, x)
    diffs = [values((2, 3, 4)) for _ in range(tops)]
    np.testing.assert_allclose(alone.backward(*diffs)[0], sum(diffs))
    names = " ".join(f'top: "top{number}"' for number in range(tops))
    check_gradient(f'layer {{ name: "l" type: "Split" {names} }}', [x])


def test_split_reads_the_memory_of_its_bottom_after_that_has_grown_and_shrunk():
    net = net_from_text("""
        layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } }
        layer { name: "split" type: "Split" bottom: "x" top: "a" top: "b" }
    """)
    net.forward(x=np.array([1, 2]))
    net.set_input("x", np.arange(5))
    for y in net.forward(x=np.array([3, 4])).values():
        np.testing.assert_array_equal(y, [3, 4])


@pytest.mark.parametrize(
    "fields, axis, tiles",
    [("tiles: 3", 1, 3), ("axis: 0 tiles: 2", 0, 2), ("axis: -1 tiles: 4", 2, 4), ("tiles: 1", 1, 1)],
)
def test_tile(fields, axis, tiles):
    x, layer = values((2, 3, 2)), f'type: "Tile" tile_param {{ {fields} }}'
    [y] = around_zeros(layer, x.shape).forward(x)
    np.testing.assert_array_equal(y, np.concatenate([x] * tiles, axis))
    check_gradient(f'layer {{ name: "l" {layer} }}', [x])


@pytest.mark.parametrize("fields, found", [("", 0), ("tiles: 0", 0), ("tiles: -1", -1)])
def test_tiles_must_be_given(fields, found):
    with pytest.raises(BlobnetError, match=rf"net.prototxt:1: .*tiles must be given, and more than 0; got {found}"):
        around_zeros(f'type: "Tile" tile_param {{ {fields} }}', (2, 3))


@pytest.mark.parametrize(
    "fields, whole, like, part",
    [
        ("", (2, 3, 6, 5), (2, 3, 4, 3), np.s_[:, :, :4, :3]),
        ("offset: 1", (2, 3, 6, 5), (1, 1, 4, 3), np.s_[:, :, 1:5, 1:4]),
        ("axis: 2 offset: 2 offset: 1", (2, 3, 6, 5), (9, 9, 4, 3), np.s_[:, :, 2:6, 1:4]),
        ("axis: 1 offset: 1 offset: 0 offset: 2", (2, 3, 6, 5), (2, 2, 4, 3), np.s_[:, 1:3, :4, 2:5]),
        ("axis: 0", (2, 3), (1, 3), np.s_[:1, :]),
        ("axis: -1 offset: 1", (2, 3, 6), (7, 7, 4), np.s_[:, :, 1:5]),
    ],
)
def test_crop(fields, whole, like, part):
    x, layer = values(whole), f'type: "Crop" crop_param {{ {fields} }}'
    alone = around_zeros(layer, whole, like)
    [y] = alone.forward(x, np.zeros(like))
    np.testing.assert_array_equal(y, x[part])
    expected = np.zeros(whole)
    expected[part] = y + 1
    dx, dlike = alone.backward(y + 1, wanted=(0, 1))
    np.testing.assert_array_equal(dx, expected)
    np.testing.assert_array_equal(dlike, np.zeros(like))
    check_gradient(f'layer {{ name: "l" {layer} }}', [x, np.zeros(like)])


@pytest.mark.parametrize(
    "fields, like, message",
    [
        ("", (2, 3, 7, 3), r"at axis 2 it begins at 0 and has the extent 7"),
        ("offset: 3", (2, 3, 4, 3), r"at axis 2 it begins at 3 and has the extent 4"),
        ("offset: 0 offset: 0 offset: 0", (2, 3, 4, 3), r"once for each of the 2 cropped axes; got 3"),
        ("", (2, 3, 4), r"equally many axes"),
        ("axis: 4", (2, 3, 4, 3), r"axis 4 is out of range"),
    ],
)
def test_bad_crop(fields, like, message):
    with pytest.raises(BlobnetError, match=rf'net.prototxt:1: layer "l" \(Crop\): .*{message}'):
        around_zeros(f'type: "Crop" crop_param {{ {fields} }}', (2, 3, 6, 5), like)
