"""Datum records of a database in batches, for the Data layer."""

import functools
import math
from collections.abc import Iterator

import numpy as np

from blobnet.context import Context
from blobnet.data.batch import Batch, Item, Kind, Position, kind_and_bytes
from blobnet.data.database import Record, cycle, open_database
from blobnet.data.passes import rows_of_batch
from blobnet.data.transformer import Transformer
from blobnet.errors import BlobnetError
from blobnet.io import images
from blobnet.io.files import decode_message
from blobnet.proto import blobnet_pb2 as pb
from blobnet.streams import Stream

_BYTE = np.dtype(np.uint8)


class RecordLoader:
    """Reads records in key order, over and over. A position is the number of a batch and of its first record."""

    def __init__(self, layer: pb.LayerParameter, context: Context, stream: Stream):
        self._param = layer.data_param
        self._transformer = Transformer(layer, context)
        self._database = open_database(context.find(self._param.source), self._param.backend)
        self._stream = stream
        self.whole_passes = False
        self._records: Iterator[Record] = iter(())
        self._next_record = -1

    @functools.cached_property
    def examples(self) -> int:
        return len(self._database)

    def first_position(self) -> Position:
        skip = self._param.rand_skip
        return {"batch": 0, "record": int(self._stream.at("rand_skip", 0).integers(skip)) if skip else 0}

    def first_shape(self) -> tuple[int, int, int]:
        """The shape that the first record gets."""
        self._seek(0)
        (shape, _), *_ = next(self._items())
        self._next_record = -1
        return self._transformer.shape(*shape)

    def load(self, position: Position, batch: Batch) -> Position:
        self._seek(position["record"])
        number, count = position["batch"], self._param.batch_size
        if self.whole_passes:
            count = rows_of_batch(number, count, self.examples).length
        draws = self._transformer.draw(self._stream.at("augment", number), count)
        batch.fill(self._items(), self._transformer, draws)
        return {"batch": number + 1, "record": self._next_record}

    def _seek(self, record: int) -> None:
        if record != self._next_record:
            self._records = cycle(self._database, record)

    def _items(self) -> Iterator[Item]:
        color = True if self._param.force_encoded_color else self._transformer.color
        datum = pb.Datum()
        for record in self._records:
            self._next_record = record.number + 1
            decode_message(record.value, datum, record)
            yield *_kind_and_bytes(datum, color, record), datum.label, record


def datum_pixels(datum: pb.Datum, color: bool | None, place: object) -> np.ndarray:
    """The pixels [C, H, W] of a record: bytes, or float32 for ``float_data``. ``color`` as in ``images.decode``."""
    (shape, dtype), pixels = _kind_and_bytes(datum, color, place)
    return np.ndarray(shape, dtype, pixels)


def _kind_and_bytes(datum: pb.Datum, color: bool | None, place: object) -> tuple[Kind, bytes]:
    if datum.encoded:
        return kind_and_bytes(images.decode(datum.data, color, str(place)).transpose(2, 0, 1))
    shape = datum.channels, datum.height, datum.width
    values = datum.data or datum.float_data
    if min(shape) < 1 or len(values) != math.prod(shape):
        extents = " x ".join(map(str, shape))
        raise BlobnetError(f"a Datum of shape {extents} must hold as many values; got {len(values)}", file=str(place))
    if isinstance(values, bytes):
        return (shape, _BYTE), values
    return kind_and_bytes(np.array(values, np.float32).reshape(shape))
