import numpy as np
import pytest

from blobnet.blob import Blob
from blobnet.errors import BlobnetError


def test_views_are_live_and_zero_at_first():
    blob = Blob((2, 3), name="x")
    blob.data[0, 1] = 5
    assert blob.data.tolist() == [[0, 5, 0], [0, 0, 0]]
    assert blob.diff.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert blob.data.dtype == np.float32 and blob.data.flags.c_contiguous


def test_reshape_keeps_memory_that_is_large_enough():
    blob = Blob((2, 3))
    blob.data[...] = 7
    first = blob.data
    blob.reshape(2, 2)
    assert np.shares_memory(first, blob.data) and blob.data.tolist() == [[7, 7], [7, 7]]
    blob.reshape(3, 2)
    assert np.shares_memory(first, blob.data)
    blob.reshape(4, 2)
    assert not np.shares_memory(first, blob.data) and blob.count == 8


@pytest.mark.parametrize("shape", [(2, -1), (2.5, 3), ("2",)])
def test_extents_are_whole_numbers(shape):
    blob = Blob((2, 3))
    with pytest.raises(BlobnetError, match="whole numbers of 0 or more; got"):
        blob.reshape(*shape)
    blob.reshape(np.int64(3), 2.0)
    assert blob.shape == (3, 2)


@pytest.mark.parametrize("shape", [(2, "a"), (2, None), ([2, 3],)])
def test_extents_that_are_no_numbers_are_type_errors(shape):
    with pytest.raises(TypeError, match="must be whole numbers, one an argument; got"):
        Blob((2, 3)).reshape(*shape)


def test_a_scalar_blob_has_one_element():
    blob = Blob()
    blob.data[...] = 3
    assert blob.count == 1 and blob.num_axes == 0 and float(blob.data) == 3


def test_shared_data_goes_both_ways_until_one_grows():
    owner, sharer = Blob((2, 2)), Blob((4,))
    sharer.share_data(owner)
    sharer.data[3] = 9
    assert owner.data[1, 1] == 9
    assert not np.shares_memory(owner.diff, sharer.diff)
    sharer.share_diff(owner)
    owner.diff[0, 0] = 1
    assert sharer.diff[0] == 1
    sharer.reshape(5)
    sharer.data[...] = 0
    assert owner.data[1, 1] == 9


def test_sharing_needs_equal_counts_and_types():
    with pytest.raises(ValueError, match="counts or types differ"):
        Blob((2,)).share_data(Blob((3,)))
    with pytest.raises(ValueError, match="counts or types differ"):
        Blob((2,)).share_data(Blob((2,), np.float64))


def test_axes_and_counts():
    blob = Blob((2, 3, 4, 5))
    assert blob.canonical_axis(-1) == 3 and blob.canonical_axis(1) == 1
    assert blob.count_between(1, 3) == 12 and blob.count_between(2) == 20
    with pytest.raises(IndexError, match="axis 4 is out of range"):
        blob.canonical_axis(4)


def test_legacy_extents():
    blob = Blob((2, 3))
    assert (blob.num, blob.channels, blob.height, blob.width) == (2, 3, 1, 1)
    with pytest.raises(ValueError, match="5 axes"):
        _ = Blob((1, 1, 1, 1, 1)).num


def test_counts_beyond_32_bits():
    assert Blob((1 << 20, 1 << 20)).count == 1 << 40


def test_blobs_may_swap_their_data():
    one, other = Blob((2, 3)), Blob((6,))
    one.data[...], other.data[...] = 1, 2
    one.diff[...] = 3
    one.swap_data(other)
    assert (one.data == 2).all() and (other.data == 1).all() and (one.diff == 3).all()
    assert one.data.shape == (2, 3)
    with pytest.raises(ValueError, match="cannot swap data"):
        one.swap_data(Blob((5,)))


def summed_up(shape=(2, 3)) -> Blob:
    """A blob that nobody has been given the diff of; it holds no numbers."""
    blob = Blob(shape)
    blob.gradient[...] = np.nan
    return blob


@pytest.mark.parametrize("part", ["diff", "gradient"])
def test_a_cleared_diff_is_zero_for_whoever_reads_it(part):
    blob = summed_up()
    sharer = Blob((6,))
    sharer.share_diff(blob)
    blob.clear_diff()
    assert (getattr(sharer, part) == 0).all() and (getattr(blob, part) == 0).all()
    blob.gradient[0, 0] = 1
    assert blob.diff[0, 0] == sharer.diff[0] == 1


def test_the_first_sum_after_a_diff_was_cleared_overwrites_it():
    blob = summed_up()
    sharer = Blob((6,))
    sharer.share_diff(blob)
    assert blob.gradient_sum()[1] == 1
    blob.clear_diff()
    gradient, beta = sharer.gradient_sum()
    assert beta == 0 and np.shares_memory(gradient, blob.gradient)
    gradient[...] = 2
    assert blob.gradient_sum()[1] == sharer.gradient_sum()[1] == 1
    assert (blob.diff == 2).all()


def test_values_take_the_place_of_a_cleared_diff_and_add_to_another():
    blob, values = summed_up(), np.arange(6, dtype=np.float64).reshape(2, 3)
    blob.clear_diff()
    for expected in (values, 2 * values):
        blob.add_to_diff(values)
        np.testing.assert_array_equal(blob.gradient, expected)


def test_a_diff_that_somebody_was_given_is_cleared_at_once():
    blob = summed_up()
    given = blob.diff
    blob.clear_diff()
    assert (given == 0).all() and blob.gradient_sum()[1] == 1


def test_a_cleared_diff_that_grows_is_zero():
    blob = summed_up()
    blob.clear_diff()
    blob.reshape(20)
    assert (blob.diff == 0).all()
