"""Resizing of images [H, W, C] as scikit-image 0.19 and SciPy do it, which pycaffe relies on."""

from collections.abc import Sequence
from math import comb, factorial, sqrt

import numpy as np

from blobnet.errors import BlobnetError

Extents = Sequence[int] | np.ndarray  # height, width

_MARGIN = 12  # pixels from beyond the border that count for a spline; SciPy's number


def resize(image: np.ndarray, output_shape: Extents, order: int = 1, mode: str = "reflect") -> np.ndarray:
    """Resize the first two axes, as ``skimage.transform.resize`` does.

    order  0: the nearest pixel, 1: linear between neighbours, 2 to 5: a spline of that order through the pixels,
           which is cut to the image's range
    mode   what lies beyond the border, as in ``numpy.pad``

    Pixels are areas: the centre of output pixel i lies at (i + 0.5) * source / target - 0.5. Where the image
    shrinks, a Gaussian of standard deviation (source / target - 1) / 2 smooths it first.
    """
    resized = image.astype(np.float64) / (np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1)
    low, high = resized.min(), resized.max()
    factors = [source / target for source, target in zip(image.shape[:2], output_shape[:2], strict=True)]
    for axis, factor in enumerate(factors):
        if factor > 1:
            resized = _smooth(resized, axis, (factor - 1) / 2, mode)
    for axis, factor in enumerate(factors):
        positions = (np.arange(output_shape[axis]) + 0.5) * factor - 0.5
        resized = _sample(_padded(resized, axis, _MARGIN, mode), axis, positions + _MARGIN, order)
    return resized.clip(low, high) if order > 1 else resized


def zoom(image: np.ndarray, output_shape: Extents, order: int = 1) -> np.ndarray:
    """Resize the first two axes, as ``scipy.ndimage.zoom`` does: the centres of the corner pixels stay."""
    zoomed = image.astype(np.float64)
    for axis, target in enumerate(output_shape[:2]):
        zoomed = _sample(zoomed, axis, np.linspace(0, image.shape[axis] - 1, target), order)
    return zoomed


def _smooth(image: np.ndarray, axis: int, deviation: float, mode: str) -> np.ndarray:
    radius = int(4 * deviation + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
    padded = _padded(image, axis, radius, mode)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis)
    return windows @ (weights / weights.sum())


def _sample(image: np.ndarray, axis: int, positions: np.ndarray, order: int) -> np.ndarray:
    """The values at fractional positions along an axis; beyond its ends the image is mirrored."""
    if order == 0:
        return image.take(np.floor(positions + 0.5).astype(int), axis)
    if order not in (1, 2, 3, 4, 5):
        raise BlobnetError(f"interp_order must be 0 (nearest), 1 (linear) or 2 to 5 (a spline); got {order}")
    coefficients = _padded(_spline_coefficients(image, axis, order), axis, order, "reflect")
    first = np.floor(positions - (order - 1) / 2).astype(int)
    sampled = np.zeros((*image.shape[:axis], len(positions), *image.shape[axis + 1 :]))
    for pixel in (first + step for step in range(order + 1)):
        weights = _b_spline(positions - pixel, order).reshape((-1,) + (1,) * (image.ndim - 1 - axis))
        sampled += coefficients.take(pixel + order, axis) * weights
    return sampled


def _b_spline(x: np.ndarray, order: int) -> np.ndarray:
    """sum over k of (-1)^k (order + 1 over k) max(0, x + (order + 1) / 2 - k)^order / order!"""
    powers = [np.maximum(x + (order + 1) / 2 - k, 0) ** order for k in range(order + 2)]
    return np.tensordot([(-1) ** k * comb(order + 1, k) / factorial(order) for k in range(order + 2)], powers, 1)


_POLES: dict[int, Sequence[float]] = {
    1: (),
    2: (sqrt(8) - 3,),
    3: (sqrt(3) - 2,),
    4: tuple(sqrt(664 + sign * sqrt(438976)) - sign * sqrt(304) - 19 for sign in (-1, 1)),
    5: tuple(sqrt(67.5 + sign * sqrt(4436.25)) - sign * sqrt(26.25) - 6.5 for sign in (-1, 1)),
}


def _spline_coefficients(image: np.ndarray, axis: int, order: int) -> np.ndarray:
    """What to weigh B-splines with so that they meet the pixels, for an image that is mirrored beyond its ends.

    Source: Unser, Splines: a perfect fit for signal and image processing (1999), box 2.
    """
    line = np.moveaxis(image, axis, 0).copy()
    last = len(line) - 1
    for pole in _POLES[order] if last else ():
        line *= (1 - pole) * (1 - 1 / pole)
        period = pole ** np.arange(last + 1.0)
        period[1:last] += pole ** np.arange(2 * last - 1.0, last, -1)
        line[0] = np.tensordot(period, line, 1) / (1 - pole ** (2 * last))
        for index in range(1, last + 1):
            line[index] += pole * line[index - 1]
        line[last] = pole / (pole**2 - 1) * (line[last] + pole * line[last - 1])
        for index in range(last - 1, -1, -1):
            line[index] = pole * (line[index + 1] - line[index])
    return np.moveaxis(line, 0, axis)


def _padded(image: np.ndarray, axis: int, width: int, mode: str) -> np.ndarray:
    widths = [(width, width) if index == axis else (0, 0) for index in range(image.ndim)]
    return np.pad(image, widths, mode)  # type: ignore[call-overload]
