"""Trained weights by layer name: from caffemodels of every age, from HDF5 and safetensors, and back."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from blobnet.errors import BlobnetError, describe_layer
from blobnet.io import blob_proto, files, hdf5, safetensors
from blobnet.passes import upgrade
from blobnet.proto import blobnet_pb2 as pb

_BLOB_NAMES = {str(index) for index in range(1000)}

LayerBlobs = tuple[str, Sequence[np.ndarray | None]]


def read_weights(path: str | os.PathLike) -> dict[str, list[np.ndarray | None]]:
    """The learnable blobs of each layer in a weights file, which is recognised by its content.

    HDF5 and safetensors files can leave a blob out (None): it is shared, and stands with the layer that owns it.
    """
    if hdf5.is_hdf5(path):
        return _read_hdf5(path)
    return safetensors.read(path) if safetensors.is_safetensors(path) else _read_caffemodel(path)


def read_net_name(path: str | os.PathLike) -> str:
    """The name of the net that a weights file is of; empty where the file does not tell."""
    if hdf5.is_hdf5(path):
        return ""
    if safetensors.is_safetensors(path):
        return safetensors.read_name(path)
    return files.read_message(path, pb.NetParameter()).name


def write_weights(path: str | os.PathLike, name: str, layers: Sequence[LayerBlobs]) -> None:
    """Write the blobs of each layer of a net in the format that the extension names, atomically.

    ``.h5``, ``.safetensors``, else a caffemodel, which cannot leave a blob out.
    """
    suffix = Path(path).suffix
    if suffix == ".h5":
        write_hdf5(path, layers)
    elif suffix == ".safetensors":
        safetensors.write(path, name, layers)
    else:
        write_caffemodel(path, pb.NetParameter(name=name, layer=[_layer(*layer) for layer in layers]))


def _layer(name: str, blobs: Sequence[np.ndarray | None]) -> pb.LayerParameter:
    if any(blob is None for blob in blobs):
        text = "shares a blob that another layer holds; a caffemodel would have to hold it here too"
        raise BlobnetError(text, layer=f'layer "{name}"')
    return pb.LayerParameter(name=name, blobs=[blob_proto.from_array(blob) for blob in blobs if blob is not None])


def write_caffemodel(path: str | os.PathLike, net: pb.NetParameter) -> None:
    """Write a NetParameter whose layers hold their blobs, atomically."""
    files.write_message(path, net)


def write_hdf5(path: str | os.PathLike, data: Sequence[LayerBlobs], diff: Sequence[LayerBlobs] | None = None) -> None:
    """Write ``data/<layer>/<index>`` and, where diffs are given, ``diff/<layer>/<index>``, atomically.

    ``data`` holds, for every layer, its name and its blobs; None stands for a blob that another layer owns.
    """
    with hdf5.writer(path) as file:
        for part, layers in (("data", data), ("diff", diff)):
            if layers is None:
                continue
            root = file.create_group(part)
            for name, blobs in layers:
                group = root.require_group(name)
                for index, blob in enumerate(blobs):
                    if blob is not None:
                        group.create_dataset(str(index), data=blob)


def _read_caffemodel(path: str | os.PathLike) -> dict[str, list[np.ndarray | None]]:
    net = upgrade.upgrade_net(files.read_message(path, pb.NetParameter()), str(path))
    return {layer.name: _blobs(layer, str(path)) for layer in net.layer}


def _blobs(layer: pb.LayerParameter, file: str) -> list[np.ndarray | None]:
    try:
        return [blob_proto.to_array(proto) for proto in layer.blobs]
    except BlobnetError as error:
        raise BlobnetError(error.message, file=file, layer=describe_layer(layer)) from error


def _read_hdf5(path: str | os.PathLike) -> dict[str, list[np.ndarray | None]]:
    with hdf5.Reader(path) as reader:
        return dict(_walk(reader, "", set()))


def _walk(reader: hdf5.Reader, layer: str, seen: set) -> Iterator[tuple[str, list[np.ndarray | None]]]:
    """The layers in and below a group: a slash in a layer's name makes a group within a group."""
    group = f"data/{layer}"
    identity = reader.identity(group)
    if identity in seen:
        raise BlobnetError(f'HDF5 group "{group}" has two names', file=reader.path)
    seen.add(identity)
    indices = []
    for member in reader.names(group):
        if reader.is_group(f"{group}/{member}"):
            yield from _walk(reader, f"{layer}/{member}".lstrip("/"), seen)
        elif layer and member in _BLOB_NAMES:
            indices.append(int(member))
        else:
            raise BlobnetError(f'HDF5 member "{group}/{member}" is no blob of a layer', file=reader.path)
    if layer:
        blobs: list[np.ndarray | None] = [None] * (max(indices, default=-1) + 1)
        for index in indices:
            blobs[index] = reader.array(f"{group}/{index}")
        yield layer, blobs
