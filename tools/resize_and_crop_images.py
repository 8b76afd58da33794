"""Images of one square size: resized to one short side, and cut to the square in their middle."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from blobnet.errors import BlobnetError
from blobnet.io import images
from blobnet.io.files import atomic_write, os_errors, read_bytes

log = logging.getLogger("blobnet")


def resize_and_crop(
    input_folder: str | os.PathLike,
    output_folder: str | os.PathLike,
    side: int = 256,
    *,
    list_file: str | os.PathLike | None = None,
    smooth: bool = False,
) -> int:
    """Write a square of ``side`` pixels of each image under the same name into another folder; returns how many.

    list_file   names of the images in the folder, the first word of each line; every image there when left out
    smooth      average over the pixels that become one, instead of OpenCV's bilinear samples
    An image that cannot be read is left out, and logged.
    """
    source, target = Path(input_folder), Path(output_folder)
    if not source.is_dir():
        raise BlobnetError("there is no such folder", file=str(source))
    count = 0
    for name in _listed(list_file, source) if list_file is not None else _found(source):
        try:
            pixels = images.read_image(source / name)
        except BlobnetError as error:
            log.warning("left out: %s", error)
            continue
        encoded = images.encode(square(pixels, side, smooth), Path(name).suffix.lstrip("."))
        with os_errors(target / name, "write"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target / name) as temporary:
            temporary.write_bytes(encoded)
        count += 1
    log.info("Wrote %d images to %s", count, target)
    return count


def square(pixels: np.ndarray, side: int, smooth: bool = False) -> np.ndarray:
    """The middle ``side`` x ``side`` pixels of an image [H, W, C] whose short side is resized to that."""
    height, width = pixels.shape[:2]
    if height > width:
        height, width = side * height // width, side
    else:
        height, width = side, side * width // height
    resized = _smooth_resize(pixels, height, width) if smooth else images.resize(pixels, height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resized[top : top + side, left : left + side]


def _smooth_resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def _listed(list_file: str | os.PathLike, folder: Path) -> Iterator[str]:
    for line in os.fsdecode(read_bytes(list_file)).splitlines():
        if line.split():
            yield line.replace(str(folder), "").split()[0].lstrip("/")


def _found(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and images.is_image_name(path.name):
            yield str(path.relative_to(folder))
