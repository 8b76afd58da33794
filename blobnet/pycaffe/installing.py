"""Makes ``import caffe`` give this package, in the running process only."""

import importlib
import pkgutil
import sys

from blobnet.errors import BlobnetError

_HOME = "blobnet.pycaffe"


def install() -> None:
    """From now on ``import caffe``, ``import caffe.proto.caffe_pb2``, ``from caffe import layers`` give blobnet.

    Nothing is written to disk. Doing it again changes nothing; a real Caffe that is imported already is an error.
    """
    package = sys.modules[_HOME]
    imported = sys.modules.get("caffe", package)
    if imported is not package:
        place = getattr(imported, "__file__", None) or "an unknown place"
        raise BlobnetError(f"another caffe is imported already, from {place}; call install() before `import caffe`")
    sys.modules["caffe"] = package
    for module in pkgutil.walk_packages(package.__path__, f"{_HOME}."):
        sys.modules["caffe" + module.name.removeprefix(_HOME)] = importlib.import_module(module.name)
