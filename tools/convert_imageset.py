"""Pack the images of a list into a database of Datum records, which the Data layer reads.

Keys, records and their order are those of Caffe's convert_imageset.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from blobnet.data.database import new_database
from blobnet.data.image_list import Entry, read_list
from blobnet.errors import BlobnetError
from blobnet.io import images
from blobnet.io.files import read_bytes
from blobnet.proto import blobnet_pb2 as pb
from blobnet.streams import Stream, new_seed

log = logging.getLogger("blobnet")

_LOGGED = 1000  # images between two lines of the log


def convert(
    root: str | os.PathLike,
    list_file: str | os.PathLike,
    database: str | os.PathLike,
    *,
    gray: bool = False,
    shuffle: bool = False,
    backend: str = "lmdb",
    resize_height: int = 0,
    resize_width: int = 0,
    check_size: bool = False,
    encoded: bool = False,
    encode_type: str = "",
) -> int:
    """Write a database of the images that a list file names, ``name label`` a line, and return how many.

    root          folder that the names begin in, or whatever stands in front of all of them
    gray          one channel instead of blue, green and red
    shuffle       in a random order
    resize_*      to one size; both or none
    check_size    images of different sizes are an error
    backend       "lmdb" or "leveldb"
    encoded       keep the files as they are, or encode anew what ``gray`` or ``resize_*`` changes
    encode_type   "png", "jpg", ...: encode files of another type anew; implies ``encoded``
    An image that cannot be read is left out, and logged.
    """
    if bool(resize_height) != bool(resize_width):
        raise BlobnetError(f"resize_height and resize_width go together; got {resize_height} and {resize_width}")
    if encode_type:
        images.format_of(encode_type)
    entries = read_list(list_file)
    if shuffle:
        order = Stream(new_seed(), "convert_imageset").at("shuffle", 0).permutation(len(entries))
        entries = [entries[index] for index in order]
    log.info("A total of %d images.", len(entries))
    size = (resize_height, resize_width) if resize_height else None
    reader = _Reader(_prefix(root), str(list_file), gray, size, check_size, encoded or bool(encode_type), encode_type)
    count = 0
    with new_database(Path(database), backend) as put:
        for key, value in reader.records(entries):
            put(key, value)
            count += 1
    log.info("Processed %d files.", count)
    return count


def _prefix(root: str | os.PathLike) -> str:
    """What stands before each name: Caffe joins the two as they are, so a folder needs its slash."""
    text = os.fspath(root)
    return f"{text}/" if text and Path(text).is_dir() and not text.endswith("/") else text


class _Reader:
    """Makes a record of each listed image."""

    def __init__(
        self,
        prefix: str,
        list_file: str,
        gray: bool,
        size: tuple[int, int] | None,
        check_size: bool,
        encoded: bool,
        encode_type: str,
    ):
        self._prefix = prefix
        self._list_file = list_file
        self._gray = gray
        self._size = size
        self._check_size = check_size
        self._encoded = encoded
        self._encode_type = encode_type

    def records(self, entries: list[Entry]) -> Iterator[tuple[bytes, bytes]]:
        """Keys, which number the lines of the list, and Datums."""
        count, first_shape = 0, None
        for number, entry in enumerate(entries):
            path = self._prefix + entry.name
            try:
                pixels = images.read_image(path, not self._gray)
            except BlobnetError as error:
                log.warning("%s:%d: left out: %s", self._list_file, entry.line, error)
                continue
            if self._size is not None:
                pixels = images.resize(pixels, *self._size)
            first_shape = first_shape or pixels.shape
            if self._check_size and pixels.shape != first_shape:
                sizes = [" x ".join(map(str, shape[:2])) for shape in (pixels.shape, first_shape)]
                self._fail(entry, f"{entry.name} has {sizes[0]} pixels, the images before it {sizes[1]}")
            datum = self._encode(pixels, path, entry) if self._encoded else _raw(pixels)
            datum.label = entry.label
            yield os.fsencode(f"{number:08d}_{entry.name}"), datum.SerializeToString()
            count += 1
            if count % _LOGGED == 0:
                log.info("Processed %d files.", count)
        if not count:
            raise BlobnetError(f"none of the {len(entries)} images could be read", file=self._list_file)

    def _encode(self, pixels: np.ndarray, path: str, entry: Entry) -> pb.Datum:
        """A Datum of an image file: the one on the disk where its type and pixels are what is wanted."""
        extension = Path(entry.name).suffix.lstrip(".").lower()
        kind = self._encode_type or extension
        if not kind:
            self._fail(entry, f"the name {entry.name} tells no image format; give encode_type")
        kept = not self._gray and self._size is None and kind in (extension, extension.replace("jpeg", "jpg"))
        try:
            return pb.Datum(data=read_bytes(path) if kept else images.encode(pixels, kind), encoded=True)
        except BlobnetError as error:
            self._fail(entry, str(error))

    def _fail(self, entry: Entry, text: str) -> NoReturn:
        raise BlobnetError(text, file=self._list_file, line=entry.line)


def _raw(pixels: np.ndarray) -> pb.Datum:
    """A Datum of bare pixels, channel by channel."""
    planes = pixels.transpose(2, 0, 1)
    channels, height, width = planes.shape
    return pb.Datum(channels=channels, height=height, width=width, data=planes.tobytes(), encoded=False)
