"""Every message and enum of Caffe's wire format, and the enum values TRAIN and TEST."""

from blobnet.proto.blobnet_pb2 import *  # noqa: F403
