"""LevelDB, read-only: the record log, the sorted tables and their merge, with every checksum verified.

After the format documents of LevelDB (doc/log_format.md, doc/table_format.md, doc/impl.md). A key is followed
in the files by eight bytes: a sequence number of 56 bits and a kind (1 value, 0 deletion). Of several entries
for one key the one with the highest sequence number counts.
"""

import heapq
import mmap
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from blobnet.errors import BlobnetError
from blobnet.io.files import os_errors, read_bytes
from blobnet.kernels import checksum

LOG_BLOCK = 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_DELETION, _VALUE = 0, 1
COMPARATOR = b"leveldb.BytewiseComparator"
MAGIC = 0xDB4775248B80FB57
FOOTER = 48
_TRAILER = 5  # compression byte and checksum behind each block
_UNCOMPRESSED, _SNAPPY = 0, 1
_BLOCK_LIMIT = 1 << 30

Entry = tuple[bytes, int, int, bytes]  # user key, negated sequence number, kind, value: sorts in LevelDB's order


class Reader:
    """A LevelDB folder, open for reading. Nothing in it is changed or locked."""

    def __init__(self, path: Path):
        self.path = path
        manifest = self._current_manifest()
        version = _Version()
        for record in _log_records(manifest):
            version.apply(_Cursor(record, manifest))
        self._tables = [_Table(self._table_file(number)) for number in sorted(version.tables)]
        logs = [log for log in path.glob("*.log") if log.stem.isdecimal() and version.is_live_log(int(log.stem))]
        self._recent = sorted(entry for log in sorted(logs) for entry in _log_entries(log))

    def __len__(self) -> int:
        """How many records there are; LevelDB keeps no count, so all are read."""
        return sum(1 for _ in self.records())

    def records(self, start: int = 0) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in key order, from the record of that number on."""
        number = 0
        last_key = None
        for key, _, kind, value in heapq.merge(self._recent, *(table.entries() for table in self._tables)):
            if key == last_key:
                continue
            last_key = key
            if kind == _VALUE:
                if number >= start:
                    yield key, value
                number += 1

    def _current_manifest(self) -> Path:
        name = read_bytes(self.path / "CURRENT", 256).decode(errors="replace")
        if not re.fullmatch(r"MANIFEST-[0-9]+\n", name):
            raise BlobnetError(f"must name a manifest; got {name!r}", file=str(self.path / "CURRENT"))
        return self.path / name[:-1]

    def _table_file(self, number: int) -> Path:
        """Tables end in .ldb; LevelDB before 1.14 named them .sst."""
        names = [self.path / f"{number:06d}.{suffix}" for suffix in ("ldb", "sst")]
        return next((name for name in names if name.is_file()), names[0])


class _Version:
    """What the manifest says of the database: the live tables, and from which number on logs count."""

    def __init__(self) -> None:
        self.tables: set[int] = set()
        self._log = 0
        self._previous_log = 0

    def is_live_log(self, number: int) -> bool:
        return number >= self._log or number == self._previous_log

    def apply(self, edit: "_Cursor") -> None:
        while edit.left:
            tag = edit.varint()
            if tag == 1:
                comparator = edit.string()
                if comparator != COMPARATOR:
                    edit.fail(f"only the bytewise comparator is known; got {comparator!r}")
            elif tag == 2:
                self._log = edit.varint()
            elif tag == 9:
                self._previous_log = edit.varint()
            elif tag in (3, 4):  # next file number, last sequence number
                edit.varint()
            elif tag == 5:  # compaction pointer: level, key
                edit.varint()
                edit.string()
            elif tag == 6:
                edit.varint()
                self.tables.discard(edit.varint())
            elif tag == 7:
                edit.varint()
                self.tables.add(edit.varint())
                edit.varint()
                edit.string()
                edit.string()
            else:
                edit.fail(f"unknown tag {tag} in a version edit")


class _Table:
    """A sorted table: blocks of entries, found through a block of handles."""

    def __init__(self, path: Path):
        self._path = path
        with os_errors(path, "read"), open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < FOOTER:
                self._fail("is no sorted table: it is too short")
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        footer = self._data[-FOOTER:]
        if int.from_bytes(footer[-8:], "little") != MAGIC:
            self._fail("is no sorted table: it lacks the magic number at its end")
        handles = _Cursor(footer[:-8], path)
        handles.varint(), handles.varint()  # of the block of metadata
        self._index = list(self._block(handles))

    def entries(self) -> Iterator[Entry]:
        for _, handle in self._index:
            for key, value in self._block(_Cursor(handle, self._path)):
                if len(key) < 8:
                    self._fail(f"has a key of {len(key)} bytes; at least 8 are needed")
                trailer = int.from_bytes(key[-8:], "little")
                yield key[:-8], -(trailer >> 8), trailer & 0xFF, value

    def _block(self, handle: "_Cursor") -> Iterator[tuple[bytes, bytes]]:
        """The entries of the block at a handle. Keys leave out what they share with the one before."""
        block = _Cursor(self._content(handle.varint(), handle.varint()), self._path)
        restarts = block.tail_number()
        block.drop_tail(4 * (restarts + 1))
        key = b""
        while block.left:
            shared, rest, length = block.varint(), block.varint(), block.varint()
            if shared > len(key):
                self._fail("has a damaged block: a key shares more than there is")
            key = key[:shared] + block.take(rest)
            yield key, block.take(length)

    def _content(self, offset: int, size: int) -> bytes:
        block = self._data[offset : offset + size + _TRAILER]
        if len(block) != size + _TRAILER:
            self._fail(f"is truncated: a block should end at {offset + size + _TRAILER}")
        if checksum.masked(block[: size + 1]) != int.from_bytes(block[size + 1 :], "little"):
            self._fail(f"has a damaged block at {offset}: the checksum is wrong")
        if block[size] == _UNCOMPRESSED:
            return block[:size]
        if block[size] != _SNAPPY:
            self._fail(f"has a block of compression {block[size]}; only none (0) and snappy (1) are known")
        return self._uncompress(block[:size])

    def _uncompress(self, block: bytes) -> bytes:
        import cramjam

        if _Cursor(block, self._path).varint() > _BLOCK_LIMIT:
            self._fail("has a block that claims to be larger than 1 GiB")
        try:
            return bytes(cramjam.snappy.decompress_raw(block))
        except cramjam.DecompressionError as error:
            raise BlobnetError(f"has a damaged block: {error}", file=str(self._path)) from error

    def _fail(self, text: str) -> NoReturn:
        raise BlobnetError(text, file=str(self._path))


class _Cursor:
    """Reads numbers and strings from bytes. Running past the end is an error that names the file."""

    def __init__(self, data: bytes, path: Path):
        self._data = data
        self._position = 0
        self._path = path

    @property
    def left(self) -> int:
        return len(self._data) - self._position

    def take(self, count: int) -> bytes:
        if count > self.left:
            self.fail("is damaged: a record ends too soon")
        self._position += count
        return self._data[self._position - count : self._position]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def varint(self) -> int:
        value = shift = 0
        while (byte := self.number(1)) > 0x7F and shift < 63:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def string(self) -> bytes:
        return self.take(self.varint())

    def tail_number(self) -> int:
        return int.from_bytes(self._data[-4:], "little")

    def drop_tail(self, count: int) -> None:
        if count > self.left:
            self.fail("is damaged: a block is too short for its restart points")
        self._data = self._data[: len(self._data) - count]

    def fail(self, text: str) -> NoReturn:
        raise BlobnetError(text, file=str(self._path))


def _log_entries(path: Path) -> Iterator[Entry]:
    """The entries of a log: batches of a first sequence number, a count, then puts and deletions."""
    for record in _log_records(path):
        batch = _Cursor(record, path)
        sequence, count = batch.number(8), batch.number(4)
        for number in range(sequence, sequence + count):
            kind = batch.number(1)
            if kind not in (_DELETION, _VALUE):
                batch.fail(f"has an entry of unknown kind {kind}")
            key = batch.string()
            yield key, -number, kind, batch.string() if kind == _VALUE else b""


def _log_records(path: Path) -> Iterator[bytes]:
    """The records of a log file: fragments in blocks of 32 KiB, each with checksum, length and kind.

    A record that the writer did not finish, at the very end, never happened.
    """
    data = read_bytes(path)
    parts: list[bytes] = []
    for fragment_kind, fragment in _fragments(data, path):
        if fragment_kind in (_FULL, _FIRST):
            parts = []
        elif not parts:
            raise BlobnetError("is damaged: a log record lacks its start", file=str(path))
        parts.append(fragment)
        if fragment_kind in (_FULL, _LAST):
            yield b"".join(parts)
            parts = []


def _fragments(data: bytes, path: Path) -> Iterable[tuple[int, bytes]]:
    position = 0
    while position + 7 <= len(data):
        room = LOG_BLOCK - position % LOG_BLOCK
        if room < 7:
            position += room
            continue
        checksum_, length, kind = (
            int.from_bytes(data[position + start : position + stop], "little")
            for start, stop in ((0, 4), (4, 6), (6, 7))
        )
        stop = position + 7 + length
        if kind == 0 and length == 0:  # preallocated zeros
            position += room
            continue
        if stop > len(data):
            return
        if length + 7 > room or kind > _LAST or checksum.masked(data[position + 6 : stop]) != checksum_:
            raise BlobnetError(f"is damaged: the log record at {position} fails its checksum", file=str(path))
        yield kind, data[position + 7 : stop]
        position = stop
