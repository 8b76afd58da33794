"""The wire format beside Caffe's: every message, field and enum with its number, label, type and default."""

import csv

from google.protobuf import descriptor_pb2

from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import generate
from tests.recorded import SELECTION

TYPES = descriptor_pb2.FieldDescriptorProto.Type
LABELS = descriptor_pb2.FieldDescriptorProto.Label


def caffe_rows() -> list[dict[str, str]]:
    with open(SELECTION / "schema" / "caffe_schema.tsv", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def all_messages(descriptors=None):
    for descriptor in pb.DESCRIPTOR.message_types_by_name.values() if descriptors is None else descriptors:
        yield descriptor
        yield from all_messages(descriptor.nested_types)


def our_rows():
    """(kind, owner, name) -> (number, label, type, default, packed) of everything below 1000."""
    rows = {}
    for enum in pb.DESCRIPTOR.enum_types_by_name.values():
        rows |= {("enum", enum.name, value.name): (str(value.number), "", "", "", "") for value in enum.values}
    for message in all_messages():
        proto = descriptor_pb2.DescriptorProto()
        message.CopyToProto(proto)
        for enum in message.enum_types:
            owner = enum.full_name.removeprefix("blobnet.")
            rows |= {("enum", owner, value.name): (str(value.number), "", "", "", "") for value in enum.values}
        for field in proto.field:
            rows["field", message.name, field.name] = (
                str(field.number),
                LABELS.Name(field.label).removeprefix("LABEL_").lower(),
                type_name(field),
                default(message.fields_by_name[field.name]) if field.HasField("default_value") else "",
                "packed" if field.options.packed else "",
            )
    return rows


def type_name(field: descriptor_pb2.FieldDescriptorProto) -> str:
    kind = TYPES.Name(field.type).removeprefix("TYPE_").lower()
    return f"{kind}:{field.type_name.removeprefix('.blobnet.')}" if field.type_name else kind


def default(field) -> str:
    if field.enum_type is not None:
        return field.enum_type.values_by_number[field.default_value].name
    return repr(field.default_value)


def same_default(ours: str, caffes: str) -> bool:
    """Caffe's file states some defaults that are the type's own; those go unstated in ours."""
    return ours == caffes or (ours == "" and caffes in ("", "0", "0.0", "False", "''"))


OURS = our_rows()


def test_is_that_of_caffe():
    for row in caffe_rows():
        number, label, kind, default_value, packed = OURS[row["kind"], row["message_or_enum"], row["name"]]
        assert (number, label, kind, packed) == (row["number"], row["label"], row["type"], row["option"]), row
        assert same_default(default_value, row["default"]), row


def test_whatever_caffe_does_not_have_is_numbered_from_1000():
    caffes = {(row["kind"], row["message_or_enum"], row["name"]) for row in caffe_rows()}
    extra = [key for key in OURS if key not in caffes and key[1] not in ("SourceInfo", "FieldLine")]
    assert extra
    assert all(int(OURS[key][0]) >= 1000 for key in extra)


def test_the_generated_module_was_made_from_this_source():
    assert generate.stamped_hash() == generate.source_hash(), "run python -m blobnet.proto.generate"
