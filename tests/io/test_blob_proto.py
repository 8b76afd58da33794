import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as strategies

from blobnet import BlobnetError
from blobnet.io import blob_proto
from blobnet.proto import blobnet_pb2 as pb


@given(strategies.arrays(np.float32, strategies.array_shapes(min_dims=0, max_dims=5, min_side=0)))
def test_floats_come_back_to_the_bit(array):
    proto = pb.BlobProto.FromString(blob_proto.from_array(array, array).SerializeToString())
    for part in ("data", "diff"):
        found = blob_proto.to_array(proto, part)
        assert (found.dtype, found.shape) == (np.float32, array.shape)
        np.testing.assert_array_equal(found.view(np.uint32), array.view(np.uint32))


def test_the_wire_form_is_that_of_the_message():
    array = np.arange(300, dtype=np.float32).reshape(3, 100)
    plain = pb.BlobProto(shape=pb.BlobShape(dim=[3, 100]), data=array.ravel(), diff=-array.ravel())
    assert blob_proto.from_array(array, -array) == plain


def test_doubles_stay_doubles():
    proto = blob_proto.from_array(np.array([0.1, 1e300]))
    assert not proto.data
    assert list(proto.double_data) == [0.1, 1e300]
    assert blob_proto.to_array(proto).dtype == np.float64


def test_any_memory_layout_is_written_in_order():
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    np.testing.assert_array_equal(blob_proto.to_array(blob_proto.from_array(array)), array)


def test_legacy_extents_win_and_missing_ones_are_zero():
    proto = pb.BlobProto(num=1, channels=2, height=1, width=2, data=range(4), shape=pb.BlobShape(dim=[4]))
    assert blob_proto.to_array(proto).shape == (1, 2, 1, 2)
    assert blob_proto.to_array(pb.BlobProto(num=3)).shape == (3, 0, 0, 0)


@pytest.mark.parametrize(
    "dims", [[2, 3], [-2, -2], [1 << 62, 1 << 62], [0], [4, 1 << 40]], ids=lambda dims: "x".join(map(str, dims))
)
def test_a_count_that_does_not_fit_is_an_error(dims):
    with pytest.raises(BlobnetError, match="values; got 4"):
        blob_proto.to_array(pb.BlobProto(shape=pb.BlobShape(dim=dims), data=range(4)))


def test_nan_and_infinity_pass():
    proto = pb.BlobProto(shape=pb.BlobShape(dim=[2]), data=[float("nan"), float("inf")])
    np.testing.assert_array_equal(blob_proto.to_array(proto), [np.nan, np.inf])
