"""Images as OpenCV gives them: bytes, blue first, H x W x C; decoded by Pillow, resized by a kernel of our own."""

import contextlib
import ctypes
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from blobnet import config
from blobnet.budget import shown
from blobnet.errors import BlobnetError
from blobnet.io import image_memory
from blobnet.io.files import most_decoded, os_errors, read_bytes
from blobnet.kernels import augment

STRIP = 1 << 17  # pixels that are converted at a time
WORKSPACE = 5 << 20  # bytes that this takes, and tables of decoders
FILE_LIMIT = 1 << 30

_ORIENTATION = 0x0112  # in EXIF
# The view of an upright image that is as stored.
_AS_STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: np.rot90,
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
_ON_ITS_SIDE = (5, 6, 7, 8)
_FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP")

# Weights of blue, green and red in grey, what is added for rounding, and the bits to shift by.
_GREY = (np.array([1868, 9617, 4899], np.int32), 1 << 13, 14)  # OpenCV
_PNG_GREY = (np.array([3737, 19234, 9797], np.int32), 0, 15)  # libpng


def read_image(path: str | os.PathLike, color: bool | None = True) -> np.ndarray:
    """Read and decode an image file; ``color`` as in ``decode``."""
    return decode(read_bytes(path, FILE_LIMIT), color, str(path))


def decode(data: bytes, color: bool | None, place: str) -> np.ndarray:
    """The pixels as bytes [H, W, C]. ``place`` names the file or record in an error.

    color   True: blue, green, red. False: one channel of grey. None: as stored, with 1, 3 or 4 (alpha) channels.
    """
    with opened(data, place) as (image, room):
        if color is False:
            image.draft("L", image.size)  # a JPEG's own luminance
        return _copy(image, color, room.holds_both(image, _channels(image, color), data))


@contextlib.contextmanager
def opened(data: bytes, place: str) -> Iterator[tuple[Any, "Room"]]:
    """Pillow's image of a file, to be loaded when ``room`` holds it; what goes wrong with it is a BlobnetError."""
    from PIL import Image, UnidentifiedImageError

    try:
        room = Room(data)
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            yield image, room
    except UnidentifiedImageError as error:
        raise BlobnetError(f"cannot decode the image: it is none of {', '.join(_FORMATS)}", file=place) from error
    except Exception as error:  # Pillow's readers let errors of many kinds through
        raise BlobnetError(f"cannot decode the image: {error}", file=place) from error


def encode(pixels: np.ndarray, kind: str) -> bytes:
    """The file of bytes [H, W, C], in the format that goes with the file extension ``kind``: "png", "jpg", ...

    JPEG has OpenCV's quality of 95.
    """
    from PIL import Image

    shown = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels[:, :, ::-1])
    file = io.BytesIO()
    try:
        shown.save(file, format_of(kind), quality=95)
    except (OSError, ValueError) as error:
        raise BlobnetError(f'cannot encode the image as "{kind}": {error}') from error
    return file.getvalue()


def format_of(kind: str) -> str:
    """Pillow's name of the format that goes with a file extension."""
    known = _extensions()
    if kind.lower() not in known:
        raise BlobnetError(f'there is no image format "{kind}"; there are {", ".join(sorted(known))}')
    return known[kind.lower()]


def is_image_name(name: str) -> bool:
    """Whether a file name ends as those of images do."""
    return name.rpartition(".")[2].lower() in _extensions()


def _extensions() -> dict[str, str]:
    """The format of each file extension."""
    from PIL import Image

    return {
        extension.lstrip("."): kind for extension, kind in Image.registered_extensions().items() if kind in _FORMATS
    }


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resizing of bytes [H, W, C], in the arithmetic of OpenCV's INTER_LINEAR, to the bit.

    Halving both sides exactly averages four pixels, as there.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.shape[:2] == (2 * height, 2 * width):
        blocks = pixels.reshape(height, 2, width, 2, -1)
        return ((blocks.sum(axis=(1, 3), dtype=np.uint16) + 2) >> 2).astype(np.uint8)
    out = np.empty((height, width, pixels.shape[2]), np.uint8)
    scratch = np.empty((2, width, pixels.shape[2]), np.int32)
    rows, row_parts = _taps(pixels.shape[0], height)
    columns, column_parts = _taps(pixels.shape[1], width)
    column_parts[columns[:, 0] == columns[:, 1]] = 0  # OpenCV rounds border rows in two parts, columns in one
    augment.resize_bilinear(
        np.ascontiguousarray(pixels), rows, _weights(row_parts), columns, _weights(column_parts), scratch, out
    )
    return out


def _taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """For each output line the two source lines around its centre, and the part of the second."""
    centre = ((np.arange(target) + 0.5) * (1 / (target / source)) - 0.5).astype(np.float32)
    first = np.floor(centre).astype(np.int64)
    lines = np.clip(np.stack([first, first + 1], axis=1), 0, source - 1)
    return lines, centre - first.astype(np.float32)


def _weights(parts: np.ndarray) -> np.ndarray:
    weights = np.stack([1 - parts, parts], axis=1) * np.float32(1 << augment.COEFFICIENT_BITS)
    return np.rint(weights).astype(np.int32)


