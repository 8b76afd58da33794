"""Which fork of Caffe defines a field or layer type that BVLC Caffe does not have; for error messages only."""

from google.protobuf.descriptor import EnumDescriptor


def of_field(message: str, field: str) -> str:
    """``; the fork ... defines it`` for a field that a well-known fork added to a message, else an empty string."""
    return ""


def of_value(enum: EnumDescriptor, value: str) -> str:
    return ""
