"""A deploy net that takes images as they come from a file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blobnet.data.transformer import Draws, Transformer
from blobnet.errors import BlobnetError
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb


class Classifier(Net):
    """A net with one image input and one output. The ``transform_param`` of its Input layer turns pixels into values.

    model    the deploy prototxt
    weights  the caffemodel; the fillers of the prototxt when left out
    labels   names of the classes; ignored by a net with another number of outputs
    """

    def __init__(self, model: str | Path, weights: str | Path | None = None, labels: Sequence[str] = ()):
        super().__init__(model, pb.TEST, weights=weights)
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            rule = "a classifier has one input and one output"
            raise BlobnetError(f"{rule}; got inputs {self.inputs}, outputs {self.outputs}", file=str(model))
        self._input, self._output = self.blobs[self.inputs[0]], self.blobs[self.outputs[0]]
        self.labels = list(labels) if len(labels) == self._output.count_between(1) else []
        self._batch_size, *self._image_shape = self._input.shape
        layer = next(layer for layer in self.layers if layer.type == "Input")
        self._transformer = Transformer(layer.param, layer.context)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The output of the net for each image: N x classes.

        images  pixel values from 0 to 255 of any number type, N x C x H x W; N x H x W will do where C is 1.
                The channels stand as in the training data: blue first for ImageNet, red first for CIFAR-10
        """
        images = self._checked(np.asarray(images))
        undisturbed = Draws(*np.ones((3, self._batch_size)))
        predictions = np.empty((len(images), self._output.count_between(1)), self._output.dtype)
        for start in range(0, len(images), self._batch_size):
            batch = images[start : start + self._batch_size]
            self._input.reshape(len(batch), *self._image_shape)
            self._transformer.apply(batch, undisturbed.rows(0, len(batch)), self._input.data)
            self.forward_from_to(0, len(self.layers) - 1)
            predictions[start : start + len(batch)] = self._output.data.reshape(len(batch), -1)
        return predictions

    def best(self, images: np.ndarray, count: int = 5) -> list[list[tuple[str, float]]]:
        """The most probable classes of each image: their labels, or numbers where there are none, and probabilities."""
        names = self.labels or list(map(str, range(self._output.count_between(1))))
        predictions = self.predict(images)
        orders = np.argsort(-predictions, axis=1, kind="stable")[:, :count]
        return [[(names[i], float(row[i])) for i in order] for row, order in zip(predictions, orders, strict=True)]

    def _checked(self, images: np.ndarray) -> np.ndarray:
        wanted = " x ".join(map(str, ["N", *self._image_shape]))
        given = images.shape
        if images.ndim == 3 and self._image_shape[0] == 1:
            images = images[:, None]
        if images.ndim != 4 or list(self._transformer.shape(*images.shape[1:])) != self._image_shape:
            raise BlobnetError(f"images must have the shape {wanted} of the net's input; got {given}")
        return images
