"""Classify windows of images with a trained net, as Caffe's detect.py does."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from blobnet.errors import BlobnetError
from blobnet.io import hdf5
from blobnet.io.files import atomic_write, read_bytes
from blobnet.pycaffe import Detector
from blobnet.tools.classify import load_mean

COORDINATES = ("ymin", "xmin", "ymax", "xmax")


class Detection(NamedTuple):
    """A window (ymin, xmin, ymax, xmax) of an image, and the scores of its classes."""

    filename: str
    window: tuple[int, ...]
    prediction: np.ndarray


def detect(
    windows: str | os.PathLike,
    model: str | os.PathLike,
    weights: str | os.PathLike,
    *,
    mean_file: str | os.PathLike | None = None,
    input_scale: float | None = None,
    raw_scale: float | None = 255.0,
    channel_swap: Sequence[int] | None = (2, 1, 0),
    context_pad: int = 16,
) -> list[Detection]:
    """Scores of the windows in a CSV file with the columns filename, ymin, xmin, ymax, xmax.

    context_pad   pixels of the input, around each window, that show what surrounds it
    The other options are those of ``classify``; of a mean image the means of its channels count.
    """
    listed = read_windows(windows)
    try:
        net = Detector(os.fspath(model), os.fspath(weights), None, input_scale, raw_scale, channel_swap)
        name = net.inputs[0]
        if mean_file:
            mean = load_mean(mean_file)
            net.transformer.set_mean(name, mean if mean.ndim == 1 else mean.mean(axis=(1, 2)))
        net.configure_crop(context_pad)
        found = net.detect_windows(listed.items())
    except (LookupError, OSError, TypeError, ValueError) as error:  # what pycaffe raises
        raise BlobnetError(f"cannot be classified: {error}", file=str(windows)) from error
    return [Detection(one["filename"], tuple(one["window"]), one["prediction"].ravel()) for one in found]


def read_windows(path: str | os.PathLike) -> dict[str, list[tuple[int, ...]]]:
    """The windows of each image, in the order in which the images come first."""
    reader = csv.DictReader(io.StringIO(read_bytes(path).decode(errors="replace")), skipinitialspace=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise BlobnetError(f"is no CSV: {error}", file=str(path), line=reader.line_num) from error
    missing = {"filename", *COORDINATES} - set(reader.fieldnames or ())
    if missing:
        raise BlobnetError(
            f"the first line must name the columns; {', '.join(sorted(missing))} missing", file=str(path)
        )
    windows: dict[str, list[tuple[int, ...]]] = {}
    for line, row in rows:
        windows.setdefault(row["filename"], []).append(_window(row, path, line))
    if not windows:
        raise BlobnetError("lists no windows", file=str(path))
    return windows


def _window(row: dict[str, Any], path: str | os.PathLike, line: int) -> tuple[int, ...]:
    try:
        ymin, xmin, ymax, xmax = (int(float(row[name])) for name in COORDINATES)
    except (OverflowError, TypeError, ValueError) as error:
        raise BlobnetError("a window must be four whole numbers", file=str(path), line=line) from error
    if not (0 <= ymin < ymax and 0 <= xmin < xmax):
        text = f"a window must begin before it ends; got {ymin}, {xmin} to {ymax}, {xmax}"
        raise BlobnetError(text, file=str(path), line=line)
    return ymin, xmin, ymax, xmax


def save(path: str | os.PathLike, detections: Sequence[Detection]) -> None:
    """Write a CSV with columns class0, class1, ..., or HDF5 with the datasets filename, window and prediction."""
    if Path(path).suffix.lower() in (".h5", ".hdf5"):
        with hdf5.writer(path) as file:
            file.create_dataset("filename", data=[detection.filename for detection in detections])
            file.create_dataset("window", data=[detection.window for detection in detections])
            file.create_dataset("prediction", data=[detection.prediction for detection in detections])
        return
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    classes = [f"class{number}" for number in range(len(detections[0].prediction))]
    writer.writerow(["filename", *COORDINATES, *classes])
    writer.writerows([one.filename, *one.window, *map(float, one.prediction)] for one in detections)
    with atomic_write(path) as temporary:
        temporary.write_text(table.getvalue(), encoding="utf-8")
