"""Batches: images and labels side by side, and the position behind them in their source."""

from collections.abc import Iterable

import numpy as np

from blobnet.blob import Blob
from blobnet.data.transformer import Draws, Transformer
from blobnet.errors import BlobnetError

Position = dict[str, int]
Item = tuple[str, np.ndarray, float]  # place for errors, pixels [C, H, W], label


class Batch:
    """Data [N, C, H, W], labels [N], and the position of the batch that follows."""

    def __init__(self, dtype: np.dtype):
        self.data = Blob(dtype=dtype)
        self.label = Blob(dtype=dtype)
        self.position: Position = {}

    def fill(self, items: Iterable[Item], transformer: Transformer, draws: list[Draws]) -> None:
        """Transform as many images as there are draws into the batch. The first one gives it its shape."""
        count = len(draws)
        for index, (drawn, (place, pixels, label)) in enumerate(zip(draws, items, strict=False)):
            try:
                shape = transformer.shape(*pixels.shape)
                if index == 0:
                    self.data.reshape(count, *shape)
                    self.label.reshape(count)
                    rows, labels = self.data.data, self.label.data
                if shape != rows.shape[1:]:
                    raise BlobnetError(f"has shape {shape}; the first one of its batch has {rows.shape[1:]}")
                transformer.apply(pixels, drawn, rows[index])
            except BlobnetError as error:
                raise BlobnetError(error.message, file=place) from error
            labels[index] = label
