"""Text format (prototxt) to message, remembering the line of every field, and back.

First step of the flow: files become messages here, ``passes.upgrade`` lifts them next. The grammar is
protobuf's text format as Caffe's files use it. Lines go into the ``source_info`` of each message that has one,
as blobnet.proto says; ``errors.locate`` finds them there.
"""

import dataclasses
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from google.protobuf import descriptor_pb2, text_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.message import Message

from blobnet import collector
from blobnet.errors import BlobnetError, describe_layer, did_you_mean, element, field_line
from blobnet.proto import blobnet_pb2, forks
from blobnet.proto.tokens import Token, to_float, to_integer, tokenize, unquote

MAX_BYTES = 8 << 20
MAX_DEPTH = 100
MAX_FAULTS = 500  # that are collected
_ROOM = 58 << 20  # bytes that a text and its messages may take, besides four times its length

AnyMessage = TypeVar("AnyMessage", bound=Message)


def read(
    path: str | Path, message: AnyMessage, faults: list[BlobnetError] | None = None, most: int = MAX_FAULTS
) -> AnyMessage:
    """Fill ``message`` from a text file. Raises BlobnetError where it cannot be read or parsed.

    faults, most  as for ``parse``
    """
    file = _printable(str(path))
    return parse(_content(path, file), message, file, faults, most)


def _content(path: str | Path, file: str) -> str:
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise BlobnetError(f"cannot read the file: {error.strerror}", file=file) from error
    except ValueError as error:
        raise BlobnetError(f"not a file name: {error}", file=ascii(file)) from error
    if not data or data.isspace():
        raise BlobnetError("the file is empty", file=file)
    if b"\0" in data:
        raise BlobnetError("the file is binary; a prototxt (text) is needed here", file=file)
    return data.decode("utf-8-sig", errors="surrogateescape")


def parse(
    text: str,
    message: AnyMessage,
    file: str | None = None,
    faults: list[BlobnetError] | None = None,
    most: int = MAX_FAULTS,
) -> AnyMessage:
    """Fill ``message``, which must be empty, from text and return it.

    faults  gets the faults that a field can be left out for, instead of the first being raised
    most    of these, with which reading ends

    Raises BlobnetError at file and line for what protobuf's parser would refuse: unknown fields and enum
    values, values of the wrong kind or out of range, a field given twice that is not repeated, missing
    required fields; and for text longer than 8 MiB, nested deeper than 100 messages, or of so many small messages
    that they would fill the memory.
    """
    file = _printable(file or "")
    if len(text) > MAX_BYTES:
        raise BlobnetError(f"the text is longer than {MAX_BYTES >> 20} MiB: no prototxt is", file=file)
    with collector.paused():
        _Parser(text, file, faults, most).fill(message)
    return message


def dump(message: Message) -> str:
    """The text of a message as Caffe reads it."""
    bare = type(message)()
    bare.CopyFrom(message)
    return text_format.MessageToString(strip_source_info(bare))


def strip_source_info(message: AnyMessage) -> AnyMessage:
    """Remove the line numbers from a message, and from all messages within it, and return it."""
    if "source_info" in message.DESCRIPTOR.fields_by_name:
        message.ClearField("source_info")
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in [value] if isinstance(value, Message) else value:
                strip_source_info(child)
    return message


_Proto = descriptor_pb2.FieldDescriptorProto
_INT32 = (-(1 << 31), (1 << 31) - 1)
_INTEGER_RANGES: dict[int, tuple[int, int]] = {
    _Proto.TYPE_BOOL: (0, 1),
    _Proto.TYPE_ENUM: _INT32,
    _Proto.TYPE_INT32: _INT32,
    _Proto.TYPE_UINT32: (0, (1 << 32) - 1),
    _Proto.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
}
_VALUE_BYTES = 64  # that a repeated value is counted as: with what it takes to read it
_MOST_LINES = 1000  # of repeated values that are kept; what comes later counts as standing where the first one does
_BOOLEANS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}
_CLOSING = {"{": "}", "<": ">"}
_SEPARATORS = {",", ";"}


