"""LMDB: reading with guards against damaged files, and writing for the converters."""

import contextlib
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from blobnet.errors import BlobnetError
from blobnet.io.files import os_errors

_BATCH = 256  # records a write transaction
_FIRST_MAP_SIZE = 1 << 28  # doubled whenever the database has filled it

_environments: "weakref.WeakValueDictionary[tuple[int, int], Any]" = weakref.WeakValueDictionary()
_lock = threading.Lock()


class Reader:
    """An LMDB folder, open for reading. Nothing is locked, so it may stand on a read-only disk."""

    def __init__(self, path: Path):
        self.path = path
        with self._errors():
            self._environment = _open(path)
            self._check_size()
            self._transaction = self._environment.begin()

    def __len__(self) -> int:
        """How many records there are."""
        with self._errors():
            return self._environment.stat()["entries"]

    def records(self, start: int = 0) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in key order, from the record of that number on."""
        with self._errors(), self._transaction.cursor() as cursor:
            cursor.first()
            if all(cursor.next() for _ in range(start)):
                yield from cursor.iternext()

    def _check_size(self) -> None:
        """Reading a page past the end of the file would kill the process (SIGBUS)."""
        pages = self._environment.info()["last_pgno"] + 1
        needed = pages * self._environment.stat()["psize"]
        size = (self.path / "data.mdb").stat().st_size
        if needed > size:
            self._fail(f"data.mdb is truncated: its header needs {needed} bytes, it has {size}")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        import lmdb

        try:
            yield
        except (lmdb.Error, OSError) as error:
            self._fail(f"the LMDB database cannot be read: {error}")

    def _fail(self, text: str) -> None:
        raise BlobnetError(text, file=str(self.path))


def _open(path: Path) -> Any:
    """The environment of a folder: LMDB allows one a process, so all readers of a database share it."""
    import lmdb

    status = (path / "data.mdb").stat()
    with _lock:
        environment = _environments.get((status.st_dev, status.st_ino))
        if environment is None:
            environment = lmdb.open(os.fspath(path), readonly=True, lock=False, create=False)
            _environments[status.st_dev, status.st_ino] = environment
        return environment


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

    if path.exists():
        raise BlobnetError("already exists; remove it or name another folder", file=str(path))
    with os_errors(path, "write"):
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            with lmdb.open(os.fspath(temporary), map_size=_FIRST_MAP_SIZE) as environment:
                batch: list[tuple[bytes, bytes]] = []

                def put(key: bytes, value: bytes) -> None:
                    batch.append((key, value))
                    if len(batch) == _BATCH:
                        _put(environment, batch)
                        batch.clear()

                yield put
                _put(environment, batch)
            temporary.chmod(0o755)
            temporary.rename(path)
        except lmdb.Error as error:
            raise BlobnetError(f"the LMDB database cannot be written: {error}", file=str(path)) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


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
