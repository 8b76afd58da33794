"""Fields moved between messages of different versions, with the lines they stand on. For the upgrade passes."""

from typing import Any

from blobnet.errors import field_lines, set_field_lines


def assign(message: Any, path: str, value: Any) -> None:
    """Set the field at a dotted path: a message or repeated value is merged in, a single one appended to a list."""
    *outer, name = path.split(".")
    for part in outer:
        message = getattr(message, part)
    field = getattr(message, name)
    if hasattr(value, "MergeFrom"):
        field.MergeFrom(value)
    elif hasattr(field, "append"):
        field.append(value)
    else:
        setattr(message, name, value)


def carry_lines(source: Any, target: Any, renamed: dict[str, str]) -> None:
    """Add the file and lines that ``source`` came from to ``target``, which was made from it.

    ``renamed`` maps an old path, whole or its first part, to the new one; other paths keep their name.
    """
    if not source.HasField("source_info"):
        return
    info = source.source_info
    target.source_info.file = info.file
    target.source_info.line = info.line
    lines = {}
    for path, line in field_lines(info.fields).items():
        first, dot, rest = path.partition(".")
        lines[renamed.get(path) or renamed.get(first, first) + dot + rest] = line
    set_field_lines(target.source_info, lines)
