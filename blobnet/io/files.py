"""Whole files: read with their faults named, written so that no reader ever sees half of one."""

import contextlib
import errno
import fcntl
import functools
import hashlib
import logging
import os
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from blobnet.errors import BlobnetError

log = logging.getLogger("blobnet")

MESSAGE_LIMIT = (1 << 31) - 1  # protobuf's own


def most_decoded(size: int) -> int:
    """Bytes that what is packed in a file or record of ``size`` bytes may come to; more is taken for a bomb."""
    return (64 << 20) + 4 * size


@contextlib.contextmanager
def os_errors(path: str | os.PathLike, action: str) -> Iterator[None]:
    """Turn an OSError of the block into a BlobnetError: ``cannot <action>: <the system's reason>``."""
    try:
        yield
    except OSError as error:
        raise BlobnetError(f"cannot {action}: {error.strerror or error}", file=str(path)) from error


def read_bytes(path: str | os.PathLike, limit: int | None = None) -> bytes:
    """The content of a regular file, refused where it is larger than ``limit``."""
    with os_errors(path, "read"):
        status = os.stat(_checked(path))
        if not stat.S_ISREG(status.st_mode):
            raise BlobnetError("cannot read: it is not a regular file", file=str(path))
        if limit is not None and status.st_size > limit:
            raise BlobnetError(f"cannot read {status.st_size} bytes: the limit is {limit}", file=str(path))
        return Path(path).read_bytes()


def _checked(path: str | os.PathLike) -> str | os.PathLike:
    if "\0" in os.fspath(path):
        raise BlobnetError("cannot read: a file name must not hold a zero byte", file=ascii(path))
    return path


def sha256(path: str | os.PathLike) -> str:
    """The checksum of a file's content, as hexadecimal digits."""
    with os_errors(path, "read"), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_message(path: str | os.PathLike, message: Any) -> Any:
    """Fill ``message`` from a binary protobuf file and return it.

    A file that is truncated or holds nothing of the message's kind is an error.
    """
    parse_message(read_bytes(path, MESSAGE_LIMIT), message, str(path))
    return message


def parse_message(data: bytes, message: Any, place: str) -> None:
    """Fill ``message`` from its binary form; ``place`` names a file or record in an error."""
    decode_message(data, message, place)
    if not message.ListFields():
        raise BlobnetError(f"holds no field of a {message.DESCRIPTOR.name} ({len(data)} bytes)", file=place)
    if _holds_text(message.DESCRIPTOR):
        _check_text(message, place)


def decode_message(data: bytes, message: Any, place: object) -> None:
    """As ``parse_message``, but empty and unknown fields are none of its business, nor is text that is not UTF-8.

    place  as text, what the error names
    """
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        kind = message.DESCRIPTOR.name
        raise BlobnetError(f"is no binary {kind}, or is truncated ({len(data)} bytes)", file=str(place)) from error


@functools.cache
def _holds_text(descriptor: Descriptor) -> bool:
    """Whether a message of this kind, or one within it, has a string field."""
    return any(
        field.cpp_type == FieldDescriptor.CPPTYPE_STRING and field.type != FieldDescriptor.TYPE_BYTES
        for message in _kinds_within(descriptor)
        for field in message.fields
    )


def _kinds_within(descriptor: Descriptor) -> set[Descriptor]:
    found, waiting = set(), [descriptor]
    while waiting:
        kind = waiting.pop()
        if kind not in found:
            found.add(kind)
            waiting.extend(field.message_type for field in kind.fields if field.message_type)
    return found


def _check_text(message: Any, place: str) -> None:
    """Refuse text that is not UTF-8: protobuf hands it out as bytes, which no string field takes."""
    for field, value in message.ListFields():
        values = [value] if isinstance(value, str | bytes | Message) else value
        if field.message_type is not None:
            if _holds_text(field.message_type):
                for child in values:
                    _check_text(child, place)
        elif field.type == FieldDescriptor.TYPE_STRING and any(isinstance(text, bytes) for text in values):
            kind = message.DESCRIPTOR.name
            raise BlobnetError(f"is damaged: {field.name} of a {kind} is no UTF-8 text", file=place)


def write_message(path: str | os.PathLike, message: Any) -> None:
    """Write a message in binary form, atomically."""
    content = message_content(message, path)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def message_content(message: Any, path: str | os.PathLike) -> bytes:
    """The binary form of a message; ``path`` names the file it is for in an error."""
    if message.ByteSize() > MESSAGE_LIMIT:
        raise BlobnetError(
            f"cannot write {message.ByteSize()} bytes: a binary protobuf file holds at most 2 GiB; use HDF5",
            file=str(path),
        )
    return message.SerializeToString()


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """A path in the folder of ``path`` to write to; the file takes its place when the block ends.

    The data are on the disk before the rename. On an error the temporary file is removed and what was at
    ``path`` stays.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    with os_errors(path, "write"):
        try:
            yield temporary
            flush(temporary)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush(target.parent)


def make_folder(path: Path) -> None:
    """Make a folder where there is none, and say so: it may be one whose name was misspelt."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        log.info("%s: no such folder was there; made it", path)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file while the block runs; an error where another process holds it, which is named.

    The system drops the lock of a process that ends, however it ends; what then lies at ``path`` bars nobody. A
    process made by fork does not hold it. Where the file system knows no locks, nobody is kept away.
    """
    descriptor = _lock(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
                os.close(descriptor)
                raise BlobnetError(f"is held by {holder}", file=str(path)) from error
            log.warning("%s: this file system knows no locks (%s)", path, error.strerror)
            return descriptor
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            os.truncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return descriptor
        os.close(descriptor)  # its holder has just removed it


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which takes the name ``path`` when the block ends without an error.

    What is there already is an error.
    """
    if path.exists():
        raise BlobnetError("already exists; remove it or name another folder", file=str(path))
    with os_errors(path, "write"):
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        with os_errors(path, "write"):
            temporary.chmod(0o755)
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def append(path: str | os.PathLike, content: bytes) -> None:
    """Append to a file: all of it or, where the disk is full, nothing."""
    with os_errors(path, "write"), open(path, "ab", buffering=0) as file:
        size = file.tell()
        try:
            if file.write(content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(size)
            raise


def flush(path: Path) -> None:
    """Have what was written to a file or folder on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
