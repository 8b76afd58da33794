"""Batches: images and labels side by side, and the position behind them in their source."""

import itertools
import math
import operator
from collections.abc import Iterable, Iterator

import numpy as np

from blobnet.blob import Blob
from blobnet.data.transformer import Draws, Transformer
from blobnet.errors import BlobnetError

Position = dict[str, int]
Kind = tuple[tuple[int, ...], np.dtype]  # shape and type of the pixels [C, H, W]
Item = tuple[Kind, bytes, float, object]  # kind, pixels, label; place for errors, as text

_AT_ONCE = 1 << 18  # bytes of the images that are transformed together: they stay in the second cache


def kind_and_bytes(pixels: np.ndarray) -> tuple[Kind, bytes]:
    """Pixels as an item has them."""
    return (pixels.shape, pixels.dtype), pixels.tobytes()


class Batch:
    """Data [N, C, H, W], labels [N], and the position of the batch that follows."""

    def __init__(self, dtype: np.dtype):
        self.data = Blob(dtype=dtype)
        self.label = Blob(dtype=dtype)
        self.position: Position = {}

    def fill(self, items: Iterable[Item], transformer: Transformer, draws: Draws) -> None:
        """Transform as many images as there are draws into the batch. The first one gives it its shape."""
        count, start = len(draws.mirror), 0
        for group in _groups(itertools.islice(items, count)):
            ((extents, dtype), *_), pixels, labels, places = zip(*group, strict=True)
            images = np.ndarray((len(group), *extents), dtype, b"".join(pixels))
            stop = start + len(group)
            try:
                shape = transformer.shape(*extents)
                if start == 0:
                    self.data.reshape(count, *shape)
                    self.label.reshape(count)
                rows = self.data.data[start:stop]
                if shape != rows.shape[1:]:
                    raise BlobnetError(f"has shape {shape}; the first one of its batch has {rows.shape[1:]}")
                transformer.apply(images, draws.rows(start, stop), rows)
            except BlobnetError as error:
                raise BlobnetError(error.message, file=str(places[0])) from error
            self.label.data[start:stop] = labels
            start = stop


def _groups(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Neighbours of one shape and type, as many as are transformed at once."""
    for (shape, dtype), alike in itertools.groupby(items, operator.itemgetter(0)):
        at_once = -(-_AT_ONCE // (math.prod(shape) * dtype.itemsize))
        while group := list(itertools.islice(alike, at_once)):
            yield group
