"""The messages under the name that pycaffe programs import: ``caffe.proto.caffe_pb2``."""

from blobnet.pycaffe.proto import caffe_pb2

__all__ = ["caffe_pb2"]
