"""Rows of HDF5 files, for the HDF5Data layer."""

import functools
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from blobnet import config
from blobnet.errors import BlobnetError
from blobnet.io import hdf5
from blobnet.io.files import read_bytes
from blobnet.streams import Stream


class RowSource:
    """The rows of listed files as one endless sequence; one file at a time is in memory.

    names    the datasets to read; each has one row an example
    shuffle  an epoch visits the files, and the rows of each file, in an order of its own
    """

    def __init__(self, listing: Path, find: Callable[[str], Path], names: Sequence[str], shuffle: bool, stream: Stream):
        lines = os.fsdecode(read_bytes(listing)).splitlines()
        self._paths = [find(line.strip()) for line in lines if line.strip()]
        if not self._paths:
            raise BlobnetError("the list names no HDF5 files", file=str(listing))
        self._names = names
        self._shuffle = shuffle
        self._stream = stream
        counts, row_shapes = zip(*map(self._inspect, self._paths), strict=True)
        self._counts = np.array(counts)
        self.row_shapes: list[tuple[int, ...]] = row_shapes[0]
        for path, shapes in zip(self._paths, row_shapes, strict=True):
            if shapes != self.row_shapes:
                text = f"rows must have shapes {self.row_shapes}, as in {self._paths[0]}; got {shapes}"
                raise BlobnetError(text, file=str(path))
        self._values = functools.lru_cache(maxsize=1)(self._load)
        self._row_order = functools.lru_cache(maxsize=1)(self._draw_row_order)
        self._file_order = functools.lru_cache(maxsize=1)(self._draw_file_order)

    def __len__(self) -> int:
        """Rows of all files together."""
        return int(self._counts.sum())

    @property
    def largest_file(self) -> int:
        """Elements of all datasets of the file that has most rows: what is in memory at a time."""
        return int(self._counts.max()) * sum(map(math.prod, self.row_shapes))

    def read(self, start: int, outs: Sequence[np.ndarray]) -> None:
        """Copy the rows from number ``start`` on into the arrays, one array for each name."""
        done, wanted = 0, len(outs[0])
        while done < wanted:
            epoch, row = divmod(start + done, len(self))
            order = self._file_order(epoch)
            ends = np.cumsum(self._counts[order])
            place = int(np.searchsorted(ends, row, side="right"))
            file = int(order[place])
            first = row - int(ends[place] - self._counts[file])
            rows = self._row_order(epoch, file)[first : first + wanted - done]
            for out, values in zip(outs, self._values(file), strict=True):
                out[done : done + len(rows)] = values[rows]
            done += len(rows)

    def _inspect(self, path: Path) -> tuple[int, list[tuple[int, ...]]]:
        """Number and shapes of the rows in a file."""
        with hdf5.Reader(path) as reader:
            shapes = [reader.shape(name) for name in self._names]
        lengths = {shape[0] if shape else 0 for shape in shapes}
        if len(lengths) > 1 or 0 in lengths:
            named = ", ".join(f"{name} {shape}" for name, shape in zip(self._names, shapes, strict=True))
            raise BlobnetError(f"datasets must have equally many rows, 1 or more; got {named}", file=str(path))
        return lengths.pop(), [shape[1:] for shape in shapes]

    def _load(self, file: int) -> list[np.ndarray]:
        with hdf5.Reader(self._paths[file], config.given_max_memory()) as reader:
            return [reader.array(name) for name in self._names]

    def _draw_file_order(self, epoch: int) -> np.ndarray:
        count = len(self._paths)
        return self._stream.at("files", epoch).permutation(count) if self._shuffle else np.arange(count)

    def _draw_row_order(self, epoch: int, file: int) -> np.ndarray:
        count = self._counts[file]
        return self._stream.at(f"rows/{file}", epoch).permutation(count) if self._shuffle else np.arange(count)
