"""Mean images: ``mean.binaryproto``, subtracted from every record by ``transform_param.mean_file``."""

import os

import numpy as np

from blobnet.errors import BlobnetError
from blobnet.io import blob_proto, files
from blobnet.proto import blobnet_pb2 as pb


def read_mean(path: str | os.PathLike) -> np.ndarray:
    """The mean image, float32 of shape C x H x W."""
    try:
        mean = blob_proto.to_array(files.read_message(path, pb.BlobProto()))
    except BlobnetError as error:
        raise BlobnetError(error.message, file=str(path)) from error
    if mean.ndim not in (3, 4) or (mean.ndim == 4 and len(mean) != 1):
        shown = " x ".join(map(str, mean.shape)) or "scalar"
        raise BlobnetError(f"a mean image must have shape C x H x W or 1 x C x H x W; got {shown}", file=str(path))
    return mean.reshape(mean.shape[-3:]).astype(np.float32, copy=False)


def write_mean(path: str | os.PathLike, mean: np.ndarray) -> None:
    """Write an image of shape C x H x W with the legacy fields ``num channels height width``, as Caffe does."""
    proto = blob_proto.from_array(mean.astype(np.float32, copy=False))
    proto.ClearField("shape")
    proto.num = 1
    proto.channels, proto.height, proto.width = mean.shape
    files.write_message(path, proto)
