"""The databases that come with the zoo: LMDBs of Datum records, made on first use from the files kept here.

A prototxt names one as its ``source``, like any database; ``Context.find`` asks here when there is no such folder.
"""

import gzip
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from blobnet import config
from blobnet.errors import BlobnetError
from blobnet.io.files import os_errors
from blobnet.proto import blobnet_pb2 as pb

log = logging.getLogger("blobnet")

_FOLDER = Path(__file__).resolve().parent


class _Idx(NamedTuple):
    """Images and labels in the two idx files of MNIST's format."""

    images: str
    labels: str


_DATABASES = {
    "mnist_train_lmdb": _Idx("mnist/train-images-idx3-ubyte.gz", "mnist/train-labels-idx1-ubyte.gz"),
    "mnist_test_lmdb": _Idx("mnist/t10k-images-idx3-ubyte.gz", "mnist/t10k-labels-idx1-ubyte.gz"),
}


def names() -> list[str]:
    """The databases that ``database`` knows."""
    return sorted(_DATABASES)


def database(name: str) -> Path | None:
    """The folder of a database of the zoo, made when it is not there yet; None for any other name."""
    if name not in _DATABASES:
        return None
    path = config.cache_folder() / "datasets" / name
    if not path.exists():
        _build(path, _DATABASES[name])
    return path


def _build(path: Path, source: _Idx) -> None:
    from blobnet.data import lmdb

    images, labels = read_idx(_FOLDER / source.images), read_idx(_FOLDER / source.labels)
    log.info("Making %s, a database of %d images, in %s (once)", path.name, len(images), path.parent)
    with os_errors(path.parent, "make (BLOBNET_CACHE_DIR names another folder)"):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lmdb.write_database(path, _records(images, labels))
    except BlobnetError:
        if not path.exists():  # else another process was faster
            raise


def _records(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[bytes, bytes]]:
    """Keys and Datum records, as Caffe's convert_mnist_data writes them."""
    height, width = images.shape[1:]
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        datum = pb.Datum(channels=1, height=height, width=width, data=image.tobytes(), label=int(label))
        yield b"%08d" % index, datum.SerializeToString()


def read_idx(path: Path) -> np.ndarray:
    """The array of a gzipped idx file of unsigned bytes: 0, 0, 8, the number of axes, the extents, the bytes."""
    with os_errors(path, "read"), gzip.open(path) as file:
        try:
            content = file.read()
        except EOFError as error:
            raise BlobnetError("is truncated", file=str(path)) from error
    if content[:3] != b"\0\0\x08":
        raise BlobnetError("is no idx file of unsigned bytes", file=str(path))
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4).astype(int)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