class Room:
    """The memory that may be taken to read one image; an error where the file, and what is not pixels, exceed it."""

    def __init__(self, data: bytes):
        given = config.given_max_memory()
        self._limit = most_decoded(len(data)) if given is None else given
        self._rule = "64 MiB and four times the file" if given is None else "as set"
        self._taken = len(data) + image_memory.metadata(data)
        self._require(self._taken, "texts, profiles and tags")
        self._taken += WORKSPACE

    def holds_both(self, image, channels: int, data: bytes) -> bool:
        """Whether the result fits beside Pillow's image; an error where they do not even fit one after the other."""
        held, decoder = image_memory.needed(image, data)
        result = channels * image.width * image.height
        self._require(self._taken + max(held + decoder, result), f"{image.width} x {image.height} pixels")
        return self._taken + held + decoder + result <= self._limit

    def _require(self, size: int, what: str) -> None:
        if size > self._limit:
            raise ValueError(
                f"its {what} take {shown(size)}; the limit is {shown(self._limit)}, {self._rule}. "
                "Make it smaller, or set BLOBNET_MAX_MEMORY or --max-memory"
            )


def _copy(image, color: bool | None, at_once: bool) -> np.ndarray:
    """The pixels, upright unless as stored, strip by strip: beside the image only the result has its size."""
    if image.format == "TIFF":
        _forget_further_tags(image)
    image.load()
    orientation = 1 if color is None else _orientation(image)
    width, height = image.size
    sides = (width, height) if orientation in _ON_ITS_SIDE else (height, width)
    pixels = np.empty((*sides, _channels(image, color)), np.uint8)
    as_stored = _AS_STORED.get(orientation, np.asarray)(pixels)
    boxes = list(_boxes(width, height))
    strips = _strips(image, color, boxes)
    for (left, top, right, bottom), strip in zip(boxes, strips if at_once else _kept(strips, image), strict=True):
        as_stored[top:bottom, left:right] = strip
    return pixels


def _forget_further_tags(image) -> None:
    """Keep Pillow from reading directories of EXIF, whose size nothing bounds."""
    from PIL import TiffTags

    exif = image.getexif()
    for pointer in set(exif) & set(TiffTags.TAGS_V2_GROUPS):
        del exif[pointer]


def _orientation(image) -> int:
    """What EXIF says; texts, where Pillow looks too, are not asked."""
    return image.getexif().get(_ORIENTATION, 1) if "exif" in image.info or image.format == "TIFF" else 1


def _boxes(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        for left in range(0, width, STRIP):
            yield left, top, min(left + STRIP, width), min(top + rows, height)


def _strips(image, color: bool | None, boxes: Iterable[tuple[int, int, int, int]]) -> Iterator[np.ndarray]:
    grey = _PNG_GREY if image.format == "PNG" else _GREY
    return (_pixels(image.crop(box), color, grey) for box in boxes)


def _kept(strips: Iterable[np.ndarray], image) -> Iterator[np.ndarray]:
    """The same strips, from a temporary file, after the image that they are of is gone."""
    folder = tempfile.gettempdir()
    with (
        os_errors(folder, "keep the pixels there while they are decoded; TMPDIR may name a folder with more room"),
        tempfile.TemporaryFile(dir=folder) as file,
    ):
        shapes = []
        for strip in strips:
            file.write(strip.data)
            shapes.append(strip.shape)
        image.close()
        _give_back()
        file.seek(0)
        for shape in shapes:
            strip = np.empty(shape, np.uint8)
            file.readinto(strip.data)
            yield strip


def _give_back() -> None:
    """Have the system get what was freed: glibc keeps tens of megabytes for later."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _channels(image, color: bool | None) -> int:
    if color is None and image.mode == "RGBA":
        return 4
    return 1 if color is False or (color is None and _is_grey(image)) else 3


def _is_grey(image) -> bool:
    return image.mode in ("1", "L", "LA") or image.mode.startswith("I")


def _pixels(image, color: bool | None, grey: tuple[np.ndarray, int, int]) -> np.ndarray:
    """Blue, green and red, alpha where that is asked for, or one channel of grey."""
    if _is_grey(image):
        return _grey_plane(image, color)
    bgr = _blue_first(image, alpha=color is None and image.mode == "RGBA")
    if color is False:
        weights, rounding, shift = grey
        return ((bgr @ weights + rounding) >> shift).astype(np.uint8)[:, :, None]
    return bgr


def _grey_plane(image, color: bool | None) -> np.ndarray:
    if not image.mode.startswith("I"):
        return np.array(image.convert("L"))[:, :, None]
    if color is None:
        raise ValueError("a pixel must have 8 bits a channel; this image has 16")
    return (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)[:, :, None]


def _blue_first(image, alpha: bool) -> np.ndarray:
    if image.mode == "CMYK":
        ink = np.asarray(image)
        white = (255 - ink[:, :, 3:]).astype(np.uint16)
        return (white - (ink[:, :, 2::-1] * white >> 8)).astype(np.uint8)
    rgb = np.asarray(image.convert("RGBA" if alpha else "RGB"))
    bgr = np.empty_like(rgb)
    bgr[:, :, :3] = rgb[:, :, 2::-1]
    bgr[:, :, 3:] = rgb[:, :, 3:]
    return bgr
