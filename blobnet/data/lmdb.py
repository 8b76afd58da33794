"""LMDB: reading, with every page checked, and writing for the converters, by the LMDB library."""

import contextlib
import os
import struct
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from blobnet.errors import BlobnetError
from blobnet.io.files import new_folder

_BATCH = 256  # records a write transaction
_FIRST_MAP_SIZE = 1 << 28  # doubled whenever the database has filled it

_PAGE = struct.Struct("<8x2xHHH")  # kind, end of the node offsets, start of the nodes; number and padding do not matter
_META = struct.Struct("<16xIIQQ48x4xHHQQQQQQQ")
_NODE = struct.Struct("<IHH")  # size of the value (or page of the child), flags, size of the key
_HEADER = 16  # bytes of a page that come before its content
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 1, 2, 4, 8
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_NO_PAGE = (1 << 64) - 1
_DEEPEST = 32
_OUTSIDE = 1  # flag of a node whose value stands on pages of its own


class _Tree(NamedTuple):
    """What a meta page says of the records."""

    transaction: int
    last_page: int
    flags: int
    depth: int
    entries: int
    root: int


class Reader:
    """An LMDB folder, open for reading. Nothing is locked, so it may stand on a read-only disk.

    The pages are read and checked here: the LMDB library trusts them, so that a damaged one can end the process.
    Source of the format: LMDB 0.9, mdb.c (MDB_page, MDB_node, MDB_meta, MDB_db).
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file = os.open(path / "data.mdb", os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            self._fail_to_read(error)
        self._page_size = self._read_page_size()
        self._tree = max(self._meta(0), self._meta(1))
        needed = (self._tree.last_page + 1) * self._page_size
        if needed > self._size:
            self._fail(f"data.mdb is truncated: its header needs {needed} bytes, it has {self._size}")
        if self._tree.flags or self._tree.depth > _DEEPEST or self._tree.entries * _NODE.size > self._size:
            self._fail("data.mdb is damaged, or holds no plain keys and values")

    def __len__(self) -> int:
        """How many records there are."""
        return self._tree.entries

    def records(self, start: int = 0) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in key order, from the record of that number on."""
        if start >= len(self):
            return
        number = 0
        for page, nodes in self._leaves(self._tree.root, self._tree.depth):
            for node in nodes[max(0, start - number) :]:
                yield self._record(page, node)
            number += len(nodes)
            if number > len(self):
                break
        if number != len(self):
            self._fail(f"data.mdb is damaged: its header counts {len(self)} records, its pages hold others")

    def _leaves(self, number: int, depth: int) -> Iterator[tuple[bytes, Sequence[int]]]:
        """The leaf pages under a page in key order, with the offsets of their nodes. None is empty."""
        page = self._page(number)
        kind, lower, _ = _PAGE.unpack_from(page)
        if (
            kind & (_BRANCH | _LEAF) != (_LEAF if depth == 1 else _BRANCH)
            or not _HEADER < lower <= len(page)
            or lower % 2
        ):
            self._fail(f"data.mdb is damaged: page {number} is not of the kind that its place needs")
        nodes = struct.unpack_from(f"<{(lower - _HEADER) // 2}H", page, _HEADER)
        if max(nodes) + _NODE.size > len(page):
            self._fail(f"data.mdb is damaged: page {number} has nodes beyond its end")
        if depth == 1:
            yield page, nodes
            return
        for node in nodes:
            low, high, _ = _NODE.unpack_from(page, node)
            yield from self._leaves(low | high << 32, depth - 1)

    def _record(self, page: bytes, node: int) -> tuple[bytes, bytes]:
        size, flags, key_size = _NODE.unpack_from(page, node)
        start = node + _NODE.size + key_size
        end = start + (8 if flags & _OUTSIDE else size)
        if end > len(page) or flags & ~_OUTSIDE:
            self._fail("data.mdb is damaged, or holds no plain keys and values")
        key, value = page[start - key_size : start], page[start:end]
        return key, self._overflow(int.from_bytes(value, "little"), size) if flags & _OUTSIDE else value

    def _overflow(self, number: int, size: int) -> bytes:
        """A value of that size on pages of its own."""
        pages = self._read(number * self._page_size, _HEADER + size)
        if not _PAGE.unpack_from(pages)[0] & _OVERFLOW:
            self._fail(f"data.mdb is damaged: page {number} holds no large value")
        return pages[_HEADER:]

    def _page(self, number: int) -> bytes:
        return self._read(number * self._page_size, self._page_size)

    def _read(self, offset: int, size: int) -> bytes:
        if offset + size > self._size:
            self._fail(f"data.mdb is truncated or damaged: {offset + size} bytes are needed, it has {self._size}")
        try:
            return os.pread(self._file, size, offset)
        except OSError as error:
            self._fail_to_read(error)

    def _read_page_size(self) -> int:
        size = int.from_bytes(self._read(_HEADER + 24, 4), "little")
        if size.bit_count() != 1 or not 256 <= size <= 1 << 16:
            self._fail("cannot be read: data.mdb is no LMDB database of a 64-bit machine")
        return size

    def _meta(self, number: int) -> _Tree:
        page = self._page(number)
        magic, version, _, _, flags, depth, _, _, _, entries, root, last_page, transaction = _META.unpack_from(page)
        if (magic, version) != (_MAGIC, _VERSION) or not _PAGE.unpack_from(page)[0] & _META_PAGE:
            self._fail("cannot be read: data.mdb is no LMDB database of a 64-bit machine")
        if (root == _NO_PAGE) != (entries == 0):
            self._fail(f"data.mdb is damaged: its header counts {entries} records, with the root page {root}")
        return _Tree(transaction, last_page, flags, depth, entries, root)

    def _fail_to_read(self, error: OSError) -> NoReturn:
        raise BlobnetError(f"the LMDB database cannot be read: {error}", file=str(self.path)) from error

    def _fail(self, text: str) -> NoReturn:
        raise BlobnetError(text, file=str(self.path))


def write_database(path: Path, records: Iterable[tuple[bytes, bytes]]) -> int:
    """Write keys and values into a new LMDB folder, as ``new_database`` does, and return how many."""
    count = 0
    with new_database(path) as put:
        for key, value in records:
            put(key, value)
            count += 1
    return count


@contextlib.contextmanager
def new_database(path: Path) -> Iterator[Callable[[bytes, bytes], None]]:
    """What writes a key and its value into a new LMDB folder, which appears when the block ends without an error.

    A folder that exists is an error.
    """
    import lmdb

    with new_folder(path) as folder:
        try:
            with lmdb.open(os.fspath(folder), map_size=_FIRST_MAP_SIZE) as environment:
                batch: list[tuple[bytes, bytes]] = []

                def put(key: bytes, value: bytes) -> None:
                    batch.append((key, value))
                    if len(batch) == _BATCH:
                        _put(environment, batch)
                        batch.clear()

                yield put
                _put(environment, batch)
        except lmdb.Error as error:
            raise BlobnetError(f"the LMDB database cannot be written: {error}", file=str(path)) from error


def _put(environment: Any, batch: list[tuple[bytes, bytes]]) -> None:
    while not _fits(environment, batch):
        environment.set_mapsize(2 * environment.info()["map_size"])


def _fits(environment: Any, batch: list[tuple[bytes, bytes]]) -> bool:
    import lmdb

    try:
        with environment.begin(write=True) as transaction:
            for key, value in batch:
                transaction.put(key, value)
    except lmdb.MapFullError:
        return False
    return True
