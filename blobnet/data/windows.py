"""Windows of images: the window file of R-CNN, sampling, and cropping with context, for the WindowData layer.

A window file holds, image after image::

    # 0
    path/to/image.jpg
    3                           channels
    375                         height
    500                         width
    2                           number of windows
    12 0.81 48 240 195 371      class, overlap, x1, y1, x2, y2 (inclusive)
    0 0.2 8 12 352 498

Sources: Caffe, window_data_layer.cpp; Girshick et al. 2014, appendix A (context and warping).
"""

import functools
import math
import os
from typing import NamedTuple, NoReturn

import numpy as np

from blobnet.context import Context
from blobnet.data.batch import Batch, Position
from blobnet.data.transformer import Transformer
from blobnet.errors import BlobnetError
from blobnet.io import images
from blobnet.io.files import read_bytes
from blobnet.proto import blobnet_pb2 as pb
from blobnet.streams import Stream

_CHANNELS = 3  # images are always decoded in colour

Box = tuple[int, int, int, int]  # x1, y1, x2, y2, all inclusive


class WindowFile(NamedTuple):
    images: list[str]
    windows: np.ndarray  # [n, 7]: index of the image, class, overlap, x1, y1, x2, y2


class Placement(NamedTuple):
    """The pixels of an image that a crop shows, and where: the rest of the crop stays empty."""

    box: Box
    top: int
    left: int
    height: int
    width: int


def read_window_file(path: str | os.PathLike) -> WindowFile:
    """Images and windows of a window file. An error names the line."""
    return _WindowReader(path).read()


def place(box: Box, image: tuple[int, int], crop: int, context: int, square: bool, mirrored: bool) -> Placement:
    """How a window fills a crop of side ``crop``.

    context  the width of the border of surrounding pixels that the crop shows around the window
    square   widen the window to a square first
    What lies outside of the image (height, width) stays empty; of a mirrored crop the borders change sides.
    """
    if not context and not square:
        return Placement(box, 0, 0, crop, crop)
    x1, y1, x2, y2 = _expand(box, crop / (crop - 2 * context), square)
    scale_x, scale_y = crop / (x2 - x1 + 1), crop / (y2 - y1 + 1)
    beyond = max(0, -x1), max(0, -y1), max(0, x2 - image[1] + 1), max(0, y2 - image[0] + 1)
    clipped = x1 + beyond[0], y1 + beyond[1], x2 - beyond[2], y2 - beyond[3]
    top = _round(beyond[1] * scale_y)
    left = _round(beyond[2 if mirrored else 0] * scale_x)
    height = min(_round((clipped[3] - clipped[1] + 1) * scale_y), crop - top)
    width = min(_round((clipped[2] - clipped[0] + 1) * scale_x), crop - left)
    return Placement(clipped, top, left, height, width)


