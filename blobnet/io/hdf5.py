"""HDF5 behind guards: a file may hold plain numbers in itself, and no more than its size makes credible.

Refused are links other than hard ones, virtual datasets, external storage, and datasets that come to more than
``files.most_decoded`` together; of data that a net's memory is budgeted for, to over a thousand times the size of the
file (deflate cannot pack tighter).
"""

import contextlib
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from blobnet.budget import shown
from blobnet.errors import BlobnetError
from blobnet.io.files import atomic_write, most_decoded, os_errors

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_SMALL = 64 << 20
_RATIO = 1000
_METADATA = 1 << 16  # more than one append adds besides its rows


@contextlib.contextmanager
def _errors(path: str | os.PathLike, action: str) -> Iterator[None]:
    try:
        yield
    except BlobnetError:
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise BlobnetError(f"cannot {action} HDF5: {error}", file=str(path)) from error


def is_hdf5(path: str | os.PathLike) -> bool:
    """Whether a file is HDF5, by its first bytes."""
    with os_errors(path, "read"), open(path, "rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


class Reader:
    """An HDF5 file open for reading, a context manager. Names are paths such as ``data/conv1/0``.

    budget  bytes that its arrays may come to, where somebody has set them; else the bound of packed files holds
    """

    def __init__(self, path: str | os.PathLike, budget: int | None = None):
        import h5py

        self.path = str(path)
        with _errors(path, "read"):
            size = os.stat(path).st_size
            self._room = most_decoded(size) if budget is None else min(budget, max(_SMALL, _RATIO * size))
            self._file = h5py.File(path, "r")

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def names(self, group: str = "/") -> list[str]:
        """Names of the members of a group, sorted."""
        with _errors(self.path, "read"):
            return sorted(self._member(group, "Group"))

    def __contains__(self, name: str) -> bool:
        with _errors(self.path, "read"):
            return name in self._file

    def is_group(self, name: str) -> bool:
        import h5py

        with _errors(self.path, "read"):
            return self._file.get(name, getclass=True) is h5py.Group

    def identity(self, group: str) -> Any:
        """The same for two names of one group, so that a walk can see a cycle."""
        with _errors(self.path, "read"):
            return self._member(group, "Group").id

    def shape(self, name: str) -> tuple[int, ...]:
        with _errors(self.path, "read"):
            return self._member(name, "Dataset").shape

    def array(self, name: str) -> np.ndarray:
        """A dataset of numbers: float64 stays float64, every other type becomes float32."""
        with _errors(self.path, "read"):
            dataset = self._member(name, "Dataset")
            if dataset.dtype.kind not in "fiu":
                self._refuse(name, f"must hold numbers; got type {dataset.dtype}")
            needed = max(dataset.size, math.prod(dataset.chunks or ())) * max(4, dataset.dtype.itemsize)
            if needed > self._room:
                rule = f"of shape {dataset.shape} needs {shown(needed)}; this file may come to {shown(self._room)} more"
                self._refuse(name, f"{rule}, unpacked: is it damaged? h5repack -f NONE stores it without compression")
            self._room -= needed
            return dataset.astype(np.float64 if dataset.dtype == np.float64 else np.float32)[()]

    def integer(self, name: str) -> int:
        values = self.array(name)
        if values.size != 1:
            self._refuse(name, f"must be one number; got shape {values.shape}")
        return int(values.item())

    def text(self, name: str) -> str:
        with _errors(self.path, "read"):
            dataset = self._member(name, "Dataset")
            if dataset.dtype.kind not in "SO" or dataset.size != 1 or dataset.dtype.itemsize > 1 << 16:
                self._refuse(name, f"must be a string; got type {dataset.dtype}, shape {dataset.shape}")
            value = dataset[()]
            value = value.item() if isinstance(value, np.ndarray) else value
            return bytes(value).decode(errors="replace").rstrip("\0")

    def _member(self, name: str, kind: str):
        """The group or dataset of that name, reached over hard links only."""
        import h5py

        node = self._file
        for step in [step for step in name.split("/") if step]:
            link = node.get(step, getlink=True) if isinstance(node, h5py.Group) else None
            if link is None:
                self._refuse(name, "is missing")
            if not isinstance(link, h5py.HardLink):
                self._refuse(name, "is a soft or external link, which is not followed")
            node = node[step]
        if not isinstance(node, getattr(h5py, kind)):
            self._refuse(name, f"must be a {kind.lower()}; got a {type(node).__name__.lower()}")
        if kind == "Dataset" and (node.is_virtual or node.external or node.shape is None):
            self._refuse(name, "must hold its values itself; it is virtual, external or null")
        return node

    def _refuse(self, name: str, text: str) -> None:
        raise BlobnetError(f'HDF5 member "{name}" {text}', file=self.path)


@contextlib.contextmanager
def writer(path: str | os.PathLike) -> Iterator[Any]:
    """An ``h5py.File`` to write into; it takes the place of ``path`` when the block ends without an error."""
    with _errors(path, "write"), in_memory() as file:
        yield file
        content = image(file)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def in_memory() -> Iterator[Any]:
    """An ``h5py.File`` in memory: on a full disk libhdf5 would bring the process down when it closes a file."""
    import h5py

    with h5py.File(secrets.token_hex(8), "w", driver="core", backing_store=False) as file:
        yield file


def image(file: Any) -> bytes:
    """What the file would hold on the disk."""
    file.flush()
    return file.id.get_file_image()


def begin_rows(path: str | os.PathLike, rows: Mapping[str, np.ndarray]) -> None:
    """Write datasets that can grow along their first axis."""
    with writer(path) as file:
        for name, values in rows.items():
            file.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]), chunks=values.shape)


def append_rows(path: str | os.PathLike, rows: Mapping[str, np.ndarray]) -> None:
    """Append to the datasets of a file that ``begin_rows`` has begun."""
    import h5py

    with _errors(path, "write"):
        with h5py.File(path, "r") as file:
            chunks = sum(2 * math.prod(file[name].chunks) * file[name].dtype.itemsize for name in rows)
        _reserve(path, chunks + sum(values.nbytes for values in rows.values()) + _METADATA)
        with h5py.File(path, "r+") as file:
            for name, values in rows.items():
                dataset = file[name]
                dataset.resize(len(dataset) + len(values), axis=0)
                dataset[-len(values) :] = values


def rows_beyond(path: str | os.PathLike, names: Iterable[str], count: int) -> int:
    """How many rows the datasets of a file have after their first ``count``; an error where they have fewer."""
    with Reader(path) as reader:
        lengths = {reader.shape(name)[0] for name in names}
    if min(lengths) < count:
        raise BlobnetError(f"holds {min(lengths)} rows; {count} were written", file=str(path))
    return max(lengths) - count


def keep_rows(path: str | os.PathLike, names: Iterable[str], count: int) -> None:
    """Cut the datasets of a file that ``begin_rows`` has begun back to their first rows, atomically."""
    import h5py

    with _errors(path, "write"), atomic_write(path) as temporary:
        shutil.copyfile(path, temporary)
        with h5py.File(temporary, "r+") as file:
            for name in names:
                file[name].resize(count, axis=0)


def _reserve(path: str | os.PathLike, size: int) -> None:
    """Lengthen a file, so that a full disk is an error here; libhdf5 cuts off what it does not use."""
    with open(path, "ab") as file:
        file.write(bytes(size))


def write_text(group: Any, name: str, text: str) -> None:
    """A string as Caffe's reader wants it: fixed length, with a terminating zero."""
    encoded = text.encode()
    group.create_dataset(name, data=np.array(encoded, f"S{len(encoded) + 1}"))
