"""What a layer does, held against what the machine can do (Williams, Waterman and Patterson 2009, Roofline).

A pass must make its multiplications, and must read and write each of its arrays once. Whichever of the two takes
longer at the machine's limits is the least time that the plain algorithm can take; Winograd's needs fewer
multiplications and may beat it, and so may a layer whose arrays stay in a cache.
"""

from collections.abc import Sequence
from typing import NamedTuple

from blobnet.blob import Blob
from blobnet.kernels.limits import Limits
from blobnet.layers.base import Layer


class Work(NamedTuple):
    flops: int
    bytes: int

    def seconds(self, limits: Limits) -> float:
        """The least time at the limits."""
        return max(self.flops / limits.flops, self.bytes / limits.bytes)


def forward(layer: Layer, bottom: Sequence[Blob], top: Sequence[Blob]) -> Work:
    """Reads the bottoms and the learned blobs, writes the tops; nothing is said of layers without bottoms."""
    if not bottom:
        return Work(0, 0)
    return Work(layer.flops(bottom, top), _bytes(bottom) + _bytes(top) + _bytes(layer.blobs))


def backward(layer: Layer, bottom: Sequence[Blob], top: Sequence[Blob], propagate_down: Sequence[bool]) -> Work:
    """Reads the diffs of the tops, the bottoms and the learned blobs; writes diffs of bottoms, adds to learned ones'.

    Each of the gradients, of the bottoms and of the learned blobs, takes the multiplications of a forward pass.
    """
    propagated = [blob for blob, wanted in zip(bottom, propagate_down, strict=True) if wanted]
    learned = [blob for blob, wanted in zip(layer.blobs, layer.param_propagate_down, strict=True) if wanted]
    products = bool(propagated) + bool(learned)
    moved = _bytes(top) + _bytes(bottom) + _bytes(propagated) + 2 * _bytes(learned)
    return Work(products * layer.flops(bottom, top), moved + (_bytes(layer.blobs) if propagated else 0))


def _bytes(blobs: Sequence[Blob]) -> int:
    return sum(blob.count * blob.dtype.itemsize for blob in blobs)
