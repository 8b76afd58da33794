"""Images as OpenCV gives them: bytes, blue first, H x W x C; decoded by Pillow, resized by a kernel of our own."""

import io
import os
from collections.abc import Callable

import numpy as np

from blobnet.errors import BlobnetError
from blobnet.io.files import most_decoded, read_bytes
from blobnet.kernels import augment

MEMORY_LIMIT = 448 << 20  # that decoding one image may take, however large its file: 64 megapixels of colour
PIXELS_OF_A_BYTE = 16  # at most in a photograph, which takes half a bit for each, or more
STRIP = 1 << 17  # pixels that are converted at a time
STRIP_BYTES = 3 << 20  # that this takes
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
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            cost = _bytes_of_a_pixel(image, _channels(image, color))
            room = most_decoded(len(data)) - len(data) - STRIP_BYTES
            limit = min(MEMORY_LIMIT // cost, max(room // cost, PIXELS_OF_A_BYTE * len(data)))
            if image.width * image.height > limit:
                shown = f"{image.width} x {image.height} pixels are too many for {len(data)} bytes"
                raise ValueError(f"{shown}; the limit is {limit}")
            if color is False:
                image.draft("L", image.size)  # a JPEG's own luminance
            return _copy(image, color)
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


def _bytes_of_a_pixel(image, channels: int) -> int:
    """What decoding holds at its peak: Pillow's image, and beside it what the decoder does, then the result."""
    held = {"1": 1, "L": 1, "P": 1, "I;16": 2}.get(image.mode, 4)
    decoders = 0
    if image.format == "WEBP":
        decoders = 12  # two canvases and a frame
    elif "progressive" in image.info:
        decoders = 2 * len(image.getbands())  # coefficients
    return held + max(decoders, channels)


def _copy(image, color: bool | None) -> np.ndarray:
    """The pixels, upright unless as stored, strip by strip: beside the image only the result has its size."""
    image.load()
    orientation = 1 if color is None else image.getexif().get(_ORIENTATION, 1)
    sides = (image.width, image.height) if orientation in _ON_ITS_SIDE else (image.height, image.width)
    pixels = np.empty((*sides, _channels(image, color)), np.uint8)
    as_stored = _AS_STORED.get(orientation, np.asarray)(pixels)
    grey = _PNG_GREY if image.format == "PNG" else _GREY
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        as_stored[top : top + rows] = _pixels(strip, color, grey)
    return pixels


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
        ink = np.asarray(image).astype(np.int32)
        white = 255 - ink[:, :, 3:]
        return (white - (ink[:, :, 2::-1] * white >> 8)).astype(np.uint8)
    rgb = np.asarray(image.convert("RGBA" if alpha else "RGB"))
    bgr = np.empty_like(rgb)
    bgr[:, :, :3] = rgb[:, :, 2::-1]
    bgr[:, :, 3:] = rgb[:, :, 3:]
    return bgr
