"""Resizing of images [H, W, C] as scikit-image 0.19 and SciPy do it, which pycaffe relies on."""

from collections.abc import Sequence

import numpy as np

from blobnet.errors import BlobnetError

Extents = Sequence[int] | np.ndarray  # height, width


def resize(image: np.ndarray, output_shape: Extents, order: int = 1, mode: str = "reflect") -> np.ndarray:
    """Resize the first two axes, as ``skimage.transform.resize`` does.

    order  0: the nearest pixel, 1: linear between neighbours
    mode   what lies beyond the border, as in ``numpy.pad``

    Pixels are areas: the centre of output pixel i lies at (i + 0.5) * source / target - 0.5. Where the image
    shrinks, a Gaussian of standard deviation (source / target - 1) / 2 smooths it first.
    """
    resized = image.astype(np.float64) / (np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1)
    factors = [source / target for source, target in zip(image.shape[:2], output_shape[:2], strict=True)]
    for axis, factor in enumerate(factors):
        if factor > 1:
            resized = _smooth(resized, axis, (factor - 1) / 2, mode)
    for axis, factor in enumerate(factors):
        positions = (np.arange(output_shape[axis]) + 0.5) * factor - 0.5
        resized = _sample(resized, axis, positions, order, mode)
    return resized


def zoom(image: np.ndarray, output_shape: Extents, order: int = 1) -> np.ndarray:
    """Resize the first two axes, as ``scipy.ndimage.zoom`` does: the centres of the corner pixels stay."""
    zoomed = image.astype(np.float64)
    for axis, target in enumerate(output_shape[:2]):
        zoomed = _sample(zoomed, axis, np.linspace(0, image.shape[axis] - 1, target), order, "edge")
    return zoomed


def _smooth(image: np.ndarray, axis: int, deviation: float, mode: str) -> np.ndarray:
    radius = int(4 * deviation + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
    padded = _padded(image, axis, radius, mode)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis)
    return windows @ (weights / weights.sum())


def _sample(image: np.ndarray, axis: int, positions: np.ndarray, order: int, mode: str) -> np.ndarray:
    """The values at fractional positions along an axis."""
    if order not in (0, 1):
        raise BlobnetError(f"interpolation order must be 0 (nearest) or 1 (linear); got {order}")
    padded = _padded(image, axis, 1, mode)
    positions = positions + 1
    if order == 0:
        return padded.take(np.floor(positions + 0.5).astype(int), axis)
    first = np.floor(positions).astype(int)
    part = (positions - first).reshape((-1,) + (1,) * (image.ndim - 1 - axis))
    return padded.take(first, axis) * (1 - part) + padded.take(first + 1, axis) * part


def _padded(image: np.ndarray, axis: int, width: int, mode: str) -> np.ndarray:
    widths = [(width, width) if index == axis else (0, 0) for index in range(image.ndim)]
    return np.pad(image, widths, mode)  # type: ignore[call-overload]
