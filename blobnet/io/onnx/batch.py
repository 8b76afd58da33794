"""Which extents of a net's blobs depend on the batch, so that a model can leave them open."""

from collections.abc import Mapping
from typing import NamedTuple

from blobnet.blob import Blob
from blobnet.errors import BlobnetError
from blobnet.net import Net

NAME = "batch"


class Open(NamedTuple):
    """An axis of a blob that has ``multiple`` elements for each item of the batch."""

    axis: int
    multiple: int


class Batch:
    """The open axes of blobs, by the blobs' names; without any, every extent is fixed."""

    def __init__(self, axes: Mapping[str, Open] | None = None):
        self._axes = dict(axes or {})

    def __bool__(self) -> bool:
        return bool(self._axes)

    def axis(self, blob: Blob) -> int | None:
        return self._axes[blob.name].axis if blob.name in self._axes else None

    def shape(self, blob: Blob) -> list[int]:
        """The extents as Reshape takes them: -1 where it is open."""
        return [-1 if axis == self.axis(blob) else extent for axis, extent in enumerate(blob.shape)]

    def declared(self, blob: Blob) -> list[int | str | None]:
        """The extents as inputs and outputs declare them: ``batch``, or nothing for a multiple of it."""
        shape: list[int | str | None] = list(blob.shape)
        if blob.name in self._axes:
            axis, multiple = self._axes[blob.name]
            shape[axis] = NAME if multiple == 1 else None
        return shape


def open_batch(net: Net) -> Batch:
    """The axes that follow the first extent of the inputs, found by building all shapes for batches of 1 and of 2.

    Errors: inputs that begin with other extents; a shape that does not grow along one axis, in proportion.
    """
    given = {name: net.blobs[name].shape for name in net.inputs}
    if len({shape[:1] for shape in given.values()}) > 1:
        raise BlobnetError(f"a batch that is left open must come first in all inputs; they have shapes {given}")
    ones, twos = ({name: blob.shape for name, blob in _with_batch(net, size).blobs.items()} for size in (1, 2))
    for name, shape in given.items():
        net.blobs[name].reshape(*shape)
    net.reshape()
    return Batch({name: _open_axis(name, shape, twos[name]) for name, shape in ones.items() if shape != twos[name]})


def _with_batch(net: Net, size: int) -> Net:
    for name in net.inputs:
        net.blobs[name].reshape(size, *net.blobs[name].shape[1:])
    try:
        net.reshape()
    except BlobnetError as error:
        raise BlobnetError(f"the batch cannot be left open: the net takes none of {size}: {error}") from error
    return net


def _open_axis(name: str, one: tuple[int, ...], two: tuple[int, ...]) -> Open:
    axes = [axis for axis, (before, after) in enumerate(zip(one, two, strict=True)) if before != after]
    if len(axes) != 1 or two[axes[0]] != 2 * one[axes[0]]:
        raise BlobnetError(
            f'the batch cannot be left open: blob "{name}" has shape {one} for one item and {two} for two'
        )
    return Open(axes[0], one[axes[0]])
