"""The one exception family: every fault of an input is a BlobnetError that names file, line and layer.

Positions come from ``source_info``, which the text parser leaves in each message.
"""

import difflib
from collections.abc import Iterable, Mapping

_LONGEST_NAME = 200  # that is worth comparing, which takes the product of both lengths


class BlobnetError(RuntimeError):
    """Something in a user's file, data or call is wrong.

    ``str(error)`` reads ``lenet.prototxt:34: layer "conv2" (Convolution): <rule, value found, remedy>``.
    """

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None, layer: str | None = None):
        self.message = message
        self.file = file
        self.line = line
        self.layer = layer
        super().__init__(message)

    def __str__(self) -> str:
        line = f":{self.line}" if self.file else f"line {self.line}"
        place = (self.file or "") + (line if self.line else "")
        return ": ".join(part for part in (place, self.layer, self.message) if part)


def error_at(message, text: str, field: str = "") -> BlobnetError:
    """The error for a proto message (NetParameter, LayerParameter, ...), placed at one of its fields.

    ``field`` is a dotted path within the message, such as ``convolution_param.group`` or ``param[1].lr_mult``;
    where that field has no line of its own, the nearest enclosing one counts.
    """
    file, line = locate(message, field)
    return BlobnetError(text, file=file, line=line, layer=describe_layer(message))


def locate(message, field: str = "") -> tuple[str | None, int | None]:
    """File and line of a message or of one of its fields, (None, None) when it came from no text file."""
    info = message.source_info
    path, fields = field.replace("[0]", ""), info.fields
    line = None
    while path and line is None:
        line = field_line(fields, path)
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return info.file or None, line or info.line or None


def field_line(fields: str, path: str) -> int | None:
    """The line of one field that ``SourceInfo.fields`` lists; the first one of a field that stands there twice."""
    _, found, behind = f" {fields} ".partition(f" {path}:")
    return int(behind[: behind.index(" ")]) if found else None


def field_lines(fields: str) -> dict[str, int]:
    """The lines of the fields that ``SourceInfo.fields`` lists, by their paths."""
    places = (place.rpartition(":") for place in fields.split())
    return {path: int(line) for path, _, line in places}


def set_field_lines(info, lines: Mapping[str, int]) -> None:
    """The way back from ``field_lines``, into a SourceInfo."""
    info.fields = " ".join(f"{path}:{line}" for path, line in lines.items())


def element(field: str, index: int) -> str:
    """The path of one element of a repeated field: the first goes without its index, as in blobnet.proto."""
    return f"{field}[{index}]" if index else field


def describe_layer(message) -> str | None:
    """``layer "conv1" (Convolution)`` for a layer of any version, None for other and for empty messages."""
    if not message.DESCRIPTOR.name.endswith("LayerParameter") or not (message.name or message.type):
        return None
    type_field = message.DESCRIPTOR.fields_by_name["type"]
    kind = type_field.enum_type.values_by_number[message.type].name if type_field.enum_type else message.type
    return f'layer "{message.name}" ({kind})' if kind else f'layer "{message.name}"'


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean "ReLU"?`` for the nearest known name, or an empty string: long names have none."""
    folded = {candidate.lower(): candidate for candidate in known if len(candidate) <= _LONGEST_NAME}
    if len(name) > min(_LONGEST_NAME, 2 * max(map(len, folded), default=0)):
        return ""
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return f'; did you mean "{folded[near[0]]}"?' if near else ""
