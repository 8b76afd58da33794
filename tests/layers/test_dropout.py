import numpy as np
import pytest

from blobnet import TEST, TRAIN, BlobnetError
from blobnet.testing import check_gradient
from tests.layers.alone import around_zeros

X = np.random.default_rng(9).uniform(1, 2, (50, 40))


@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.875])
def test_a_share_is_dropped_and_the_rest_scaled(ratio, in_place):
    text = f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}'
    alone = around_zeros(text, X.shape, phase=TRAIN, in_place=in_place)
    [y] = alone.forward(X)
    kept = y != 0
    np.testing.assert_allclose(y, np.where(kept, X / (1 - ratio), 0))
    assert abs(kept.mean() - (1 - ratio)) < 0.05
    [dx] = alone.backward(np.full(X.shape, 3.0))
    np.testing.assert_allclose(dx, np.where(kept, 3 / (1 - ratio), 0))


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_gradient(phase):
    layer = 'layer { name: "l" type: "Dropout" dropout_param { dropout_ratio: 0.25 } }'
    check_gradient(layer, [X[:4, :5]], phase=phase)


@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
def test_testing_is_the_identity(in_place):
    alone = around_zeros('type: "Dropout"', X.shape, phase=TEST, in_place=in_place)
    np.testing.assert_array_equal(alone.forward(X)[0], X)
    np.testing.assert_array_equal(alone.backward(X + 1)[0], X + 1)


def test_every_pass_has_a_mask_of_its_own_that_the_seed_decides():
    first, second, other = (around_zeros('type: "Dropout"', X.shape, phase=TRAIN, seed=seed) for seed in (1, 1, 2))
    masks = [alone.forward(X)[0] for alone in (first, first, second, second, other)]
    np.testing.assert_array_equal(masks[0], masks[2])
    np.testing.assert_array_equal(masks[1], masks[3])
    assert (masks[0] != masks[1]).any()
    assert (masks[0] != masks[4]).any()


def test_a_resumed_layer_goes_on_with_the_next_mask():
    first, second = (around_zeros('type: "Dropout"', X.shape, phase=TRAIN, seed=seed) for seed in (1, 2))
    first.forward(X)
    second.layer.restore(first.layer.state())
    np.testing.assert_array_equal(first.forward(X), second.forward(X))


@pytest.mark.parametrize("ratio", [1, -0.5, 1.5])
def test_the_ratio_must_leave_something(ratio):
    with pytest.raises(
        BlobnetError, match=rf"net.prototxt:1: .*dropout_ratio must be at least 0 and below 1; got {ratio}"
    ):
        around_zeros(f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}', (2,))
