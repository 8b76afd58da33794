"""Every message and enum of Caffe's wire format, the enum values TRAIN and TEST, and the descriptors."""

from typing import Any

from blobnet.proto import blobnet_pb2
from blobnet.proto.blobnet_pb2 import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Descriptors such as ``_LAYERPARAMETER``."""
    return getattr(blobnet_pb2, name)
