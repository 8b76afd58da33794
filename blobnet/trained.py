"""Trained weights into the layers of a net, by layer name: copied from files or arrays, or shared with another net."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from blobnet.blob import Blob
from blobnet.errors import BlobnetError
from blobnet.io.weights import read_weights
from blobnet.layers.base import Layer

log = logging.getLogger("blobnet")

Arrays = Mapping[str, Sequence[np.ndarray | None]]
Weights = str | Path | Arrays


class LoadReport(NamedTuple):
    """What happened to each layer with weights, by name, when weights were copied into a net."""

    loaded: list[str]
    ignored: list[str]  # in the file, not in the net
    missing: list[str]  # in the net, neither in the file nor sharing what is: they keep their values

    def __str__(self) -> str:
        return "; ".join(f"{fate}: {', '.join(names) or 'none'}" for fate, names in self._asdict().items())

    def require_complete(self) -> None:
        """Raise an error unless file and net have the same layers with weights."""
        if self.ignored or self.missing:
            raise BlobnetError(f"the weights must be those of the net's layers, no more and no fewer; {self}")


def copy_layers(layers: Sequence[Layer], source: Weights, sharers: Collection[Blob] = ()) -> LoadReport:
    """Copy weights into the layers of the same names.

    source   path of a weights file, in a str several joined by commas (later ones win), or {layer name: arrays}
    sharers  blobs that a file may leave out, since they share another layer's
    Layers that only one side has are left alone. A layer of both sides must have as many blobs, of equal shapes;
    leading extents of 1 in the 4-D shapes of old files do not count.
    """
    if isinstance(source, Mapping):
        return _copy_arrays(layers, source, sharers, "the given weights")
    paths = source.split(",") if isinstance(source, str) else [source]
    reports = [_copy_arrays(layers, read_weights(path), sharers, str(path)) for path in paths]
    return LoadReport(
        loaded=[name for report in reports for name in report.loaded],
        ignored=[name for report in reports for name in report.ignored],
        missing=[name for name in reports[0].missing if all(name in report.missing for report in reports)],
    )


def share_layers(layers: Sequence[Layer], others: Sequence[Layer]) -> None:
    """Let the layers use the learnable blobs of the other layers of the same names, instead of own ones."""
    named = {other.name: other for other in reversed(others)}
    for layer in layers:
        if layer.name in named:
            shared = named[layer.name].blobs
            shapes, others_shapes = ([blob.shape for blob in blobs] for blobs in (layer.blobs, shared))
            layer.require(
                shapes == others_shapes,
                f"its weights cannot be shared with the other net's: shapes {shapes} here, {others_shapes} there",
            )
            for blob, owner in zip(layer.blobs, shared, strict=True):
                blob.share_data(owner)


def _copy_arrays(layers: Sequence[Layer], source: Arrays, sharers: Collection[Blob], origin: str) -> LoadReport:
    named = {layer.name: layer for layer in reversed(layers)}
    found = {name: arrays for name, arrays in source.items() if name in named}
    for name, arrays in found.items():
        _check_blobs(named[name], arrays, sharers, origin)
    for name, arrays in found.items():
        for blob, array in zip(named[name].blobs, arrays, strict=False):
            if array is not None:
                blob.data[...] = array.reshape(blob.shape)
    filled = {blob.buffer("data") for name in found for blob in named[name].blobs}
    report = LoadReport(
        loaded=[name for name in found if source[name]],
        ignored=[name for name in source if source[name] and name not in named],
        missing=[layer.name for layer in layers if layer.name not in source and not _is_filled(layer, filled)],
    )
    log.info("%s: %s", origin, report)
    return report


def _is_filled(layer: Layer, filled: Collection[int]) -> bool:
    """Whether the layer has no blob but those whose buffers are filled."""
    return all(blob.buffer("data") in filled for blob in layer.blobs)


def _check_blobs(layer: Layer, arrays: Sequence[np.ndarray | None], sharers: Collection[Blob], origin: str) -> None:
    given = [*arrays, *[None] * (len(layer.blobs) - len(arrays))]
    layer.require(
        len(given) == len(layer.blobs)
        and all(array is not None or blob in sharers for blob, array in zip(layer.blobs, given, strict=True)),
        f"{origin} holds {sum(array is not None for array in arrays)} blobs for this layer, "
        f"which has {len(layer.blobs)}",
    )
    for index, (blob, array) in enumerate(zip(layer.blobs, given, strict=True)):
        if array is None:
            continue
        padded = (1,) * (4 - blob.num_axes) + blob.shape
        layer.require(
            array.shape in (blob.shape, padded),
            f"{origin} holds blob {index} with shape {array.shape}, but the net needs {blob.shape}; "
            "to learn the layer anew instead of copying it, give it another name",
        )
