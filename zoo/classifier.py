"""A deploy net that takes images as they come from a file."""

from pathlib import Path

import numpy as np

from blobnet.errors import BlobnetError
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb


class Classifier(Net):
    """A net with one image input, whose ``transform_param`` says how pixels become values.

    model    the deploy prototxt
    weights  the caffemodel
    """

    def __init__(self, model: str | Path, weights: str | Path):
        super().__init__(model, pb.TEST, weights=weights)
        inputs = [layer for layer in self.layers if layer.type == "Input"]
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            raise BlobnetError(
                f"a classifier has one input and one output; got inputs {self.inputs}, outputs {self.outputs}",
                file=str(model),
            )
        self._batch, *self._image_shape = self.blobs[self.inputs[0]].shape
        self._transform = inputs[0].param.transform_param

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The output of the net for each image, N x classes.

        images   pixel values from 0 to 255, of any number type: N x C x H x W, or N x H x W where C is 1
        """
