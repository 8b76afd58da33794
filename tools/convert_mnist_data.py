"""MNIST's idx files of images and of labels, gzipped or not, as a database, like Caffe's convert_mnist_data."""

import os
from pathlib import Path

from blobnet.data.database import new_database
from blobnet.errors import BlobnetError
from blobnet.zoo import datasets


def convert(
    images: str | os.PathLike, labels: str | os.PathLike, database: str | os.PathLike, backend: str = "lmdb"
) -> int:
    """Write a database of the images [N, H, W] with their labels [N], and return how many."""
    pixels, digits = datasets.read_idx(Path(images)), datasets.read_idx(Path(labels))
    if pixels.ndim != 3 or digits.shape != pixels.shape[:1]:
        text = f"the images must have shape [N, H, W], the labels [N]; got {pixels.shape} and {digits.shape}"
        raise BlobnetError(text, file=str(labels))
    with new_database(Path(database), backend) as put:
        for key, value in datasets.records(pixels[:, None], digits):
            put(key, value)
    return len(pixels)
