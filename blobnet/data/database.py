"""Databases of Datum records as the Data layer sees them: records in key order, read again and again."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from blobnet.data import leveldb, leveldb_writer, lmdb
from blobnet.errors import BlobnetError
from blobnet.proto import blobnet_pb2 as pb


class Database(Protocol):
    """What a backend offers. Every fault of the files is a BlobnetError that names them."""

    path: Path

    def __len__(self) -> int: ...

    def records(self, start: int = 0) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in cursor order, from the record of that number on; empty past the last one."""


class Record(NamedTuple):
    """A record of a database; as text, where it is."""

    database: Database
    number: int
    key: bytes
    value: bytes

    def __str__(self) -> str:
        return f'{self.database.path}, record {self.number} "{self.key.decode(errors="replace")}"'


def open_database(path: Path, backend: int) -> Database:
    """Open a database folder for reading. ``backend``: DataParameter.LMDB or .LEVELDB."""
    if not path.is_dir():
        raise BlobnetError("cannot open the database: there is no such folder", file=str(path))
    kinds = {"data.mdb": pb.DataParameter.LMDB, "CURRENT": pb.DataParameter.LEVELDB}
    found = [kind for name, kind in kinds.items() if (path / name).is_file()]
    if backend not in found:
        wanted = pb.DataParameter.DB.Name(backend)
        other = f"; it is {pb.DataParameter.DB.Name(found[0])}: set backend: accordingly" if found else ""
        raise BlobnetError(f"the folder holds no {wanted} database{other}", file=str(path))
    return lmdb.Reader(path) if backend == pb.DataParameter.LMDB else leveldb.Reader(path)


def new_database(path: Path, backend: str) -> AbstractContextManager[Callable[[bytes, bytes], None]]:
    """What writes keys and values, in the order of the keys, into a new folder. ``backend``: "lmdb" or "leveldb"."""
    writers = {"lmdb": lmdb.new_database, "leveldb": leveldb_writer.new_database}
    if backend not in writers:
        raise BlobnetError(f'the backend of a database is lmdb or leveldb; got "{backend}"', file=str(path))
    return writers[backend](path)


def cycle(database: Database, start: int = 0) -> Iterator[Record]:
    """Every record from ``start`` on, over and over."""
    while True:
        number = start
        for key, value in database.records(start):
            yield Record(database, number, key, value)
            number += 1
        if number == 0:
            raise BlobnetError("the database holds no records", file=str(database.path))
        start = 0