class _Field(NamedTuple):
    name: str
    type: int
    repeated: bool
    required: bool
    enum: EnumDescriptor | None
    range: tuple[int, int]  # of a whole number


@cache
def _fields(descriptor: Descriptor) -> dict[str, _Field]:
    """The fields that a text may name."""
    proto = descriptor_pb2.DescriptorProto()
    descriptor.CopyToProto(proto)
    enums = {field.name: field.enum_type for field in descriptor.fields}
    return {
        field.name: _Field(
            field.name,
            field.type,
            field.label == _Proto.LABEL_REPEATED,
            field.label == _Proto.LABEL_REQUIRED,
            enums[field.name],
            _INTEGER_RANGES.get(field.type, _INT32),
        )
        for field in proto.field
        if field.name != "source_info"
    }


@cache
def _required(descriptor: Descriptor) -> list[str]:
    return [field.name for field in _fields(descriptor).values() if field.required]


@cache
def _holds_lines(descriptor: Descriptor) -> bool:
    return "source_info" in descriptor.fields_by_name


@cache
def _message_bytes(descriptor: Descriptor) -> int:
    """What a message takes at least: protobuf keeps a place for every field it may have."""
    return 64 + 8 * len(descriptor.fields) + 64 * _holds_lines(descriptor)


@dataclass
class _Holder:
    """A message with a source_info, and the places of its fields as they go there."""

    message: Any
    places: io.StringIO = dataclasses.field(default_factory=io.StringIO)


