"""caffe.draw: pictures of nets. The labels and colours of pycaffe's graph."""

from blobnet.proto import blobnet_pb2 as pb
