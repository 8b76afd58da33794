"""Weights as safetensors: tensors named ``<layer>.<index>``, the net's name in the metadata.

A file holds plain numbers behind a header that the library checks, so that it is safe to read, whoever wrote it.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence

import numpy as np

from blobnet.errors import BlobnetError
from blobnet.io.files import atomic_write, os_errors

_LENGTH = 8  # bytes of the header's length, which comes first
_NAME = "name"


def is_safetensors(path: str | os.PathLike) -> bool:
    """Whether a file is safetensors: the length of a header, then the header, which is JSON."""
    with os_errors(path, "read"), open(path, "rb") as file:
        start = file.read(_LENGTH + 1)
        return start[_LENGTH:] == b"{" and int.from_bytes(start[:_LENGTH], "little") <= os.fstat(file.fileno()).st_size


def read(path: str | os.PathLike) -> dict[str, list[np.ndarray | None]]:
    """The blobs of each layer; None where an index is missing. float64 stays, every other type becomes float32."""
    import safetensors

    layers: dict[str, list[np.ndarray | None]] = {}
    with _errors(path), safetensors.safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118  (no mapping)
            layer, _, index = name.rpartition(".")
            if not (layer and index.isdecimal() and len(index) <= 3):
                text = f'tensor "{name}" is no blob of a layer: its name must be <layer>.<index>, such as conv1.0'
                raise BlobnetError(text, file=str(path))
            values = file.get_tensor(name)
            blobs = layers.setdefault(layer, [])
            blobs.extend([None] * (int(index) + 1 - len(blobs)))
            blobs[int(index)] = values.astype(np.float64 if values.dtype == np.float64 else np.float32, copy=False)
    return layers


def read_name(path: str | os.PathLike) -> str:
    """The name of the net, empty where the file has none."""
    import safetensors

    with _errors(path), safetensors.safe_open(path, framework="numpy") as file:
        return (file.metadata() or {}).get(_NAME, "")


def write(path: str | os.PathLike, name: str, layers: Sequence[tuple[str, Sequence[np.ndarray | None]]]) -> None:
    """Write the blobs of each layer, atomically; None stands for a blob that another layer owns."""
    import safetensors.numpy

    tensors = {
        f"{layer}.{index}": np.ascontiguousarray(blob)
        for layer, blobs in layers
        for index, blob in enumerate(blobs)
        if blob is not None
    }
    content = safetensors.numpy.save(tensors, {_NAME: name})
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def _errors(path: str | os.PathLike) -> Iterator[None]:
    import safetensors

    try:
        yield
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise BlobnetError(f"cannot read safetensors: {error}", file=str(path)) from error
