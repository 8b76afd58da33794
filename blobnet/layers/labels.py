"""Labels, checked: what losses and metrics share that take a class number for each item."""

import numpy as np

from blobnet.blob import Blob
from blobnet.layers.base import Layer, describe


def class_numbers(layer: Layer, labels: Blob, classes: int, ignore_label: int | None = None) -> np.ndarray:
    """The labels as flat int64 class numbers, -1 for each that equals ``ignore_label``.

    A fraction is cut off, as Caffe does. A label that is no class number, NaN included, is an error.
    """
    values = labels.data.reshape(-1)
    if ignore_label is None and np.count_nonzero((values >= 0) & (values < classes)) == len(values):
        return values.astype(np.int64)
    numbers = np.trunc(values)
    ignored = numbers == ignore_label if ignore_label is not None else np.zeros(numbers.shape, bool)
    wrong = ~(ignored | ((numbers >= 0) & (numbers < classes)))
    if wrong.any():
        item = int(wrong.argmax())
        place = ", ".join(str(int(index)) for index in np.unravel_index(item, labels.shape))
        layer.fail(
            f"the label {labels.data.flat[item]:g} at [{place}] of {describe(labels)} is out of range: "
            f"labels must be 0 to {classes - 1}, one for each of {classes} classes"
            + (f", or the ignore_label {ignore_label}" if ignore_label is not None else "")
        )
    return np.where(ignored, -1, numbers).astype(np.int64)


def check_label_count(layer: Layer, scores: Blob, labels: Blob, count: int) -> None:
    """An error unless there is one label for each item that is classified."""
    layer.require(
        labels.count == count,
        f"{describe(labels)} must hold {count} labels, one for each item of {describe(scores)}; got {labels.count}",
    )
