"""transform_param: what happens to each image on its way into the batch."""

import functools
from typing import NamedTuple

import numpy as np

from blobnet.context import Context
from blobnet.errors import BlobnetError, error_at
from blobnet.io.mean import read_mean
from blobnet.proto import blobnet_pb2 as pb


class Draws(NamedTuple):
    """The chances of images: three numbers in [0, 1) for each."""

    mirror: np.ndarray
    top: np.ndarray
    left: np.ndarray

    def rows(self, start: int, stop: int) -> "Draws":
        """The chances of the images from ``start`` to ``stop``."""
        return Draws(*(numbers[start:stop] for numbers in self))


class Transformer:
    """Subtract the mean, scale, pad, crop, mirror: (pixel - mean) * scale.

    transform_param (proto defaults in parentheses)
        scale (1), mirror (false): a mirror image half of the times, in both phases,
        pad (0; our own): a border of so many values that are 0 after the mean has been subtracted,
        crop_size (0: none): at a random place in TRAIN, from the middle in TEST, border included,
        mean_file: a mean image of the size before cropping, cropped at the same place,
        mean_value: one for all channels or one for each; not besides mean_file,
        force_color, force_gray (false): how encoded images are decoded; not both
    Source: Caffe, data_transformer.cpp.
    """

    def __init__(self, layer: pb.LayerParameter, context: Context):
        param = self._param = layer.transform_param
        if param.mean_file and param.mean_value:
            raise error_at(layer, "mean_file and mean_value exclude each other", "transform_param.mean_value")
        if param.force_color and param.force_gray:
            raise error_at(layer, "force_color and force_gray exclude each other", "transform_param.force_gray")
        self._random_crop = context.phase == pb.TRAIN
        self.scale = context.dtype.type(param.scale)
        self.mean_image = None
        if param.mean_file:
            self.mean_image = read_mean(context.find(param.mean_file)).astype(context.dtype, copy=False)
        self._mean_values = np.array(param.mean_value or [0], context.dtype)
        self._channel_means = functools.cache(self._spread_values)

    @property
    def color(self) -> bool | None:
        """How encoded images are decoded, as in ``images.decode``."""
        return True if self._param.force_color else False if self._param.force_gray else None

    def draw(self, generator: np.random.Generator, count: int) -> Draws:
        """The chances of ``count`` images."""
        return Draws(*generator.random((count, 3)).T)

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """The shape that an image of these extents gets."""
        crop, border = self._param.crop_size, 2 * self._param.pad
        height, width = height + border, width + border
        if crop > min(height, width):
            padded = " with its padding" if border else ""
            text = f"crop_size must fit into the image{padded}; got crop_size {crop}, image {height} x {width}"
            raise BlobnetError(text)
        return (channels, crop, crop) if crop else (channels, height, width)

    def apply(self, images: np.ndarray, draws: Draws, out: np.ndarray) -> None:
        """Transform images [N, C, H, W] of bytes or floats into ``out`` [N, C, h, w] of ``shape``'s extents."""
        param, mean = self._param, self.mean(images.shape[1:])
        if param.crop_size or param.mirror or param.pad:
            values = np.empty(images.shape, out.dtype)
            self.normalize(images, mean, values)
            self._cut(values, draws, out)
        else:
            self.normalize(images, mean, out)

    @np.errstate(over="ignore", invalid="ignore")
    def normalize(self, pixels: np.ndarray, mean: np.ndarray, out: np.ndarray) -> None:
        """out = (pixels - mean) * scale, in the precision of ``out``."""
        out[...] = pixels
        out -= mean
        out *= self.scale

    def _cut(self, values: np.ndarray, draws: Draws, out: np.ndarray) -> None:
        """Pad, crop and mirror."""
        pad, extents = self._param.pad, out.shape[2:]
        slack = np.subtract(values.shape[2:], extents) + 2 * pad
        if self._random_crop:
            corners = (np.stack([draws.top, draws.left], axis=1) * (slack + 1)).astype(np.int64)
        else:
            corners = np.tile(slack // 2, (len(values), 1))
        for image, corner, mirrored, target in zip(values, corners - pad, self.mirrors(draws), out, strict=True):
            if mirrored:
                target = target[:, :, ::-1]
            if pad:
                target[...] = 0
            rows, columns = map(_overlap, corner.tolist(), extents, image.shape[1:])
            target[:, rows[1], columns[1]] = image[:, rows[0], columns[0]]

    def mirrors(self, draws: Draws) -> np.ndarray:
        """Which images are mirrored."""
        return self._param.mirror & (draws.mirror < 0.5)

    def mean(self, shape: tuple[int, ...]) -> np.ndarray:
        """What to subtract from an image of this shape: an image, or [C, 1, 1]."""
        if self.mean_image is not None:
            if self.mean_image.shape != shape:
                raise BlobnetError(f"the mean image has shape {self.mean_image.shape}, the image {shape}")
            return self.mean_image
        return self._channel_means(shape[0])

    def _spread_values(self, channels: int) -> np.ndarray:
        """The mean values as [C, 1, 1]."""
        given = len(self._mean_values)
        if given not in (1, channels):
            raise BlobnetError(f"mean_value must be given once or once a channel; got {given} for {channels} channels")
        return np.repeat(self._mean_values, channels // given).reshape(-1, 1, 1)


def _overlap(start: int, count: int, extent: int) -> tuple[slice, slice]:
    """What ``count`` lines from ``start`` on share with an image of ``extent`` lines: in the image, and among them."""
    first = max(start, 0)
    last = max(first, min(start + count, extent))
    return slice(first, last), slice(first - start, last - start)
