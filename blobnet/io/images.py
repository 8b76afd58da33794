"""Images as OpenCV gives them: bytes, blue first, H x W x C; decoded by Pillow, resized by a kernel of our own."""

import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from blobnet.errors import BlobnetError
from blobnet.io.files import most_decoded, read_bytes
from blobnet.kernels import augment

PIXEL_LIMIT = 1 << 26  # of one image, however large its file
STRIP = 1 << 20  # pixels that are converted at a time
FILE_LIMIT = 1 << 30

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
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            limit = min(PIXEL_LIMIT, most_decoded(len(data)) // 3)  # blue, green and red
            if image.width * image.height > limit:
                shown = f"{image.width} x {image.height} pixels are too many for {len(data)} bytes"
                raise ValueError(f"{shown}; the limit is {limit}")
            if color is False:
                image.draft("L", image.size)  # a JPEG's own luminance
            if color is not None:
                ImageOps.exif_transpose(image, in_place=True)
            grey = _PNG_GREY if image.format == "PNG" else _GREY
            return np.concatenate([_pixels(strip, color, grey) for strip in _strips(image)])
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


def _strips(image) -> Iterator[Any]:
    """The image in pieces from top to bottom, so that what conversions take besides is little."""
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _pixels(image, color: bool | None, grey: tuple[np.ndarray, int, int]) -> np.ndarray:
    if image.mode in ("1", "L", "LA") or image.mode.startswith("I"):
        plane = _grey_plane(image, color)
        return np.repeat(plane, 3, axis=2) if color else plane
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
        ink = np.asarray(image).astype(np.int32)
        white = 255 - ink[:, :, 3:]
        return (white - (ink[:, :, 2::-1] * white >> 8)).astype(np.uint8)
    rgb = np.asarray(image.convert("RGBA" if alpha else "RGB"))
    bgr = np.empty_like(rgb)
    bgr[:, :, :3] = rgb[:, :, 2::-1]
    bgr[:, :, 3:] = rgb[:, :, 3:]
    return bgr
