"""Layers on HDF5 files: HDF5Data reads batches, HDF5Output writes them."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from blobnet.blob import Blob
from blobnet.data.hdf5 import RowSource
from blobnet.errors import BlobnetError
from blobnet.io import hdf5
from blobnet.layers.base import Layer
from blobnet.layers.data import DataLayer, placed
from blobnet.layers.registry import register

log = logging.getLogger("blobnet")


@register("HDF5Data")
class HDF5Data(DataLayer):
    """Rows of the datasets named like the tops, file after file; batches run across the borders of files and wrap.

    hdf5_data_param (proto defaults in parentheses)
        source: a list of HDF5 files, one a line; batch_size,
        shuffle (false): the files, and the rows of each, in a new order every epoch
    There is no transform_param: the data are taken as they are.
    Source: Caffe, hdf5_data_layer.cpp.
    """

    tops = (1, None)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        param = self.param.hdf5_data_param
        self.require(
            not self.param.HasField("transform_param"),
            "HDF5Data takes data as they are; remove transform_param",
            "transform_param",
        )
        self.require(bool(param.source), "source must name a list of HDF5 files", "hdf5_data_param.source")
        self.require(param.batch_size > 0, "batch_size must be given and positive", "hdf5_data_param.batch_size")
        self._next_row = 0
        self._whole_passes = False
        self._open()
        for blob, shape in zip(top, self._rows.row_shapes, strict=True):
            blob.reshape(param.batch_size, *shape)
        self.charge_read_ahead(self._rows.largest_file)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The shapes are those of the files."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        count = self.batch_size
        if self._whole_passes:
            count = min(count, self.examples - self._next_row % self.examples)
        for blob in top:
            blob.reshape(count, *blob.shape[1:])
        with placed(self.param):
            self._rows.read(self._next_row, [blob.data for blob in top])
        self._next_row += count

    @property
    def batch_size(self) -> int:
        return self.param.hdf5_data_param.batch_size

    @property
    def examples(self) -> int:
        return len(self._rows)

    def read_whole_passes(self) -> None:
        self._whole_passes = True

    def state(self) -> dict[str, Any]:
        return {**super().state(), "row": self._next_row}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._open()
        self._next_row = state["row"]

    def _open(self) -> None:
        param = self.param.hdf5_data_param
        find = self.context.find
        with placed(self.param):
            self._rows = RowSource(find(param.source), find, list(self.param.top), param.shuffle, self.stream)


@register("HDF5Output")
class HDF5Output(Layer):
    """Writes its bottoms into a file as the datasets ``data`` and ``label``, seen as N C H W.

    The first forward pass begins the file, later ones append their rows. A resumed training goes on behind the rows
    that were there at its snapshot. The gradient is zero.

    hdf5_output_param
        file_name: the file to write, relative to the working folder
    Source: Caffe, hdf5_output_layer.cpp.
    """

    bottoms = (2, 2)
    tops = (0, 0)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        path = self.param.hdf5_output_param.file_name
        self.require(bool(path), "file_name must name the file to write", "hdf5_output_param.file_name")
        with placed(self.param):
            self.context.permit_writing(path)
        self._written = 0  # rows
        self._restored = False

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        for blob in bottom:
            self.require(1 <= blob.num_axes <= 4, f"a bottom must have one to four axes; got {blob!r}")
        self.require(
            bottom[0].num == bottom[1].num,
            f"the bottoms must have equally many rows; got {bottom[0].num} and {bottom[1].num}",
        )

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        rows = {
            name: blob.data.reshape(blob.num, blob.channels, blob.height, blob.width)
            for name, blob in zip(("data", "label"), bottom, strict=True)
        }
        with placed(self.param):
            path = self.context.permit_writing(self.param.hdf5_output_param.file_name)
            if self._restored and self._written:
                self._return_to_snapshot(path, rows)
            write = hdf5.append_rows if self._written else hdf5.begin_rows
            write(path, rows)
        self._written += bottom[0].num
        self._restored = False

    def _return_to_snapshot(self, path: Path, names: Iterable[str]) -> None:
        """Cut off the rows that were written after the snapshot; without those before it, the file begins anew."""
        try:
            beyond = hdf5.rows_beyond(path, names, self._written)
        except BlobnetError as error:
            log.warning("%s; the output begins anew", error)
            self._written = 0
            return
        if beyond:
            hdf5.keep_rows(path, names, self._written)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "written": self._written}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._written, self._restored = state.get("written", 0), True

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            if wanted:
                blob.diff[...] = 0
