"""Text format (prototxt) to message, remembering the line of every field, and back.

First step of the flow: files become messages here, ``passes.upgrade`` lifts them next. The grammar is protobuf's text
format as Caffe's files use it. Lines go into the ``source_info`` of each message that has one; ``errors.locate`` finds
them there. Its ``path`` is relative to that message, dotted, and a repeated field's elements after the first carry
their index: ``convolution_param.num_output``, ``param.lr_mult``, ``param[1].lr_mult``. A message that has a
``source_info`` of its own has no entry in its parent's.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

from google.protobuf import descriptor_pb2, text_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.message import Message

from blobnet.errors import BlobnetError, describe_layer, did_you_mean
from blobnet.proto import forks

MAX_BYTES = 64 << 20
MAX_DEPTH = 100

AnyMessage = TypeVar("AnyMessage", bound=Message)


def read(path: str | Path, message: AnyMessage) -> AnyMessage:
    """Fill ``message`` from a text file. Raises BlobnetError where it cannot be read or parsed."""
    file = str(path)
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise BlobnetError(f"cannot read the file: {getattr(error, 'strerror', None) or error}", file=file) from None
    if len(data) > MAX_BYTES:
        raise BlobnetError(f"the file is larger than {MAX_BYTES >> 20} MiB, too large for a prototxt", file=file)
    if not data.strip():
        raise BlobnetError("the file is empty", file=file)
    if b"\0" in data:
        raise BlobnetError("a binary file; a prototxt (text) is needed here", file=file)
    return parse(data.decode("utf-8-sig", errors="surrogateescape"), message, file)


def parse(text: str, message: AnyMessage, file: str | None = None) -> AnyMessage:
    """Fill ``message``, which must be empty, from text and return it.

    Raises BlobnetError at file and line for what protobuf's parser would refuse: unknown fields and enum values,
    values of the wrong kind or out of range, a field given twice that is not repeated, missing required fields.
    """
    if len(text) > MAX_BYTES:
        raise BlobnetError(f"the text is longer than {MAX_BYTES >> 20} MiB, too long for a prototxt", file=file)
    _Parser(text, file).fill(message)
    return message


def dump(message: Message) -> str:
    """The text of a message as Caffe reads it."""
    bare = type(message)()
    bare.CopyFrom(message)
    strip_source_info(bare)
    return text_format.MessageToString(bare)


def strip_source_info(message: Message) -> None:
    """Remove the line numbers from a message and from all messages within it."""
    if "source_info" in message.DESCRIPTOR.fields_by_name:
        message.ClearField("source_info")
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in [value] if isinstance(value, Message) else value:
                strip_source_info(child)


class _Field(NamedTuple):
    name: str
    type: int
    repeated: bool
    required: bool
    enum: EnumDescriptor | None


@cache
def _fields(descriptor: Descriptor) -> dict[str, _Field]:
    """The fields a text may name, by name."""
    proto = descriptor_pb2.DescriptorProto()
    descriptor.CopyToProto(proto)
    return {
        field.name: _Field(
            field.name,
            field.type,
            field.label == field.LABEL_REPEATED,
            field.label == field.LABEL_REQUIRED,
            descriptor.fields_by_name[field.name].enum_type,
        )
        for field in proto.field
        if field.name != "source_info"
    }


_TOKEN = re.compile(
    r"""
    \s++ | \#.*+
  | (?P<name> [A-Za-z_]\w*+ )
  | (?P<number> (?: 0[xX][0-9a-fA-F]++ | (?: \d++\.?+\d*+ | \.\d++ ) (?: [eE][+-]?+\d++ )?+ [fF]?+ ) (?![\w.]) )
  | (?P<string> "(?:[^"\\]++|\\.)*+" | '(?:[^'\\]++|\\.)*+' )
  | (?P<mark> [{}<>:\[\],;-] )
  | (?P<bad> [\w.]++ | . )
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """(kind, text, line) of each token, then an endless ("end", "", last line)."""
    line = 0
    for line, content in enumerate(text.split("\n"), 1):  # noqa: B007
        for match in _TOKEN.finditer(content):
            if match.lastgroup:
                yield match.lastgroup, match.group(), line
    while True:
        yield "end", "", line


_TYPE = descriptor_pb2.FieldDescriptorProto
_INTEGER_RANGES = {
    _TYPE.TYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    _TYPE.TYPE_UINT32: (0, (1 << 32) - 1),
    _TYPE.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
}
_BOOLEANS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}
_SPECIAL_FLOATS = {"inf", "infinity", "nan"}
_CLOSING = {"{": "}", "<": ">"}

