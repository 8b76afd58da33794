"""transform_param: what happens to each image on its way into the batch."""

from typing import NamedTuple

import numpy as np

from blobnet.context import Context
from blobnet.errors import BlobnetError, error_at
from blobnet.io.mean import read_mean
from blobnet.kernels import augment
from blobnet.proto import blobnet_pb2 as pb


class Draws(NamedTuple):
    """The chances of one image: three numbers in [0, 1)."""

    mirror: float
    top: float
    left: float


class Transformer:
    """Crop, mirror, subtract the mean, scale: (pixel - mean) * scale, in one pass.

    transform_param (proto defaults in parentheses)
        scale (1), mirror (false): a mirror image half of the times, in both phases,
        crop_size (0: none): at a random place in TRAIN, from the middle in TEST,
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

    @property
    def color(self) -> bool | None:
        """How encoded images are decoded, as in ``images.decode``."""
        return True if self._param.force_color else False if self._param.force_gray else None

    def draw(self, generator: np.random.Generator, count: int) -> list[Draws]:
        """The chances of ``count`` images."""
        return [Draws(*row) for row in generator.random((count, 3)).tolist()]

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """The shape that an image of these extents gets."""
        crop = self._param.crop_size
        if crop > min(height, width):
            raise BlobnetError(f"crop_size must fit into the image; got crop_size {crop}, image {height} x {width}")
        return (channels, crop, crop) if crop else (channels, height, width)

    def apply(self, pixels: np.ndarray, draws: Draws, out: np.ndarray) -> None:
        """Transform an image [C, H, W] of bytes or floats into ``out`` [C, h, w] of ``shape``'s extents."""
        mean = self.mean(pixels.shape)
        slack = pixels.shape[1] - out.shape[1], pixels.shape[2] - out.shape[2]
        if self._random_crop:
            top, left = int(draws.top * (slack[0] + 1)), int(draws.left * (slack[1] + 1))
        else:
            top, left = slack[0] // 2, slack[1] // 2
        window = np.s_[:, top : top + out.shape[1], left : left + out.shape[2]]
        if self.mean_image is not None:
            mean = mean[window]
        if self.mirrors(draws):
            out = out[:, :, ::-1]
        augment.normalize(pixels[window], mean, self.scale, out)

    def mirrors(self, draws: Draws) -> bool:
        return self._param.mirror and draws.mirror < 0.5

    def mean(self, shape: tuple[int, ...]) -> np.ndarray:
        """What to subtract from an image of this shape: an image, or [C, 1, 1]."""
        if self.mean_image is not None:
            if self.mean_image.shape != shape:
                raise BlobnetError(f"the mean image has shape {self.mean_image.shape}, the image {shape}")
            return self.mean_image
        if len(self._mean_values) not in (1, shape[0]):
            raise BlobnetError(
                f"mean_value must be given once or once a channel; got {len(self._mean_values)} for {shape[0]} channels"
            )
        return np.repeat(self._mean_values, shape[0] // len(self._mean_values)).reshape(-1, 1, 1)
