"""What a training takes, counted layer by layer before it is taken: nets are built, but no pass has been run."""

from collections.abc import Sequence

import numpy as np

from blobnet.blob import Blob
from blobnet.budget import Budget
from blobnet.layers.base import Layer
from blobnet.net import Net


def check(train: Net, tests: Sequence[Net], weight_copies: int) -> int:
    """Refuse a training that does not fit into ``config.max_memory``, at the layer where the sum exceeds it.

    Returns the bytes that it takes.

    Counted are, each buffer once: the data of blobs, the gradients that are asked for, weights with their gradients
    and history (``weight_copies`` in all), batches read ahead, and what layers keep from forward for backward.
    """
    budget = Budget()
    seen: set[int] = set()
    for net in (train, *tests):
        for index, layer in enumerate(net.layers):
            bottom, top = net.bottoms[index], net.tops[index]
            size = sum(_new(blob, "data", seen) for blob in top) + kept_bytes(layer, bottom, top)
            size += sum(_new(blob, "data", seen) * weight_copies for blob in layer.blobs)
            if net is train and net.layer_need_backward[index]:
                wanted = net.bottom_need_backward[index]
                size += sum(_new(blob, "diff", seen) for blob, want in zip(bottom, wanted, strict=True) if want)
            if fault := budget.charge((id(net), index), size):
                layer.fail(fault)
    return budget.total


def kept_bytes(layer: Layer, bottom: Sequence[Blob], top: Sequence[Blob]) -> int:
    """Arrays of the layer besides its blobs, and the copy of its input where it makes one to work in place."""
    arrays = [array for value in vars(layer).values() for array in _arrays(value)]
    in_place = layer.keeps_input and bool(top) and any(top[0] is blob for blob in bottom)
    copied = top[0].count * layer.dtype.itemsize if in_place else 0
    return sum(array.nbytes for array in arrays) + copied + layer.read_ahead * layer.dtype.itemsize


def _arrays(value: object) -> list[np.ndarray]:
    """An attribute that is an array, or those in one that is a list."""
    values = value if isinstance(value, list) else [value]
    return [array for array in values if isinstance(array, np.ndarray)]


def _new(blob: Blob, part: str, seen: set[int]) -> int:
    """Bytes of a buffer that was not seen before."""
    if blob.buffer(part) in seen:
        return 0
    seen.add(blob.buffer(part))
    return blob.room(part) * blob.dtype.itemsize