class _Parser:
    """Recursive descent with one token of look-ahead, ``next``."""

    def __init__(self, text: str, file: str, faults: list[BlobnetError] | None, most_faults: int):
        self.file = file
        self.faults = faults
        self.most_faults = most_faults
        self.depth = 0
        self.holders: list[_Holder] = []  # around this place
        self.room = _ROOM + 4 * len(text) - sys.getsizeof(text)
        self.read_token = tokenize(text).__next__
        self.advance()

    def advance(self) -> None:
        self.next = self.read_token()

    def take(self, mark: str) -> bool:
        if self.next.text != mark or self.next.kind != "mark":
            return False
        self.advance()
        return True

    def error(self, text: str, line: int | None = None) -> BlobnetError:
        layer = describe_layer(self.holders[-1].message) if self.holders else None
        return BlobnetError(text, file=self.file, line=line or self.next.line, layer=layer)

    def report(self, fault: BlobnetError) -> None:
        """Raise a fault, unless faults are collected."""
        if self.faults is None:
            raise fault
        self.faults.append(fault)
        if len(self.faults) == self.most_faults:
            raise self.error(f"more than {self.most_faults} faults; what follows was not read")

    def take_room(self, size: int) -> None:
        self.room -= size
        if self.room < 0:
            raise self.error("holds more messages than can be read: each takes far more memory than its text")

    def fill(self, message: Message) -> None:
        self.read_fields(message, "", 1)
        if self.next.kind != "end":
            raise self.error(f"expected a field name, got {self.next}")

    def read_fields(self, message: Message, path: str, line: int) -> None:
        """The fields of a message that began at ``line``, up to whatever is no field name."""
        descriptor = message.DESCRIPTOR
        self.take_room(_message_bytes(descriptor))
        is_holder = _holds_lines(descriptor)
        if is_holder:
            self.holders.append(_Holder(message))
            path = ""
        fields = _fields(descriptor)
        while self.next.kind == "name":
            field = fields.get(self.next.text)
            if field is None:
                self.report(self.error(_unknown_field(descriptor.name, self.next, fields)))
                self.skip_field()
            else:
                self.read_field(message, field, path)
            if self.next.text in _SEPARATORS and self.next.kind == "mark":
                self.advance()
        for name in _required(descriptor):
            if not message.HasField(name):
                self.report(self.error(f"{descriptor.name} needs the field {name}", line))
        if is_holder:
            self.leave(line)

    def leave(self, line: int) -> None:
        """Write down where the innermost holder, and what is in it, stood."""
        holder = self.holders.pop()
        info = holder.message.source_info
        info.file, info.line, info.fields = self.file, line, holder.places.getvalue()
        self.take_room(len(self.file))

    def read_field(self, message: Message, field: _Field, path: str) -> None:
        """``name: value``, ``name { ... }`` or ``name: [value, ...]``."""
        line = self.next.line
        if not field.repeated and message.HasField(field.name):
            self.report(self.error(f"{path}{field.name} is given twice{self.first_place(path, field)}; remove one"))
        self.advance()
        is_message = field.type == _Proto.TYPE_MESSAGE
        if not self.take(":") and not is_message:
            raise self.error(f'expected ":" after {field.name}, got {self.next}')
        read_one = self.read_message if is_message else self.read_scalar
        if not (field.repeated and self.take("[")):
            read_one(message, field, path, line)
        elif not self.take("]"):
            read_one(message, field, path, self.next.line)
            while self.take(","):
                read_one(message, field, path, self.next.line)
            if not self.take("]"):
                raise self.error(f'expected "," or "]" in the list {field.name}, got {self.next}')

    def skip_field(self) -> None:
        """Pass over a field: its name, and a value, message or list, whatever is in it."""
        self.advance()
        self.take(":")
        depth = 0
        while self.next.kind != "end":
            mark = self.next.text if self.next.kind == "mark" else ""
            if depth == 0 and mark and mark not in "{<[-":
                return
            self.take_room(_VALUE_BYTES)
            depth += (mark in ("{", "<", "[")) - (mark in ("}", ">", "]"))
            is_string = self.next.kind == "string"
            self.advance()
            if depth == 0 and mark != "-" and not (is_string and self.next.kind == "string"):
                return

    def first_place(self, path: str, field: _Field) -> str:
        if not self.holders or field.type == _Proto.TYPE_MESSAGE:
            return ""
        return f" (first at line {field_line(self.holders[-1].places.getvalue(), path + field.name)})"

    def read_message(self, message: Message, field: _Field, path: str, line: int) -> None:
        closing = _CLOSING.get(self.next.text)
        if closing is None or self.next.kind != "mark":
            raise self.error(f'expected "{{" after {field.name}, got {self.next}')
        if self.depth == MAX_DEPTH:
            raise self.error(f"messages are nested more than {MAX_DEPTH} deep")
        self.advance()
        if field.repeated:
            siblings = getattr(message, field.name)
            path = element(path + field.name, len(siblings))
            child = siblings.add()
        else:
            path += field.name
            child = getattr(message, field.name)
            child.SetInParent()
        if not _holds_lines(child.DESCRIPTOR):
            self.note(path, line)
        self.depth += 1
        self.read_fields(child, path + ".", line)
        self.depth -= 1
        if not self.take(closing):
            raise self.error(
                f'expected a field of {child.DESCRIPTOR.name} or "{closing}" '
                f"to end {field.name}, begun at line {line}; got {self.next}"
            )

    def read_scalar(self, message: Message, field: _Field, path: str, line: int) -> None:
        start = self.next
        try:
            value = self.read_value(field)
        except BlobnetError as fault:
            self.report(fault)
            if self.next is start or self.next.kind in ("number", "string", "bad"):
                self.advance()
            return
        if field.repeated:
            values = getattr(message, field.name)
            self.take_room(_VALUE_BYTES)
            if len(values) < _MOST_LINES:
                self.note(element(path + field.name, len(values)), line)
            values.append(value)
        else:
            self.note(path + field.name, line)
            setattr(message, field.name, value)

    def note(self, path: str, line: int) -> None:
        if self.holders:
            place = f"{path}:{line} "
            self.holders[-1].places.write(place)
            self.take_room(len(place))

    def read_value(self, field: _Field) -> str | bytes | int | float | bool:
        return _READERS[field.type](self, field)

    def read_string(self, field: _Field) -> str:
        line = self.next.line
        try:
            return self.read_bytes(field).decode("utf-8")
        except UnicodeDecodeError as error:
            text = f"{field.name} holds bytes that are not UTF-8; save the file as UTF-8"
            raise self.error(text, line) from error

    def read_bytes(self, field: _Field) -> bytes:
        if self.next.kind != "string":
            raise self.error(f"{field.name} is a string in quotes; got {self.next}")
        parts = []
        while self.next.kind == "string":
            try:
                parts.append(unquote(self.next.text))
            except UnicodeEncodeError as error:
                raise self.error(f"{field.name} is {self.next}, which is not UTF-8") from error
            except KeyError as error:
                raise self.error(f"{field.name} is {self.next}; in a string, write \\\\ for a backslash") from error
            self.advance()
        return b"".join(parts)

    def read_enum(self, field: _Field) -> int:
        enum: Any = field.enum
        known, token = enum.values_by_name, self.next
        if token.kind == "number" or token.text == "-":
            number = self.read_integer(field)
            if number not in enum.values_by_number:
                raise self.error(f"{field.name} has no value {number}{_values(enum)}", token.line)
            return number
        if token.kind == "string":
            hint = did_you_mean(token.text[1:-1], known) or _values(enum)
            raise self.error(f"{field.name} is a word without quotes; got {token}{hint}")
        if token.kind != "name" or token.text not in known:
            owner = enum.full_name.partition(".")[2]
            hint = forks.hint(owner, token.text) or did_you_mean(token.text, known) or _values(enum)
            raise self.error(f"{field.name} has no value {token}{hint}")
        self.advance()
        return known[token.text].number

    def read_bool(self, field: _Field) -> bool:
        if self.next.kind == "number":
            return bool(self.read_integer(field))
        if self.next.text not in _BOOLEANS:
            raise self.error(f"{field.name} is true or false; got {self.next}")
        value = _BOOLEANS[self.next.text]
        self.advance()
        return value

    def read_integer(self, field: _Field) -> int:
        sign = "-" if self.take("-") else ""
        try:
            value = to_integer(self.next)
        except ValueError as error:
            raise self.error(f"{field.name} is a whole number; got {sign}{self.next}") from error
        value = -value if sign else value
        low, high = field.range
        if not low <= value <= high:
            raise self.error(f"{field.name} is a whole number from {low} to {high}; got {sign}{self.next}")
        self.advance()
        return value

    def read_float(self, field: _Field) -> float:
        sign = "-" if self.take("-") else ""
        try:
            value = to_float(self.next)
        except ValueError as error:
            raise self.error(f"{field.name} is a number; got {sign}{self.next}") from error
        self.advance()
        return -value if sign else value


