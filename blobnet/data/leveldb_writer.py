"""LevelDB, written: records in the order of their keys, as sorted tables, and the manifest that lists these.

The tables lie on the last level, where LevelDB has nothing left to sort. The formats are those of ``leveldb``.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from blobnet.data.leveldb import COMPARATOR, FOOTER, LOG_BLOCK, MAGIC
from blobnet.errors import BlobnetError
from blobnet.io.blob_proto import varint
from blobnet.io.files import new_folder, os_errors
from blobnet.kernels import checksum

_BLOCK = 4096  # bytes, after which a block ends
_TABLE = 32 << 20  # bytes, after which a table ends
_LEVEL = 6
_MANIFEST = "MANIFEST-000001"
_FRAGMENTS = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}  # by: is the first, is the last


@contextlib.contextmanager
def new_database(path: Path) -> Iterator[Callable[[bytes, bytes], None]]:
    """What writes a key and its value into a new LevelDB folder, which appears when the block ends without an error.

    A folder that exists, and a key that is not above the one before, are errors.
    """
    with new_folder(path) as folder:
        writer = _Writer(folder, path)
        yield writer.put
        writer.finish()


class _Writer:
    """Fills tables one after the other, numbered from 2 on."""

    def __init__(self, folder: Path, path: Path):
        self._folder = folder
        self._path = path  # what the folder will be called
        self._sequence = 0
        self._last_key: bytes | None = None
        self._added: list[bytes] = []  # an entry of the manifest for each table
        self._table = _Table()

    def put(self, key: bytes, value: bytes) -> None:
        if self._last_key is not None and key <= self._last_key:
            text = f"keys of a LevelDB must come in ascending order; got {key!r} after {self._last_key!r}"
            raise BlobnetError(text, file=str(self._path))
        self._last_key = key
        self._sequence += 1
        self._table.add(key + (self._sequence << 8 | 1).to_bytes(8, "little"), value)
        if self._table.size >= _TABLE:
            self._end_table()

    def finish(self) -> None:
        if self._table.size:
            self._end_table()
        next_file = len(self._added) + 2
        counters = [(2, next_file), (9, 0), (3, next_file + 1), (4, self._sequence)]  # log, previous log, next, last
        edit = b"\1" + _string(COMPARATOR) + b"".join(varint(tag) + varint(value) for tag, value in counters)
        self._write(_MANIFEST, _log([edit, *self._added]))
        self._write("CURRENT", f"{_MANIFEST}\n".encode())

    def _end_table(self) -> None:
        number = len(self._added) + 2
        content = self._table.content()
        self._write(f"{number:06d}.ldb", content)
        numbers = b"".join(map(varint, (7, _LEVEL, number, len(content))))
        self._added.append(numbers + _string(self._table.first_key) + _string(self._table.last_key))
        self._table = _Table()

    def _write(self, name: str, content: bytes) -> None:
        with os_errors(self._path, "write"):
            (self._folder / name).write_bytes(content)


class _Table:
    """A table in memory: blocks of records, then an index of the last key and the place of each block."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0
        self._pending: list[tuple[bytes, bytes]] = []  # records of the block to come
        self._pending_size = 0
        self._index: list[tuple[bytes, bytes]] = []
        self.first_key = self.last_key = b""

    @property
    def size(self) -> int:
        return self._length + self._pending_size

    def add(self, key: bytes, value: bytes) -> None:
        self.first_key, self.last_key = self.first_key or key, key
        self._pending.append((key, value))
        self._pending_size += len(key) + len(value)
        if self._pending_size >= _BLOCK:
            self._end_block()

    def content(self) -> bytes:
        if self._pending:
            self._end_block()
        handles = self._append(_block([])) + self._append(_block(self._index))  # of the metadata: none
        footer = handles.ljust(FOOTER - 8, b"\0") + MAGIC.to_bytes(8, "little")
        return b"".join([*self._parts, footer])

    def _end_block(self) -> None:
        self._index.append((self.last_key, self._append(_block(self._pending))))
        self._pending, self._pending_size = [], 0

    def _append(self, block: bytes) -> bytes:
        """Append a block with its trailer; returns its handle, place and length."""
        handle = varint(self._length) + varint(len(block))
        plain = block + b"\0"  # not compressed
        self._parts += [plain, checksum.masked(plain).to_bytes(4, "little")]
        self._length += len(plain) + 4
        return handle


def _block(records: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Records with whole keys: each is a place where a search may start, and these places come last."""
    parts, places, length = [], [], 0
    for key, value in records:
        places.append(length)
        parts.append(b"\0" + varint(len(key)) + varint(len(value)) + key + value)
        length += len(parts[-1])
    numbers = [*(places or [0]), len(places or [0])]
    return b"".join([*parts, *(number.to_bytes(4, "little") for number in numbers)])


def _log(records: Sequence[bytes]) -> bytes:
    """A log file: each record in fragments that end with the blocks of the file."""
    log = bytearray()
    for record in records:
        is_first = True
        while is_first or record:
            room = LOG_BLOCK - len(log) % LOG_BLOCK - 7
            if room < 0:
                log += bytes(room + 7)
                continue
            part, record = record[:room], record[room:]
            kind = bytes([_FRAGMENTS[is_first, not record]])
            log += checksum.masked(kind + part).to_bytes(4, "little") + len(part).to_bytes(2, "little") + kind + part
            is_first = False
    return bytes(log)


def _string(data: bytes) -> bytes:
    return varint(len(data)) + data
