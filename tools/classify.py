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
    mean_file     an .npy or .binaryproto: a number a channel, or an image [C, H, W], resized to the input's size
    raw_scale     the factor from the image's [0, 1] to the net's range; then the mean is subtracted,
    input_scale   and a last factor is applied
    channel_swap  the order of the net's channels among red, green and blue; images are grey for nets of one channel
    """
    try:
        net = Classifier(os.fspath(model), os.fspath(weights), image_dims, None, input_scale, raw_scale)
        name = net.inputs[0]
        color = net.blobs[name].data.shape[1] > 1
        if mean_file:
            net.transformer.set_mean(name, load_mean(mean_file))
        if channel_swap and color:
            net.transformer.set_channel_swap(name, channel_swap)
        images = load_images(Path(source), extension, color)
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


def load_mean(path: str | os.PathLike) -> np.ndarray:
    """The array of a mean file."""
    return np.load(path, allow_pickle=False) if Path(path).suffix == ".npy" else read_mean(path)


def load_images(source: Path, extension: str, color: bool) -> Sequence[np.ndarray]:
    """Images [H, W, C] of numbers from 0 to 1."""
    if source.suffix == ".npy":
        return np.load(source, allow_pickle=False)
    paths = sorted(source.glob(f"*.{extension}")) if source.is_dir() else [source]
    if not paths:
        raise BlobnetError(f"the folder holds no .{extension} file", file=str(source))
    return [caffe_io.load_image(os.fspath(path), color) for path in paths]
