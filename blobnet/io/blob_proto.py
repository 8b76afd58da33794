"""BlobProto and arrays: the form in which weights, means and histories stand in Caffe's files."""

import math

import numpy as np

from blobnet.errors import BlobnetError
from blobnet.proto import blobnet_pb2 as pb

_LEGACY = ("num", "channels", "height", "width")


def shape(proto: pb.BlobProto) -> tuple[int, ...]:
    """The extents: legacy ``num channels height width`` where any is set (missing ones 0), else ``shape``."""
    if any(proto.HasField(field) for field in _LEGACY):
        return tuple(getattr(proto, field) for field in _LEGACY)
    return tuple(proto.shape.dim)


def to_array(proto: pb.BlobProto, part: str = "data") -> np.ndarray:
    """The values of a BlobProto, float64 where it holds doubles, else float32. ``part``: data or diff.

    The number of values must be exactly what the shape says. NaN and infinities pass.
    """
    extents = shape(proto)
    doubles = getattr(proto, f"double_{part}")
    values = doubles if len(doubles) else getattr(proto, part)
    count = math.prod(extents)
    if min(extents, default=0) < 0 or count != len(values):
        shown = " x ".join(map(str, extents)) or "scalar"
        raise BlobnetError(f"a blob of shape {shown} must hold {count} values; got {len(values)}")
    return np.array(values, np.float64 if values is doubles else np.float32).reshape(extents)


def from_array(array: np.ndarray, diff: np.ndarray | None = None) -> pb.BlobProto:
    """A BlobProto of the array's shape; float64 goes to ``double_data``, everything else to ``data``."""
    proto = pb.BlobProto()
    proto.shape.dim.extend(array.shape)
    _extend(proto, "data", array)
    if diff is not None:
        _extend(proto, "diff", diff)
    return proto


def _extend(proto: pb.BlobProto, part: str, array: np.ndarray) -> None:
    """Merge a packed field in its wire form: a list of Python floats would take ten times the memory."""
    double = array.dtype == np.float64
    field = pb.BlobProto.DESCRIPTOR.fields_by_name[f"double_{part}" if double else part]
    values = np.ascontiguousarray(array, "<f8" if double else "<f4")
    proto.MergeFromString(varint(field.number << 3 | 2) + varint(values.nbytes) + values.tobytes())


def varint(value: int) -> bytes:
    """A whole number in protobuf's wire form: seven bits a byte, the lowest first."""
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
