"""Batches: images and labels side by side, and the position behind them in their source."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from blobnet.blob import Blob
from blobnet.data.transformer import Draws, Transformer
from blobnet.errors import BlobnetError

Position = dict[str, int]
Item = tuple[str, np.ndarray, float]  # place for errors, pixels [C, H, W], label

_AT_ONCE = 1 << 18  # bytes of the images that are transformed together: they stay in the second cache


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
            places, pixels, labels = zip(*group, strict=True)
            stop = start + len(group)
            try:
                shape = transformer.shape(*pixels[0].shape)
                if start == 0:
                    self.data.reshape(count, *shape)
                    self.label.reshape(count)
                rows = self.data.data[start:stop]
                if shape != rows.shape[1:]:
                    raise BlobnetError(f"has shape {shape}; the first one of its batch has {rows.shape[1:]}")
                transformer.apply(np.array(pixels), draws.rows(start, stop), rows)
            except BlobnetError as error:
                raise BlobnetError(error.message, file=places[0]) from error
            self.label.data[start:stop] = labels
            start = stop


def _groups(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Neighbours of one shape and type, as many as are transformed at once."""
    group: list[Item] = []
    for item in items:
        if group and not (_alike(item[1], group[0][1]) and len(group) * item[1].nbytes < _AT_ONCE):
            yield group
            group = []
        group.append(item)
    yield group


def _alike(pixels: np.ndarray, others: np.ndarray) -> bool:
    return pixels.shape == others.shape and pixels.dtype == others.dtype
