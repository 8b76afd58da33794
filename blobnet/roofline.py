"""What the layers of a net do, held against what the machine can do (Williams, Waterman and Patterson 2009, Roofline).

A pass must make its multiplications, and must read and write each of its arrays once. Whichever of the two takes
longer at the machine's limits is the least time that the plain algorithm can take; Winograd's needs fewer
multiplications and may beat it, and so may a layer whose arrays stay in a cache.
"""

from collections.abc import Sequence
from typing import NamedTuple

from blobnet.blob import Blob
from blobnet.kernels.limits import Limits
from blobnet.net import Net


class Work(NamedTuple):
    flops: int
    bytes: int

    def seconds(self, limits: Limits) -> float:
        """The least time at the limits."""
        return max(self.flops / limits.flops, self.bytes / limits.bytes)


def forward(net: Net, step: range) -> Work:
    """What a step (see ``Net.steps``) does: it reads its bottoms and the learned blobs, and writes its tops.

    Nothing is said of layers without bottoms. What others write where it is joined is not read.
    """
    bottom, top = net.bottoms[step[0]], net.tops[step[-1]]
    if all(blob.name in net.placed for blob in bottom):
        return Work(0, 0)
    return Work(_flops(net, step), _bytes(bottom) + _bytes(top) + _bytes(_learned(net, step)))


def backward(net: Net, step: range) -> Work:
    """It reads the diffs of the tops, the bottoms and the learned blobs; it makes the diffs of the last two.

    Each of the gradients, of the bottoms and of the learned blobs, takes the multiplications of a forward pass.
    Of diffs that others read where they are joined, nothing is made.
    """
    bottom, top = net.bottoms[step[0]], net.tops[step[-1]]
    if parts := net.joined.get(step[0]):
        return Work(0, 2 * _bytes([blob for blob in bottom if blob not in parts]))
    propagated = [blob for blob, wanted in zip(bottom, net.bottom_need_backward[step[0]], strict=True) if wanted]
    wanted = [wanted for index in step for wanted in net.layers[index].param_propagate_down]
    learning = [blob for blob, learns in zip(_learned(net, step), wanted, strict=True) if learns]
    products = bool(propagated) + bool(learning)
    moved = _bytes(top) + _bytes(bottom) + _bytes(propagated) + 2 * _bytes(learning)
    return Work(products * _flops(net, step), moved + (_bytes(_learned(net, step)) if propagated else 0))


def _flops(net: Net, step: range) -> int:
    return sum(net.layers[index].flops(net.bottoms[index], net.tops[index]) for index in step)


def _learned(net: Net, step: range) -> list[Blob]:
    return [blob for index in step for blob in net.layers[index].blobs]


def _bytes(blobs: Sequence[Blob]) -> int:
    return sum(blob.count * blob.dtype.itemsize for blob in blobs)
