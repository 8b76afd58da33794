"""The messages under the name that pycaffe programs import: ``caffe.proto.caffe_pb2``."""