_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(.))", re.DOTALL)
_SIMPLE_ESCAPES = {
    b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v",
    b"\\": b"\\", b"'": b"'", b'"': b'"', b"?": b"?",
}  # fmt: skip


def _unescape(match: re.Match) -> bytes:
    hexadecimal, short, long, octal, letter = match.groups()
    if letter:
        return _SIMPLE_ESCAPES[letter]
    if octal:
        return bytes([int(octal, 8)])
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    return chr(int(short or long, 16)).encode("utf-8")


class _Parser:
    """Recursive descent with one token of look-ahead: ``kind``, ``token`` and ``line`` are those of the next token."""

    def __init__(self, text: str, file: str | None):
        self.file = file
        self.depth = 0
        self.enclosing: list[Message] = []  # the messages around this place that have a source_info
        self.tokens = _tokens(text)
        self.advance()

    def advance(self) -> None:
        self.kind, self.token, self.line = next(self.tokens)

    def accept(self, mark: str) -> bool:
        if self.token != mark or self.kind != "mark":
            return False
        self.advance()
        return True

    def expect(self, mark: str, where: str) -> None:
        if not self.accept(mark):
            self.fail(f'expected "{mark}" {where}, got {self.describe_token()}')

    def describe_token(self) -> str:
        if self.kind == "end":
            return "the end of the file"
        if self.token[0] in "\"'" and self.kind == "bad":
            return "a string without its closing quote on the same line"
        return _quote(self.token)

    def fail(self, text: str, line: int | None = None) -> NoReturn:
        around = self.enclosing[-1] if self.enclosing else None
        layer = describe_layer(around) if around is not None and getattr(around, "name", "") else None
        raise BlobnetError(text, file=self.file, line=line or self.line, layer=layer)

    def fill(self, message: Message) -> None:
        """The whole text."""
        self.fill_message(message, "", 1, "")
        if self.kind != "end":
            self.fail(f"expected a field name, got {self.describe_token()}")

    def fill_message(self, message: Message, path: str, line: int, closing: str) -> None:
        """The fields of one message, up to and without its closing mark."""
        own_info = "source_info" in message.DESCRIPTOR.fields_by_name
        if own_info:
            message.source_info.file = self.file or ""
            message.source_info.line = line
            self.enclosing.append(message)
            path = ""
        fields = _fields(message.DESCRIPTOR)
        while self.kind == "name":
            self.read_field(message, fields, path)
            _ = self.accept(",") or self.accept(";")
        if closing and self.token != closing:
            self.fail(f'expected a field of {message.DESCRIPTOR.name} or "{closing}", got {self.describe_token()}')
        for field in fields.values():
            if field.required and not message.HasField(field.name):
                self.fail(f"{message.DESCRIPTOR.name} needs the field {field.name}", line)
        if own_info:
            self.enclosing.pop()

    def read_field(self, message: Message, fields: dict[str, _Field], path: str) -> None:
        """One ``name: value``, ``name { ... }`` or ``name: [value, ...]``."""
        name, line = self.token, self.line
        field = fields.get(name)
        if field is None:
            self.fail(_unknown_field(message, name, fields))
        if not field.repeated and message.HasField(name):
            self.fail(f"{path}{name} is given twice, but is not a repeated field; remove one")
        self.advance()
        is_message = field.type == _TYPE.TYPE_MESSAGE
        if not self.accept(":") and not is_message:
            self.fail(f'expected ":" after {name}, got {self.describe_token()}')
        read_one = self.read_message if is_message else self.read_scalar
        if not field.repeated or not self.accept("["):
            read_one(message, field, path, line)
            return
        if self.accept("]"):
            return
        read_one(message, field, path, self.line)
        while self.accept(","):
            read_one(message, field, path, self.line)
        self.expect("]", f"at the end of the list of {name}")

    def read_message(self, message: Message, field: _Field, path: str, line: int) -> None:
        closing = _CLOSING.get(self.token) if self.kind == "mark" else None
        if closing is None:
            self.fail(f'expected "{{" after {field.name}, got {self.describe_token()}')
        if self.depth == MAX_DEPTH:
            self.fail(f"messages are nested more than {MAX_DEPTH} deep")
        self.advance()
        if field.repeated:
            siblings = getattr(message, field.name)
            path = _indexed(path + field.name, len(siblings))
            child = siblings.add()
        else:
            path += field.name
            child = getattr(message, field.name)
            child.SetInParent()
        if "source_info" not in child.DESCRIPTOR.fields_by_name:
            self.note_line(path, line)
        self.depth += 1
        self.fill_message(child, path + ".", line, closing)
        self.depth -= 1
        self.advance()

    def read_scalar(self, message: Message, field: _Field, path: str, line: int) -> None:
        value = self.read_value(field)
        if field.repeated:
            values = getattr(message, field.name)
            self.note_line(_indexed(path + field.name, len(values)), line)
            values.append(value)
        else:
            self.note_line(path + field.name, line)
            setattr(message, field.name, value)

    def note_line(self, path: str, line: int) -> None:
        if self.enclosing:
            self.enclosing[-1].source_info.field.add(path=path, line=line)

    def read_value(self, field: _Field) -> str | bytes | int | float | bool:
        if field.type in (_TYPE.TYPE_STRING, _TYPE.TYPE_BYTES):
            return self.read_string(field)
        if field.enum is not None:
            return self.read_enum(field.name, field.enum)
        if field.type == _TYPE.TYPE_BOOL:
            return self.read_bool(field.name)
        if field.type in _INTEGER_RANGES:
            return self.read_integer(field.name, *_INTEGER_RANGES[field.type])
        return self.read_float(field.name)

    def read_string(self, field: _Field) -> str | bytes:
        if self.kind != "string":
            self.fail(f"{field.name} is a string in quotes; got {self.describe_token()}")
        value = b""
        while self.kind == "string":
            quoted = self.token[1:-1].encode("utf-8", errors="surrogateescape")
            try:
                value += _ESCAPE.sub(_unescape, quoted)
            except (KeyError, ValueError, OverflowError):
                self.fail(f"{field.name} has an escape sequence that text format does not know: {_quote(self.token)}")
            line = self.line
            self.advance()
        if field.type == _TYPE.TYPE_BYTES:
            return value
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            self.fail(f"{field.name} holds bytes that are not UTF-8; save the file as UTF-8", line)

    def read_enum(self, name: str, enum: EnumDescriptor) -> int:
        known = enum.values_by_name
        if self.kind == "name" and self.token in known:
            number = known[self.token].number
            self.advance()
            return number
        if self.kind in ("number", "mark"):
            number = self.read_integer(name, *_INTEGER_RANGES[_TYPE.TYPE_INT32])
            if number in enum.values_by_number:
                return number
            self.fail(f"{name} has no value {number}; the values are {', '.join(known)}")
        if self.kind == "string":
            self.fail(f"{name} is a word without quotes ({', '.join(known)}); got {self.token}")
        hint = did_you_mean(self.token, known) or f"; the values are {', '.join(known)}"
        self.fail(f"{name} has no value {self.describe_token()}{forks.of_value(enum, self.token)}{hint}")

    def read_bool(self, name: str) -> bool:
        if self.kind == "number":
            return bool(self.read_integer(name, 0, 1))
        if self.kind != "name" or self.token not in _BOOLEANS:
            self.fail(f"{name} is true or false; got {self.describe_token()}")
        value = _BOOLEANS[self.token]
        self.advance()
        return value

    def read_integer(self, name: str, low: int, high: int) -> int:
        negative = self.accept("-")
        sign = "-" if negative else ""
        try:
            value = _to_integer(self.token)
        except ValueError:
            self.fail(f"{name} is a whole number; got {sign}{self.describe_token()}")
        value = -value if negative else value
        if not low <= value <= high:
            self.fail(f"{name} must be from {low} to {high}; got {sign}{self.token}")
        self.advance()
        return value

    def read_float(self, name: str) -> float:
        negative = self.accept("-")
        word = self.token.lower()
        decimal = self.kind == "number" and not re.match(r"0[x\d]", word)
        if not decimal and word not in _SPECIAL_FLOATS:
            self.fail(f"{name} is a number; got {self.describe_token()}")
        self.advance()
        value = float(word.rstrip("f") if decimal else word)
        return -value if negative else value


def _to_integer(token: str) -> int:
    """Decimal, 0x hexadecimal or 0 octal; ValueError for anything else."""
    if token[:2] in ("0x", "0X"):
        return int(token, 16)
    return int(token, 8 if token.startswith("0") else 10)


def _indexed(path: str, index: int) -> str:
    return f"{path}[{index}]" if index else path


def _quote(token: str) -> str:
    shown = token if len(token) <= 40 else f"{token[:40]}..."
    return repr(shown) if not shown.isprintable() else shown if shown[0] in "\"'" else f'"{shown}"'


def _unknown_field(message: Message, name: str, fields: dict[str, _Field]) -> str:
    owner = message.DESCRIPTOR.name
    return f'{owner} has no field "{name}"{forks.of_field(owner, name)}{did_you_mean(name, fields)}'
