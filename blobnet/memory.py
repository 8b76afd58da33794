"""What a training process holds at most, told from the net without running it.

Counted are the buffers that the train net's blobs will have once a solver has made it lean (``buffers``), the learned
blobs with their gradients and the solver's history, batches read ahead, and what layers keep between their passes. The
process itself and the kernels' work arrays are figures measured on nine nets, from LeNet to VGG-16, whose peaks came
out within a tenth; those of ``blobnet train`` with LeNet, CIFAR-10 quick and ResNet-20, tests included, within 5 %.
Not counted are the pages of a database.

``solvers.memory`` counts more strictly, to refuse what may not fit.
"""

import math
from typing import NamedTuple

from blobnet import buffers
from blobnet.blob import Blob
from blobnet.layers.base import Layer
from blobnet.layers.convolution import Convolution
from blobnet.net import Net
from blobnet.solvers.memory import kept_bytes

# Interpreter, libraries and machine code: Python 3.11, NumPy 2.4, numba 0.68.
PROCESS = 100_000_000

# Work arrays: a part for every net, and one for the largest filters that Winograd's way transforms.
LEAST_WORK = 25_000_000
WORK_OF_A_TRANSFORMED_WEIGHT = 6  # bytes for each byte of the weights: 36 elements for 9, and copies


class Memory(NamedTuple):
    """Bytes."""

    process: int
    data: int  # of blobs between layers
    diffs: int  # likewise
    learned: int  # data, diffs and history of learned blobs
    kept: int  # what layers hold besides; of those that run as one, the first
    work: int

    @property
    def peak(self) -> int:
        return sum(self)


def of_training(net: Net, history_count: int = 1) -> Memory:
    """For a train net that has not run; it is made lean.

    history_count  arrays that the solver keeps for each learned blob: 1 with momentum
    """
    buffers.make_lean(net, [])
    propagated = [
        blob
        for bottom, wanted in zip(net.bottoms, net.bottom_need_backward, strict=True)
        for blob, want in zip(bottom, wanted, strict=True)
        if want and blob.name not in net.hidden
    ]
    learned = sum(map(_bytes, net.learnable_params))
    return Memory(
        PROCESS,
        _buffers([blob for name, blob in net.blobs.items() if name not in net.hidden | net.placed], "data"),
        _buffers(propagated, "diff"),
        learned * (2 + history_count),
        sum(kept_bytes(net.layers[step[0]], net.bottoms[step[0]], net.tops[step[-1]]) for step in net.steps),
        LEAST_WORK + WORK_OF_A_TRANSFORMED_WEIGHT * max(map(_transformed, net.layers), default=0),
    )


def _buffers(blobs: list[Blob], part: str) -> int:
    """Bytes of the buffers that the blobs have, shared ones once."""
    sizes: dict[int, int] = {}
    for blob in blobs:
        key = blob.buffer(part)
        sizes[key] = max(sizes.get(key, 0), _bytes(blob))
    return sum(sizes.values())


def _bytes(blob: Blob) -> int:
    return blob.count * blob.dtype.itemsize


def _transformed(layer: Layer) -> int:
    """Bytes of the weights of a convolution with 3 x 3 or 5 x 5 taps at stride 1."""
    if not isinstance(layer, Convolution) or layer.group > 1 or math.prod(layer.stride) > 1:
        return 0
    return _bytes(layer.blobs[0]) if layer.kernel in ((3, 3), (5, 5)) else 0
