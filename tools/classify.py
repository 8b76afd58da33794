"""Classify images with a trained net, as Caffe's classify.py does."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blobnet.errors import BlobnetError
from blobnet.io.files import atomic_write
from blobnet.io.mean import read_mean
from blobnet.pycaffe import Classifier
from blobnet.pycaffe import io as caffe_io

log = logging.getLogger("blobnet")


def classify(
    source: str | os.PathLike,
    model: str | os.PathLike,
    weights: str | os.PathLike,
    *,
    center_only: bool = False,
    image_dims: Sequence[int] = (256, 256),
    mean_file: str | os.PathLike | None = None,
    input_scale: float | None = None,
    raw_scale: float | None = 255.0,
    channel_swap: Sequence[int] | None = (2, 1, 0),
    extension: str = "jpg",
) -> np.ndarray:
    """Predictions [N, classes] for an image, for those of a folder in the order of their names, or for an .npy of them.

    center_only   the middle of each image instead of the mean over ten crops
    image_dims    height and width that images are resized to first
    mean_file     an .npy or .binaryproto [C, H, W]; where it is no image of the input's size, its mean by channel
    raw_scale     the factor from the image's [0, 1] to the net's range; then the mean is subtracted,
    input_scale   and a last factor is applied
    channel_swap  the order of the net's channels among red, green and blue; images are grey for nets of one channel
    """
    try:
        net = Classifier(os.fspath(model), os.fspath(weights), image_dims, None, input_scale, raw_scale)
        name = net.inputs[0]
        shape = net.blobs[name].data.shape[1:]
        if mean_file:
            net.transformer.set_mean(name, load_mean(mean_file, shape))
        if channel_swap and shape[0] > 1:
            net.transformer.set_channel_swap(name, channel_swap)
        images = load_images(Path(source), extension, color=shape[0] > 1)
        log.info("Classifying %d inputs.", len(images))
        return net.predict(images, not center_only)
    except (LookupError, OSError, TypeError, ValueError) as error:  # what pycaffe raises
        raise BlobnetError(f"cannot be classified: {error}", file=str(source)) from error


def save(path: str | os.PathLike, predictions: np.ndarray) -> Path:
    """Write an .npy file; returns its path, to which the extension is added where it is missing."""
    target = Path(path) if Path(path).suffix == ".npy" else Path(f"{path}.npy")
    with atomic_write(target) as temporary, open(temporary, "wb") as file:
        np.save(file, predictions)
    return target


def load_mean(path: str | os.PathLike, shape: Sequence[int]) -> np.ndarray:
    """A mean for inputs of a shape [C, H, W]: an image of that shape, else one number a channel."""
    mean = np.load(path, allow_pickle=False) if Path(path).suffix == ".npy" else read_mean(path)
    return mean if mean.ndim == 1 or mean.shape == tuple(shape) else mean.mean(axis=(1, 2))


def load_images(source: Path, extension: str, color: bool) -> Sequence[np.ndarray]:
    """Images [H, W, C] of numbers from 0 to 1."""
    if source.suffix == ".npy":
        return np.load(source, allow_pickle=False)
    paths = sorted(source.glob(f"*.{extension}")) if source.is_dir() else [source]
    if not paths:
        raise BlobnetError(f"the folder holds no .{extension} file", file=str(source))
    return [caffe_io.load_image(os.fspath(path), color) for path in paths]
