"""Classifier: a Net that takes images as they are, and averages its predictions over ten crops."""

from collections.abc import Sequence

import numpy as np

from blobnet.proto import blobnet_pb2 as pb
from blobnet.pycaffe import io
from blobnet.pycaffe.net import Net


class Classifier(Net):
    """Predicts classes of images [H, W, C].

    image_dims    (height, width) that images are resized to before they are cropped; the input's when left out
    mean, input_scale, raw_scale, channel_swap
                  of the Transformer, which also turns [H, W, C] into [C, H, W]
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        image_dims: Sequence[int] | None = None,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ):
        super().__init__(model_file, pb.TEST, weights=pretrained_file)
        self.transformer = image_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].data.shape[2:])
        self.image_dims = self.crop_dims if image_dims is None or len(image_dims) == 0 else image_dims

    def predict(self, inputs: Sequence[np.ndarray], oversample: bool = True) -> np.ndarray:
        """Predictions [N, classes] of N images: means over the ten crops of ``io.oversample``, or of the centre."""
        resized = np.stack([io.resize_image(image, self.image_dims) for image in inputs])
        if oversample:
            crops = io.oversample(resized, self.crop_dims)
        else:
            top, left = ((np.array(self.image_dims) - self.crop_dims) / 2).astype(int)
            height, width = self.crop_dims
            crops = resized[:, top : top + height, left : left + width]
        name = self.inputs[0]
        batch = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        predictions = self.forward_all(None, **{name: batch})[self.outputs[0]]
        return predictions.reshape(len(inputs), 10, -1).mean(axis=1) if oversample else predictions


def image_transformer(
    net: Net,
    mean: np.ndarray | None,
    input_scale: float | None,
    raw_scale: float | None,
    channel_swap: Sequence[int] | None,
) -> io.Transformer:
    """A Transformer from images [H, W, C] to the net's first input."""
    name = net.inputs[0]
    transformer = io.Transformer({name: net.blobs[name].data.shape})
    transformer.set_transpose(name, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(name, mean)
    if input_scale is not None:
        transformer.set_input_scale(name, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(name, channel_swap)
    return transformer
