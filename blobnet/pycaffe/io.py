"""caffe.io: images as float arrays [H, W, C], the Transformer between them and input blobs, arrays as messages."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from blobnet.errors import BlobnetError, did_you_mean
from blobnet.io.images import opened
from blobnet.proto import blobnet_pb2 as caffe_pb2
from blobnet.pycaffe import resampling
from blobnet.pycaffe.resampling import Extents
from blobnet.pycaffe.resampling import resize as resize

_LUMINANCE = np.array([0.2125, 0.7154, 0.0721])  # of red, green and blue (ITU-R BT.709, as scikit-image rounds it)


# Images


def load_image(filename: str, color: bool = True) -> np.ndarray:
    """An image file as float32 [H, W, 3] (red first) or, without ``color``, [H, W, 1], from 0 to 1."""
    data = Path(filename).read_bytes()
    with opened(data, str(filename)) as (image, room):
        room.holds_both(image, 3, data)
        if image.mode.startswith("I"):
            pixels = np.asarray(image) / 65535
            return np.repeat(pixels[:, :, np.newaxis], 3 if color else 1, axis=2).astype(np.float32)
        if not color and image.mode == "L":
            return (np.asarray(image) / 255)[:, :, np.newaxis].astype(np.float32)
        pixels = np.asarray(image.convert("RGB")) / 255
    return (pixels if color else pixels @ _LUMINANCE[:, np.newaxis]).astype(np.float32)


def resize_image(im: np.ndarray, new_dims: Extents, interp_order: int = 1) -> np.ndarray:
    """An image [H, W, C] in the size ``new_dims`` = (height, width), float32; ``interp_order`` 0 to 5.

    Images of 1 or 3 channels are resized as scikit-image does, with smoothing where they shrink and black beyond
    the border; others as SciPy's ``zoom`` does.
    """
    if im.shape[-1] not in (1, 3):
        return resampling.zoom(im, new_dims, interp_order).astype(np.float32)
    low, high = float(im.min()), float(im.max())
    if high == low:
        return np.full((*new_dims, im.shape[-1]), low, np.float32)
    scaled = (im.astype(np.float64) - low) / (high - low)
    return (resize(scaled, new_dims, interp_order, "constant") * (high - low) + low).astype(np.float32)


def oversample(images: Sequence[np.ndarray] | np.ndarray, crop_dims: Extents) -> np.ndarray:
    """Ten crops of each image: the four corners and the centre, then the mirror images of these five.

    images [H, W, C] of one size; crop_dims = (height, width). Returns float32 [10 * len(images), height, width, C].
    """
    image_dims = np.array(images[0].shape[:2])
    height, width = dims = np.asarray(crop_dims, int)
    bottom, right = image_dims - dims
    centre = (image_dims / 2 - dims / 2).astype(int)
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), tuple(centre)]
    crops = [[image[y : y + height, x : x + width] for y, x in corners] for image in images]
    plain = np.array(crops, np.float32)  # [N, 5, height, width, C]
    both = np.concatenate([plain, plain[:, :, :, ::-1]], axis=1)
    return both.reshape(-1, *both.shape[2:])


class Transformer:
    """Turns images [H, W, C] into what an input blob takes, and back.

    inputs  {input name: shape of its blob}

    ``preprocess`` does, as far as set: resize to the blob's extents, transpose the axes, swap channels, multiply
    by the raw scale, subtract the mean, multiply by the input scale. ``deprocess`` undoes all but the resizing.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]):
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """The image as the input's float32 array."""
        dims = self._shape(in_)[2:]
        array = data.astype(np.float32)
        if array.shape[:2] != dims:
            array = resize_image(array, dims)
        if in_ in self.transpose:
            array = array.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            array = array[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            array = array * np.float32(self.raw_scale[in_])
        if in_ in self.mean:
            array = array - self.mean[in_].astype(np.float32)
        if in_ in self.input_scale:
            array = array * np.float32(self.input_scale[in_])
        return array

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """The image of an array that ``preprocess`` made, without axes of extent 1."""
        self._shape(in_)
        image = data.copy().squeeze()
        if in_ in self.input_scale:
            image = image / self.input_scale[in_]
        if in_ in self.mean:
            image = image + self.mean[in_]
        if in_ in self.raw_scale:
            image = image / self.raw_scale[in_]
        if in_ in self.channel_swap:
            image = image[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            image = image.transpose(np.argsort(self.transpose[in_]))
        return image.astype(np.float32)

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Order of the image's axes in the blob: (2, 0, 1) turns [H, W, C] into [C, H, W]."""
        if len(order) != len(self._shape(in_)) - 1:
            raise BlobnetError(
                f'the order must name each of the {len(self.inputs[in_]) - 1} axes of an item of "{in_}"; got {order}'
            )
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Order of the channels: (2, 1, 0) turns red, green, blue into blue, green, red."""
        if len(order) != self._shape(in_)[1]:
            raise BlobnetError(
                f'the order must name each of the {self.inputs[in_][1]} channels of "{in_}"; got {order}'
            )
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """The factor before the mean is subtracted: 255 where the mean is of bytes."""
        self._shape(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """What to subtract: one value a channel [C], or an image [C, H, W] or [H, W], resized where it must be."""
        channels, *dims = self._shape(in_)[1:]
        if mean.ndim == 1:
            if len(mean) != channels:
                raise ValueError(f'"{in_}" has {channels} channels, but the mean has {len(mean)} values')
            mean = mean[:, np.newaxis, np.newaxis]
        else:
            shape = (1, *mean.shape) if mean.ndim == 2 else mean.shape
            if len(shape) != 3:
                raise ValueError(f"the mean must have shape (C,), (H, W) or (C, H, W); got {mean.shape}")
            if shape != (channels, *dims):
                mean = resize_image(mean.reshape(shape).transpose(1, 2, 0), dims).transpose(2, 0, 1)
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """The factor after the mean is subtracted."""
        self._shape(in_)
        self.input_scale[in_] = scale

    def _shape(self, in_: str) -> tuple[int, ...]:
        if in_ not in self.inputs:
            hint = did_you_mean(in_, self.inputs)
            raise BlobnetError(f'"{in_}" is not one of the net inputs {list(self.inputs)}{hint}')
        return self.inputs[in_]


# Arrays as messages


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> caffe_pb2.BlobProto:
    """A BlobProto of an array of any shape, and of its gradient."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).flat)
    if diff is not None:
        blob.diff.extend(diff.astype(float).flat)
    return blob


def blobproto_to_array(blob: caffe_pb2.BlobProto, return_diff: bool = False) -> np.ndarray:
    """The data, or the diff, in the shape that the message states, old (num, channels, height, width) or new."""
    values = np.array(blob.diff if return_diff else blob.data)
    legacy = ("num", "channels", "height", "width")
    if any(blob.HasField(name) for name in legacy):
        return values.reshape([getattr(blob, name) for name in legacy])
    return values.reshape(blob.shape.dim)


def arraylist_to_blobprotovector_str(arraylist: Sequence[np.ndarray]) -> bytes:
    """The bytes of a BlobProtoVector."""
    return caffe_pb2.BlobProtoVector(blobs=[array_to_blobproto(arr) for arr in arraylist]).SerializeToString()


def blobprotovector_str_to_arraylist(str: bytes) -> list[np.ndarray]:
    """The arrays in the bytes of a BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(str).blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> caffe_pb2.Datum:
    """A Datum of an array [C, H, W]: bytes stay bytes, other numbers become floats."""
    if arr.ndim != 3:
        raise ValueError(f"the array must have three axes, channels, height and width; got shape {arr.shape}")
    datum = caffe_pb2.Datum()
    datum.channels, datum.height, datum.width = arr.shape
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).flat)
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum: caffe_pb2.Datum) -> np.ndarray:
    """The array [C, H, W] of a Datum: uint8, or float64 where the Datum holds floats."""
    values = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, float)
    return values.reshape(datum.channels, datum.height, datum.width).copy()
