"""The data that come with the zoo: databases and other files, made on first use from what is kept here.

A prototxt names one as its ``source`` or ``mean_file``, like any other; ``Context.find`` asks here when there is no
such file. Those of CIFAR-10 are brought by ``zoo.cifar10``.
"""

import gzip
import io
import logging
import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from blobnet import config
from blobnet.errors import BlobnetError
from blobnet.io.files import most_decoded, os_errors, read_bytes
from blobnet.proto import blobnet_pb2 as pb

log = logging.getLogger("blobnet")

_FOLDER = Path(__file__).resolve().parent
_GZIPPED = b"\x1f\x8b"

Examples = tuple[Iterable[np.ndarray], np.ndarray]


class _Database(NamedTuple):
    """An LMDB of images of one shape: how to get N images [C, H, W] and labels [N]."""

    shape: tuple[int, int, int]
    load: Callable[[], Examples]


def _mnist(part: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (read_idx(_FOLDER / f"mnist/{part}-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
    return images[:, None], labels


def _mnist_pairs(part: str) -> Examples:
    """As many pairs as images, drawn at random, as two channels; the label is 1 where both show one digit."""
    images, labels = _mnist(part)
    pairs = np.random.default_rng(0).integers(len(images), size=(2, len(images))).T
    return (np.concatenate(images[pair]) for pair in pairs), np.equal(*labels[pairs].T)


def _cifar10(part: str) -> Examples:
    raise BlobnetError(f"CIFAR-10's {part} images are not here yet; this brings them: python -m blobnet.zoo.cifar10")


_DATABASES = {
    "cifar10_test_lmdb": _Database((3, 32, 32), partial(_cifar10, "test")),
    "cifar10_train_lmdb": _Database((3, 32, 32), partial(_cifar10, "train")),
    "mnist_siamese_test_lmdb": _Database((2, 28, 28), partial(_mnist_pairs, "t10k")),
    "mnist_siamese_train_lmdb": _Database((2, 28, 28), partial(_mnist_pairs, "train")),
    "mnist_test_lmdb": _Database((1, 28, 28), partial(_mnist, "t10k")),
    "mnist_train_lmdb": _Database((1, 28, 28), partial(_mnist, "train")),
}


def _shakespeare(part: str) -> Path:
    """The list of an HDF5Data layer."""
    from blobnet.zoo import characters

    folder = place("shakespeare")
    path = folder / f"{part}.txt"
    if not path.exists():
        log.info("Making %s, rows of Shakespeare's plays (once)", folder)
        with os_errors(folder, "make (BLOBNET_CACHE_DIR names another folder)"):
            characters.prepare(characters.shakespeare(), folder)
    return path


_FILES: dict[str, Callable[[], Path]] = {
    "cifar10_mean.binaryproto": lambda: _FOLDER / "cifar10/cifar10_mean.binaryproto",
    "shakespeare_test.txt": partial(_shakespeare, "test"),
    "shakespeare_train.txt": partial(_shakespeare, "train"),
}


def names() -> list[str]:
    """The databases that ``find`` knows."""
    return sorted(_DATABASES)


def shape(name: str) -> tuple[int, int, int]:
    """Channels, height and width of the images in a database."""
    return _DATABASES[name].shape


def find(name: str) -> Path | None:
    """The database or other file of the zoo, made when it is not there yet; None for any other name."""
    if name in _FILES:
        return _FILES[name]()
    if name not in _DATABASES:
        return None
    path = place(name)
    if not path.exists():
        build(path, *_DATABASES[name].load())
    return path


def place(name: str) -> Path:
    """Where a database or a folder of files is kept once it is made."""
    return config.cache_folder() / "datasets" / name


def build(path: Path, images: Iterable[np.ndarray], labels: np.ndarray) -> None:
    """Make a database of images [C, H, W]."""
    from blobnet.data import lmdb

    log.info("Making %s, a database of %d images, in %s (once)", path.name, len(labels), path.parent)
    with os_errors(path.parent, "make (BLOBNET_CACHE_DIR names another folder)"):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lmdb.write_database(path, records(images, labels))
    except BlobnetError:
        if not path.exists():  # else another process was faster
            raise


def records(images: Iterable[np.ndarray], labels: np.ndarray, digits: int = 8) -> Iterator[tuple[bytes, bytes]]:
    """Keys, numbers of so many digits, and Datum records of images [C, H, W], as Caffe's converters write them."""
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        channels, height, width = image.shape
        datum = pb.Datum(channels=channels, height=height, width=width, data=image.tobytes(), label=int(label))
        yield b"%0*d" % (digits, index), datum.SerializeToString()


def _unzipped(content: bytes, path: Path) -> bytearray:
    limit, unpacked = most_decoded(len(content)), bytearray()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            while block := file.read(1 << 20):
                unpacked += block
                if len(unpacked) > limit:
                    text = f"{len(content)} gzipped bytes come to more than the limit of {limit}"
                    raise BlobnetError(text, file=str(path))
    except (EOFError, OSError, zlib.error) as error:
        raise BlobnetError(f"is truncated or damaged: {error}", file=str(path)) from error
    return unpacked


def read_idx(path: Path) -> np.ndarray:
    """The array of an idx file of unsigned bytes, gzipped or not: 0, 0, 8, the number of axes, extents, bytes."""
    packed = read_bytes(path)
    content = _unzipped(packed, path) if packed.startswith(_GZIPPED) else packed
    if content[:3] != b"\0\0\x08":
        raise BlobnetError("is no idx file of unsigned bytes", file=str(path))
    start = 4 + 4 * int.from_bytes(content[3:4])
    shape = np.frombuffer(content[4:start], ">u4").tolist() if len(content) >= start else []
    if not shape or len(content) - start != math.prod(shape):
        raise BlobnetError(f"is truncated or damaged: {len(content)} bytes for extents {shape}", file=str(path))
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
