"""Detector: a Net that classifies windows of images (R-CNN's way)."""

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np

from blobnet.errors import BlobnetError
from blobnet.proto import blobnet_pb2 as pb
from blobnet.pycaffe import io
from blobnet.pycaffe.classifier import image_transformer
from blobnet.pycaffe.net import Net

Window = Sequence[int]  # ymin, xmin, ymax, xmax; the last two are not in the window


class Detector(Net):
    """Predicts the classes of windows.

    mean, input_scale, raw_scale, channel_swap  as for Classifier
    context_pad  pixels around each window, in the size of the input, that its surroundings fill
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ):
        super().__init__(model_file, pb.TEST, weights=pretrained_file)
        self.transformer = image_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def configure_crop(self, context_pad: int | None) -> None:
        """Set ``crop_dims`` [H, W, C], ``context_pad``, and ``crop_mean``: what stands beyond the image's border."""
        name = self.inputs[0]
        channels, *dims = self.blobs[name].data.shape[1:]
        self.crop_dims = np.array([*dims, channels])
        self.context_pad = context_pad
        mean = self.transformer.mean.get(name)
        if mean is None:
            self.crop_mean = np.zeros(self.crop_dims, np.float32)
            return
        background = np.broadcast_to(mean, (channels, *dims))
        if name in self.transformer.channel_swap:
            background = background[np.argsort(self.transformer.channel_swap[name])]
        scale = self.transformer.raw_scale.get(name, 1.0)
        self.crop_mean = (background.transpose(1, 2, 0) / scale).astype(np.float32)

    def detect_windows(self, images_windows: Iterable[tuple[str, Iterable[Window]]]) -> list[dict[str, Any]]:
        """Predictions for windows of image files.

        images_windows  (file name, windows) for each image; a window is (ymin, xmin, ymax, xmax)
        Returns a dict with ``window``, ``prediction`` and ``filename`` for each window.
        """
        name = self.inputs[0]
        detections: list[dict[str, Any]] = []
        crops = []
        for filename, windows in images_windows:
            image = io.load_image(filename).astype(np.float32)
            for window in windows:
                crops.append(self.transformer.preprocess(name, self.crop(image, window)))
                detections.append({"window": window, "filename": filename})
        predictions = self.forward_all(None, **{name: np.stack(crops)})[self.outputs[0]]
        for detection, prediction in zip(detections, predictions, strict=True):
            detection["prediction"] = prediction
        return detections

    def detect_selective_search(self, image_fnames: Sequence[str]) -> NoReturn:
        """Refused: selective search is a MATLAB program."""
        raise BlobnetError(
            "selective search needs MATLAB, which blobnet does not run; "
            "find the windows in another way and give them to detect_windows"
        )

    def crop(self, im: np.ndarray, window: Window) -> np.ndarray:
        """The window of an image [H, W, C]; with ``context_pad``, resized to ``crop_dims`` with its surroundings.

        The padded window has the size of the input, the window proper that size less ``context_pad`` on each side;
        what reaches beyond the image is ``crop_mean``.
        """
        ymin, xmin, ymax, xmax = window
        if not self.context_pad:
            return im[ymin:ymax, xmin:xmax]
        input_height, input_width = self.crop_dims[:2]
        rows = _Span.padded(ymin, ymax, self.context_pad, input_height, im.shape[0])
        columns = _Span.padded(xmin, xmax, self.context_pad, input_width, im.shape[1])
        inside = im[rows.start : rows.stop, columns.start : columns.stop]
        crop = self.crop_mean.copy()
        resized = io.resize_image(inside, (rows.size, columns.size))
        crop[rows.offset : rows.offset + rows.size, columns.offset : columns.offset + columns.size] = resized
        return crop


class _Span:
    """One axis of a padded window: which pixels of the image it takes, and where in the crop they go."""

    def __init__(self, start: int, stop: int, offset: int, size: int):
        self.start = start
        self.stop = stop
        self.offset = offset
        self.size = size

    @classmethod
    def padded(cls, low: int, high: int, context_pad: int, input_extent: int, image_extent: int) -> "_Span":
        """Widen low to high (both in the window, as pycaffe counts here) by the padding's part of the input, and cut.

        Source: pycaffe's detector, Detector.crop.
        """
        half = (high - low + 1) / 2
        reach = half * input_extent / (input_extent - 2 * context_pad)
        wanted_start, wanted_stop = round(low + half - reach), round(low + half + reach)
        zoom = input_extent / (wanted_stop - wanted_start + 1)
        offset = round(max(0, -wanted_start) * zoom)
        start, stop = max(0, wanted_start), min(image_extent, wanted_stop)
        return cls(start, stop, offset, min(round((stop - start + 1) * zoom), input_extent - offset))
