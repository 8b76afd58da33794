"""The binary files of CIFAR-10 as databases, like Caffe's convert_cifar_data."""

import os
from pathlib import Path

import numpy as np

from blobnet.data.database import new_database
from blobnet.errors import BlobnetError
from blobnet.io.files import read_bytes
from blobnet.zoo import cifar10, datasets


def convert(folder: str | os.PathLike, output: str | os.PathLike, backend: str = "lmdb") -> list[Path]:
    """Write ``cifar10_train_<backend>`` and ``cifar10_test_<backend>`` into a folder; returns their paths.

    folder  holds data_batch_1.bin to data_batch_5.bin and test_batch.bin
    """
    made = []
    for part, names in cifar10.FILES.items():
        examples = np.concatenate([_examples(Path(folder) / name) for name in names])
        made.append(Path(output) / f"cifar10_{part}_{backend}")
        with new_database(made[-1], backend) as put:
            for key, value in datasets.records(examples[:, 1:].reshape(-1, 3, 32, 32), examples[:, 0], digits=5):
                put(key, value)
    return made


def _examples(path: Path) -> np.ndarray:
    """Rows of a label and 3072 pixels."""
    content = read_bytes(path)
    if not content or len(content) % cifar10.RECORD:
        text = f"holds {len(content)} bytes, no whole number of CIFAR-10's records of {cifar10.RECORD}"
        raise BlobnetError(text, file=str(path))
    return np.frombuffer(content, np.uint8).reshape(-1, cifar10.RECORD)
