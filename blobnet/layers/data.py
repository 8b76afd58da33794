"""Layers whose images a thread reads ahead: Data, ImageData, WindowData."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from blobnet.blob import Blob
from blobnet.data.batch import Batch, Position
from blobnet.data.image_list import ImageLoader
from blobnet.data.prefetch import Prefetcher
from blobnet.data.records import RecordLoader
from blobnet.data.windows import WindowLoader
from blobnet.errors import BlobnetError, error_at
from blobnet.layers.base import Layer
from blobnet.layers.registry import register

_BATCH_OVERHEAD = 256  # elements that the objects of a batch amount to


class Loader(Protocol):
    """Fills batches; what stands in one follows from its position alone.

    examples      how many there are; None where they are drawn at random
    whole_passes  whether batches end with the last example
    """

    whole_passes: bool

    @property
    def examples(self) -> int | None: ...

    def first_position(self) -> Position: ...

    def first_shape(self) -> tuple[int, int, int]: ...

    def load(self, position: Position, batch: Batch) -> Position:
        """Fill the batch at a position; returns the next position."""


class DataLayer(Layer):
    """Base of the layers that read a set of examples over and over.

    batch_size  examples of a batch
    examples    how many there are in all; None where batches are drawn at random or the examples are yet to come
    """

    bottoms = (0, 0)

    @property
    def batch_size(self) -> int:
        raise NotImplementedError

    @property
    def examples(self) -> int | None:
        raise NotImplementedError

    def read_whole_passes(self) -> None:
        """From now on let a batch end with the last example: the last one of a pass may be shorter."""
        raise NotImplementedError


class PrefetchingLayer(DataLayer):
    """Base of the layers whose batches a thread loads: data [N, C, H, W] and, where there is a second top, labels [N].

    The thread keeps ``data_param.prefetch`` (4) batches ready. The state is the position behind the last batch
    that was consumed, so that a restored layer goes on with the next one.
    """

    tops = (1, 2)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        depth = self.param.data_param.prefetch
        self.require(depth > 0, f"prefetch must be positive; got {depth}", "data_param.prefetch")
        self._prefetcher: Prefetcher | None = None
        self._whole_passes = False
        with placed(self.param):
            self._loader = self.make_loader()
            self._position = self._loader.first_position()
            top[0].reshape(self.batch_size, *self._loader.first_shape())
        for label in top[1:]:
            label.reshape(self.batch_size)
        self.charge_read_ahead(depth * (sum(blob.count for blob in top) + _BATCH_OVERHEAD))

    @property
    def examples(self) -> int | None:
        return self._loader.examples

    def read_whole_passes(self) -> None:
        self._whole_passes = self._loader.whole_passes = True

    def make_loader(self) -> Loader:
        """The loader, after a check of the parameters."""
        raise NotImplementedError

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The shapes come with the batches."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if self._prefetcher is None:
            depth = self.param.data_param.prefetch
            self._prefetcher = Prefetcher(self._loader.load, self._position, depth, self.dtype)
        with placed(self.param):
            batch = self._prefetcher.take()
        for blob, loaded in zip(top, (batch.data, batch.label), strict=False):
            blob.reshape_like(loaded)
            blob.data[...] = loaded.data
        self._position = batch.position
        self._prefetcher.give_back(batch)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "position": self._position}

    def restore(self, state: dict[str, Any]) -> None:
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None
        super().restore(state)
        self._loader = self.make_loader()
        self._loader.whole_passes = self._whole_passes
        self._position = state["position"]


@contextlib.contextmanager
def placed(param) -> Iterator[None]:
    """Name the layer in errors of its files."""
    try:
        yield
    except BlobnetError as error:
        if error.layer:
            raise
        raise error_at(param, str(error)) from error


@register("Data")
class Data(PrefetchingLayer):
    """Records of a database (LMDB or LevelDB), in key order, over and over.

    A record is a Datum: raw bytes [C, H, W], float_data, or an encoded image (blue first when decoded).
    Its shape may change from one batch to the next, not within one.

    data_param (proto defaults in parentheses)
        source, backend (LEVELDB), batch_size, prefetch (4),
        rand_skip (0): start at a random one of so many first records,
        force_encoded_color (false): as transform_param.force_color
    transform_param: see data.transformer.
    Source: Caffe, data_layer.cpp.
    """

    @property
    def batch_size(self) -> int:
        return self.param.data_param.batch_size

    def make_loader(self) -> RecordLoader:
        param = self.param.data_param
        self.require(bool(param.source), "source must name a database folder", "data_param.source")
        self.require(param.batch_size > 0, "batch_size must be given and positive", "data_param.batch_size")
        return RecordLoader(self.param, self.context, self.stream)


@register("ImageData")
class ImageData(PrefetchingLayer):
    """Image files named in a list, with their labels.

    image_data_param (proto defaults in parentheses)
        source: the list, ``name label`` a line, split at the last blank; root_folder (""): put before each name,
        batch_size (1), shuffle (false): a new order each epoch,
        rand_skip (0): start at a random one of so many first images,
        new_height, new_width (0: as they are): resize, bilinear; both or neither, is_color (true)
    transform_param: see data.transformer.
    Source: Caffe, image_data_layer.cpp.
    """

    @property
    def batch_size(self) -> int:
        return self.param.image_data_param.batch_size

    def make_loader(self) -> ImageLoader:
        param = self.param.image_data_param
        self.require(bool(param.source), "source must name a list of images", "image_data_param.source")
        self.require(
            param.batch_size > 0, f"batch_size must be positive; got {param.batch_size}", "image_data_param.batch_size"
        )
        self.require(
            (param.new_height > 0) == (param.new_width > 0),
            f"new_height and new_width must be given together; got {param.new_height} and {param.new_width}",
            "image_data_param.new_height",
        )
        return ImageLoader(self.param, self.context, self.stream)


@register("WindowData")
class WindowData(PrefetchingLayer):
    """Windows of images drawn at random, warped to one size: training data of a detector.

    Of a batch, ``fg_fraction`` are foreground windows, labelled with their class; the others are background, 0.

    window_data_param (proto defaults in parentheses)
        source: the window file, see data.windows; root_folder (""): put before each path, batch_size,
        fg_threshold (0.5): foreground overlaps at least so much, bg_threshold (0.5): background less than so much,
        fg_fraction (0.25), context_pad (0): a border of so many pixels of the crop shows the surroundings,
        crop_mode ("warp"): or "square", cache_images (false): keep the files in memory
    transform_param: crop_size, the side of the crops, must be given; scale, mirror, mean_file, mean_value.
    Source: Caffe, window_data_layer.cpp.
    """

    @property
    def batch_size(self) -> int:
        return self.param.window_data_param.batch_size

    def make_loader(self) -> WindowLoader:
        param = self.param.window_data_param
        crop = self.param.transform_param.crop_size
        self.require(bool(param.source), "source must name a window file", "window_data_param.source")
        self.require(param.batch_size > 0, "batch_size must be given and positive", "window_data_param.batch_size")
        self.require(crop > 0, "crop_size must be given and positive", "transform_param.crop_size")
        pad = self.param.transform_param.pad
        self.require(not pad, f"windows are warped and take no pad; got {pad}", "transform_param.pad")
        self.require(
            2 * param.context_pad < crop,
            f"context_pad must be less than half of crop_size; got {param.context_pad}, crop_size {crop}",
            "window_data_param.context_pad",
        )
        self.require(
            param.crop_mode in ("warp", "square"),
            f'crop_mode must be "warp" or "square"; got "{param.crop_mode}"',
            "window_data_param.crop_mode",
        )
        self.require(
            0 <= param.fg_fraction <= 1,
            f"fg_fraction must be between 0 and 1; got {param.fg_fraction:g}",
            "window_data_param.fg_fraction",
        )
        return WindowLoader(self.param, self.context, self.stream)