class WindowLoader:
    """Draws windows at random: of each batch the first part background, the rest foreground."""

    def __init__(self, layer: pb.LayerParameter, context: Context, stream: Stream):
        param = self._param = layer.window_data_param
        self._crop = layer.transform_param.crop_size
        self._transformer = Transformer(layer, context)
        self._context = context
        self._stream = stream
        self._path = context.find(param.source)
        self._read = functools.cache(read_bytes) if param.cache_images else read_bytes
        self._images, windows = read_window_file(self._path)
        foreground = windows[:, 2] >= param.fg_threshold
        self._foreground = windows[foreground]
        self._background = windows[~foreground & (windows[:, 2] < param.bg_threshold)]
        self._background[:, 1] = 0
        self._foreground_count = int(np.float32(param.batch_size) * np.float32(param.fg_fraction))
        self._check()

    def first_position(self) -> Position:
        return {"batch": 0}

    whole_passes = False
    examples = None

    def first_shape(self) -> tuple[int, int, int]:
        return _CHANNELS, self._crop, self._crop

    def load(self, position: Position, batch: Batch) -> Position:
        size = self._param.batch_size
        batch.data.reshape(size, *self.first_shape())
        batch.label.reshape(size)
        batch.data.data[...] = 0
        generator = self._stream.at("windows", position["batch"])
        draws = self._transformer.draw(generator, size)
        mirrored = self._transformer.mirrors(draws)
        for index, window in enumerate(self._sample(generator)):
            self._show(window, mirrored[index], batch.data.data[index])
            batch.label.data[index] = window[1]
        return {"batch": position["batch"] + 1}

    def _check(self) -> None:
        counts = self._foreground_count, self._param.batch_size - self._foreground_count
        for kind, windows, wanted in zip(
            ("foreground", "background"), (self._foreground, self._background), counts, strict=True
        ):
            if wanted and not len(windows):
                raise BlobnetError(f"a batch needs {wanted} {kind} windows; the file holds none", file=str(self._path))
        if (self._foreground[:, 1] <= 0).any():
            raise BlobnetError("a foreground window must be of class 1 or more", file=str(self._path))

    def _sample(self, generator: np.random.Generator) -> np.ndarray:
        background = self._param.batch_size - self._foreground_count
        picks = [
            windows[generator.integers(len(windows), size=count)]
            for windows, count in ((self._background, background), (self._foreground, self._foreground_count))
            if count
        ]
        return np.concatenate(picks)

    def _show(self, window: np.ndarray, mirrored: bool, out: np.ndarray) -> None:
        """Warp a window into ``out`` [C, crop, crop]."""
        name = self._param.root_folder + self._images[int(window[0])]
        path = self._context.find(name)
        image = images.decode(self._read(path), True, str(path))
        x1, y1, x2, y2 = (int(value) for value in window[3:])
        square = self._param.crop_mode == "square"
        spot = place((x1, y1, x2, y2), image.shape[:2], self._crop, self._param.context_pad, square, mirrored)
        x1, y1, x2, y2 = spot.box
        if not (0 <= x1 <= x2 < image.shape[1] and 0 <= y1 <= y2 < image.shape[0]):
            raise BlobnetError(
                f"window {window[3:].astype(int).tolist()} lies outside of the image, {image.shape[0]} x "
                f"{image.shape[1]}",
                file=str(path),
            )
        if min(spot.height, spot.width) < 1:
            return
        pixels = images.resize(image[y1 : y2 + 1, x1 : x2 + 1], spot.height, spot.width).transpose(2, 0, 1)
        if mirrored:
            pixels = pixels[:, :, ::-1]
        target = np.s_[:, spot.top : spot.top + spot.height, spot.left : spot.left + spot.width]
        self._transformer.normalize(pixels, self._mean(target), out[target])

    def _mean(self, target: tuple[slice, ...]) -> np.ndarray:
        """The mean for a part of the crop: from the middle of a mean image, or one value a channel."""
        image = self._transformer.mean_image
        if image is None:
            return self._transformer.mean((_CHANNELS, self._crop, self._crop))
        offset = (image.shape[2] - self._crop) // 2
        if offset < 0 or image.shape[0] != _CHANNELS or image.shape[1] < offset + self._crop:
            raise BlobnetError(f"the mean image must hold the crop of {self._crop}; got shape {image.shape}")
        return image[:, offset : offset + self._crop, offset : offset + self._crop][target]


def _expand(box: Box, factor: float, square: bool) -> Box:
    """The window about its centre, made larger by ``factor``."""
    x1, y1, x2, y2 = box
    half_width, half_height = (x2 - x1 + 1) / 2, (y2 - y1 + 1) / 2
    centre_x, centre_y = x1 + half_width, y1 + half_height
    if square:
        half_width = half_height = max(half_width, half_height)
    return (
        _round(centre_x - half_width * factor),
        _round(centre_y - half_height * factor),
        _round(centre_x + half_width * factor),
        _round(centre_y + half_height * factor),
    )


def _round(value: float) -> int:
    """To the nearest whole number, halves away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


class _WindowReader:
    def __init__(self, path: str | os.PathLike):
        self._path = str(path)
        text = os.fsdecode(read_bytes(path))
        self._lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip())
        self._number = 0

    def read(self) -> WindowFile:
        names: list[str] = []
        windows = []
        while heading := self._next_line():
            if not heading.startswith("# "):
                self._fail(f'an image must begin with "# <index>"; got "{heading}"')
            name = self._line("the path of an image")
            for what in ("channels", "height", "width"):
                self._numbers(1, what)
            count = int(self._numbers(1, "number of windows")[0])
            rows = [[len(names), *self._numbers(6, "class, overlap, x1, y1, x2, y2")] for _ in range(count)]
            windows.append(np.array(rows, np.float32).reshape(-1, 7))
            names.append(name)
        if not names:
            self._fail("the window file names no images")
        return WindowFile(names, np.concatenate(windows))

    def _next_line(self) -> str:
        """The next line that is not empty; an empty string at the end."""
        self._number, line = next(self._lines, (self._number, ""))
        return line

    def _line(self, what: str) -> str:
        return self._next_line() or self._fail(f"the file ends where {what} is expected")

    def _numbers(self, count: int, what: str) -> list[float]:
        line = self._line(what)
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            values = []
        if len(values) != count or not all(map(math.isfinite, values)):
            self._fail(f'expected {what}; got "{line}"')
        return values

    def _fail(self, text: str) -> NoReturn:
        raise BlobnetError(text, file=self._path, line=self._number or None)