_READERS: dict[int, Callable[[_Parser, _Field], str | bytes | int | float | bool]] = {
    _Proto.TYPE_STRING: _Parser.read_string,
    _Proto.TYPE_BYTES: _Parser.read_bytes,
    _Proto.TYPE_ENUM: _Parser.read_enum,
    _Proto.TYPE_BOOL: _Parser.read_bool,
    **dict.fromkeys((_Proto.TYPE_INT32, _Proto.TYPE_UINT32, _Proto.TYPE_INT64), _Parser.read_integer),
    **dict.fromkeys((_Proto.TYPE_FLOAT, _Proto.TYPE_DOUBLE), _Parser.read_float),
}


def _values(enum: EnumDescriptor) -> str:
    return f"; the values are {', '.join(enum.values_by_name)}"


def _printable(file: str) -> str:
    """A file name whose bytes are not UTF-8 has them escaped: messages hold UTF-8 only."""
    return file.encode("utf-8", errors="backslashreplace").decode("utf-8")


def _unknown_field(owner: str, token: Token, fields: dict[str, _Field]) -> str:
    name = token.text
    hint = forks.hint(owner, name) or _elsewhere(name) or did_you_mean(name, fields)
    return f'{owner} has no field "{token}"{hint}'


def _elsewhere(name: str) -> str:
    """``; SolverParameter has it`` for a field of other messages, where these are few."""
    messages = blobnet_pb2.DESCRIPTOR.message_types_by_name.values()
    owners = [message.name for message in messages if name in _fields(message)]
    owners = [owner for owner in owners if not owner.startswith("V")]
    if not 1 <= len(owners) <= 4:
        return ""
    return f"; {' and '.join(owners)} {'has' if len(owners) == 1 else 'have'} it"
