"""``python -m blobnet.zoo.cifar10 [PATH]``: make the zoo's CIFAR-10 databases, checked by their checksums.

PATH is what one has of CIFAR-10: ``cifar-10-binary.tar.gz``, the folder of its ``.bin`` files, or an ``.npz`` with
``train_images`` (50000, 3, 32, 32), ``train_labels``, ``test_images`` and ``test_labels``. Without it the archive is
downloaded.
"""

import hashlib
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from http.client import HTTPException
from pathlib import Path

import numpy as np

from blobnet.errors import BlobnetError
from blobnet.zoo import datasets

_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
FILES = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
RECORD = 1 + 3 * 32 * 32
# sha256 of all records, label and pixels, as they stand in the .bin files
_CHECKSUMS = {
    "train": "a0181da372c0d63a5920fdbea2ec3f83ecbc552d378218e1cb473cf634941a3b",
    "test": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}


def prepare(path: Path) -> list[Path]:
    """Make the databases of both parts from a copy of CIFAR-10; returns their folders."""
    made = []
    for part, records in {part: _records(path, part) for part in FILES}.items():
        if hashlib.sha256(records).hexdigest() != _CHECKSUMS[part]:
            raise BlobnetError(f"does not hold CIFAR-10's {part} images: the checksum differs", file=str(path))
        rows = np.frombuffer(records, np.uint8).reshape(-1, RECORD)
        made.append(datasets.place(f"cifar10_{part}_lmdb"))
        if not made[-1].exists():
            datasets.build(made[-1], rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0])
    return made


def _records(path: Path, part: str) -> bytes:
    try:
        if path.suffix == ".npz":
            return _npz_records(path, part)
        if path.is_dir():
            return b"".join((path / name).read_bytes() for name in FILES[part])
        return _archived_records(path, part)
    except (OSError, EOFError, LookupError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        rule = "cannot be read as CIFAR-10's archive, the folder of its .bin files or an .npz of it"
        raise BlobnetError(f"{rule}: {reason}", file=str(path)) from error


def _npz_records(path: Path, part: str) -> bytes:
    with np.load(path, allow_pickle=False) as arrays:
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    return np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1).astype(np.uint8).tobytes()


def _archived_records(path: Path, part: str) -> bytes:
    with tarfile.open(path) as archive:
        contents = {Path(member.name).name: archive.extractfile(member) for member in archive if member.isfile()}
        return b"".join(content.read() for name in FILES[part] if (content := contents[name]))


def _download(path: Path) -> Path:
    print(f"downloading {_URL}")
    try:
        urllib.request.urlretrieve(_URL, path)
    except (OSError, HTTPException) as error:
        remedy = "bring the file by other means, and name it: python -m blobnet.zoo.cifar10 cifar-10-binary.tar.gz"
        raise BlobnetError(f"cannot download {_URL} ({error}); {remedy}") from error
    return path


def main() -> None:
    try:
        with tempfile.TemporaryDirectory() as folder:
            downloaded = Path(folder) / "cifar-10-binary.tar.gz"
            print(*prepare(Path(sys.argv[1]) if len(sys.argv) > 1 else _download(downloaded)), sep="\n")
    except (BlobnetError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
