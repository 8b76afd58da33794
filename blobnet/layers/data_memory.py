"""MemoryData: batches of arrays that the program hands over."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from blobnet.blob import Blob
from blobnet.errors import error_at
from blobnet.layers.data import DataLayer
from blobnet.layers.registry import register


@register("MemoryData")
class MemoryData(DataLayer):
    """Images and labels from ``reset``, batch by batch, over and over.

    data [N, C, H, W]; labels [N] when the net is built, [N, 1, 1, 1] after a forward pass, as in Caffe.

    memory_data_param
        batch_size, channels, height, width
    Source: Caffe, memory_data_layer.cpp.
    """

    tops = (2, 2)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        param = self.param.memory_data_param
        self.shape = param.batch_size, param.channels, param.height, param.width
        self.require(
            min(self.shape) > 0,
            f"batch_size, channels, height and width must be given and positive; got {self.shape}",
            "memory_data_param",
        )
        top[0].reshape(*self.shape)
        top[1].reshape(param.batch_size)
        self._data: np.ndarray | None = None
        self._labels: np.ndarray | None = None
        self._next = 0

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The shapes are those of the parameters."""

    def reset(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Take data [n, C, H, W] and labels [n], n a multiple of the batch size; start with the first row.

        The first data after a resume start where the training stood.
        """
        data, labels = np.asarray(data, self.dtype), np.asarray(labels, self.dtype)
        if data.ndim != 4 or data.shape[1:] != self.shape[1:]:
            raise error_at(self.param, f"data must have shape (n, {str(self.shape[1:])[1:]}; got {data.shape}")
        if labels.shape not in ((len(data),), (len(data), 1, 1, 1)):
            raise error_at(self.param, f"labels must be one for each of {len(data)} images; got shape {labels.shape}")
        if len(data) == 0 or len(data) % self.shape[0]:
            raise error_at(
                self.param, f"the number of images must be a multiple of batch_size {self.shape[0]}; got {len(data)}"
            )
        self._next = self._next % len(data) if self._data is None else 0
        self._data, self._labels = data, labels

    @property
    def batch_size(self) -> int:
        return self.shape[0]

    @property
    def examples(self) -> int | None:
        return None if self._data is None else len(self._data)

    def read_whole_passes(self) -> None:
        """Batches divide the data, so a pass ends with one anyway."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if self._data is None or self._labels is None:
            self.fail("there are no data yet: hand them over with reset(data, labels) before the first forward pass")
        rows = slice(self._next, self._next + self.shape[0])
        top[0].data[...] = self._data[rows]
        top[1].reshape(self.shape[0], 1, 1, 1)
        top[1].data[...] = self._labels[rows].reshape(top[1].shape)
        self._next = rows.stop % len(self._data)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "row": self._next}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._next = state["row"]
