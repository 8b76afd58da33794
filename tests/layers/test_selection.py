import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.testing import check_gradient, net_from_text
from tests.layers.alone import around_zeros

RANDOM = np.random.default_rng(13)


@pytest.mark.parametrize("selector", [(4,), (4, 1, 1, 1)])
def test_filter_passes_the_chosen_items_of_every_bottom(selector):
    a, b = RANDOM.normal(size=(4, 3)), RANDOM.normal(size=(4, 2, 2))
    alone = around_zeros('type: "Filter"', a.shape, b.shape, selector, tops=2)
    assert [top.shape for top in alone.tops] == [(4, 3), (4, 2, 2)]
    for chosen in ([0, 2], [1], [0, 1, 2, 3]):
        mask = np.isin(np.arange(4), chosen)
        tops = alone.forward(a, b, (mask * -0.5).reshape(selector))
        for y, x in zip(tops, (a, b), strict=True):
            np.testing.assert_array_equal(y, x[chosen])
        for top in alone.tops:
            top.diff[...] = 3
        alone.layer.backward(alone.tops, [True, True, False], alone.bottoms)
        for blob in alone.bottoms[:2]:
            np.testing.assert_array_equal(
                blob.diff, 3 * mask.reshape(4, *[1] * (blob.num_axes - 1)) * np.ones(blob.shape)
            )


def test_what_follows_a_filter_takes_its_shape_in_every_pass():
    net = net_from_text("""
        layer { name: "in" type: "Input" top: "x" top: "s"
                input_param { shape { dim: 4 dim: 2 } shape { dim: 4 } } }
        layer { name: "filter" type: "Filter" bottom: "x" bottom: "s" top: "y" }
        layer { name: "sum" type: "Reduction" bottom: "y" top: "z" reduction_param { axis: 1 } }
    """)
    for selector in ([1, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]):
        [sums] = net.forward(x=np.arange(8).reshape(4, 2), s=np.array(selector)).values()
        np.testing.assert_array_equal(sums, np.array([1, 5, 9, 13])[np.flatnonzero(selector)])


def test_filter_gradient():
    bottoms = [RANDOM.normal(size=(4, 3)), np.array([0.0, 1, 0, 2])]
    check_gradient('layer { name: "l" type: "Filter" }', bottoms, check_bottoms=[0])


@pytest.mark.parametrize(
    "shapes, tops, message",
    [
        ([(4, 3), (4, 2)], 1, r'one number an item; got blob "bottom1" \(4 x 2\)'),
        ([(4, 3), ()], 1, r'one number an item; got blob "bottom1" \(scalar\)'),
        ([(4, 3), (5,)], 1, r'as many items; got blob "bottom0" \(4 x 3\) and blob "bottom1" \(5\)'),
        ([(4, 3), (4,)], 2, r"one top for each bottom but the selector; got 2 bottoms, 2 tops"),
    ],
)
def test_bad_filter(shapes, tops, message):
    with pytest.raises(BlobnetError, match=rf'net.prototxt:1: layer "l" \(Filter\): .*{message}'):
        around_zeros('type: "Filter"', *shapes, tops=tops)


def test_an_empty_choice_is_an_error_and_the_next_batch_goes_on():
    alone = around_zeros('type: "Filter"', (3, 2), (3,))
    x = RANDOM.normal(size=(3, 2))
    with pytest.raises(BlobnetError, match=r'blob "bottom1" \(3\) selects no item'):
        alone.forward(x, [0, 0, 0])
    np.testing.assert_array_equal(alone.forward(x, [0, 1, 0])[0], x[1:2])


@pytest.mark.parametrize("index", [[2, 0, 2, 1, 0], [1], [0, 1, 2]])
def test_batch_reindex(index):
    x, alone = RANDOM.normal(size=(3, 2, 2)), around_zeros('type: "BatchReindex"', (3, 2, 2), (len(index),))
    np.testing.assert_array_equal(alone.forward(x, index)[0], x[index])
    check_gradient('layer { name: "l" type: "BatchReindex" }', [x, np.array(index, float)], check_bottoms=[0])


@pytest.mark.parametrize("wrong", [-1, 3, np.nan, np.inf])
def test_indices_must_be_items(wrong):
    alone = around_zeros('type: "BatchReindex"', (3, 2), (2,))
    with pytest.raises(BlobnetError, match=rf'from 0 to 2, .*got {wrong:g} in blob "bottom1" \(2\)'):
        alone.forward(np.zeros((3, 2)), [0, wrong])


@pytest.mark.parametrize(
    "shapes, message", [([(3, 2), (2, 1)], "must have one axis"), ([(), (2,)], "no items to choose")]
)
def test_bad_batch_reindex(shapes, message):
    with pytest.raises(BlobnetError, match=rf'net.prototxt:1: layer "l" \(BatchReindex\): .*{message}'):
        around_zeros('type: "BatchReindex"', *shapes)


@pytest.mark.parametrize("kind", ["Filter", "BatchReindex"])
def test_what_chooses_has_no_gradient(kind):
    alone = around_zeros(f'type: "{kind}"', (3, 2), (3,))
    alone.forward(np.zeros((3, 2)), [1, 1, 1])
    with pytest.raises(BlobnetError, match="state propagate_down for each bottom, false for the last"):
        alone.backward(np.zeros((3, 2)), wanted=(0, 1))
