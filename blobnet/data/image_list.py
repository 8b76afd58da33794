"""List files of images (``name label`` a line) and their batches, for the ImageData layer."""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from blobnet.context import Context
from blobnet.data.batch import Batch, Item, Position, kind_and_bytes
from blobnet.data.passes import Rows, rows_of_batch
from blobnet.data.transformer import Transformer
from blobnet.errors import BlobnetError, error_at
from blobnet.io import images
from blobnet.io.files import read_bytes
from blobnet.proto import blobnet_pb2 as pb
from blobnet.streams import Stream


class Entry(NamedTuple):
    name: str
    label: int
    line: int


def read_list(path: str | os.PathLike) -> list[Entry]:
    """The images and labels of a list file. A line is split at its last blank; empty lines count for nothing."""
    lines = os.fsdecode(read_bytes(path)).splitlines()
    entries = [_entry(line.strip(), number, path) for number, line in enumerate(lines, 1) if line.strip()]
    if not entries:
        raise BlobnetError("the list names no images", file=str(path))
    return entries


def _entry(line: str, number: int, path: str | os.PathLike) -> Entry:
    name, _, label = line.rpartition(" ")
    if not name or not re.fullmatch(r"[+-]?[0-9]+", label):
        text = f'a line must be an image and a whole number, parted by a blank; got "{line}"'
        raise BlobnetError(text, file=str(path), line=number)
    return Entry(name.rstrip(), int(label), number)


class ImageLoader:
    """Reads the listed images in order or, with ``shuffle``, in a new order each epoch. A position counts batches."""

    def __init__(self, layer: pb.LayerParameter, context: Context, stream: Stream):
        self._param = layer.image_data_param
        self._context = context
        self._transformer = Transformer(layer, context)
        self._list = context.find(self._param.source)
        self._entries = read_list(self._list)
        if self._param.rand_skip >= len(self._entries):
            raise error_at(
                layer,
                f"rand_skip must be less than the images listed; got {self._param.rand_skip} of {len(self._entries)}",
                "image_data_param.rand_skip",
            )
        self._stream = stream
        self.whole_passes = False
        self._order: tuple[int, np.ndarray] | None = None

    @property
    def examples(self) -> int:
        return len(self._entries)

    def first_position(self) -> Position:
        return {"batch": 0}

    def first_shape(self) -> tuple[int, int, int]:
        """The shape that the first image gets."""
        (shape, _), *_ = next(self._items(0))
        return self._transformer.shape(*shape)

    def load(self, position: Position, batch: Batch) -> Position:
        number, size = position["batch"], self._param.batch_size
        rows = rows_of_batch(number, size, self.examples) if self.whole_passes else Rows(number * size, size)
        draws = self._transformer.draw(self._stream.at("augment", number), rows.length)
        batch.fill(self._items(rows.first), self._transformer, draws)
        return {"batch": number + 1}

    def _items(self, start: int) -> Iterator[Item]:
        skip = self._param.rand_skip
        number = start + (int(self._stream.at("rand_skip", 0).integers(skip)) if skip else 0)
        while True:
            entry = self._entry(*divmod(number, len(self._entries)))
            yield *kind_and_bytes(self._pixels(entry)), entry.label, f"{self._list}:{entry.line}: {entry.name}"
            number += 1

    def _entry(self, epoch: int, index: int) -> Entry:
        if not self._param.shuffle:
            return self._entries[index]
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, self._stream.at("shuffle", epoch).permutation(len(self._entries))
        return self._entries[self._order[1][index]]

    def _pixels(self, entry: Entry) -> np.ndarray:
        try:
            pixels = images.read_image(self._context.find(self._param.root_folder + entry.name), self._param.is_color)
        except BlobnetError as error:
            raise BlobnetError(str(error), file=str(self._list), line=entry.line) from error
        if self._param.new_height:
            pixels = images.resize(pixels, self._param.new_height, self._param.new_width)
        return pixels.transpose(2, 0, 1)
