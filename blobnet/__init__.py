"""A Caffe-style declarative network engine: prototxt in, trained weights out.

    import blobnet
    net = blobnet.Net("deploy.prototxt", blobnet.TEST, weights="net.caffemodel")
    outputs = net.forward(data=images)

The public names below are imported when they are first used, so that ``import blobnet`` is quick.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blobnet import solvers as solvers
    from blobnet import testing as testing
    from blobnet import zoo as zoo
    from blobnet.blob import Blob as Blob
    from blobnet.config import set_threads as set_threads
    from blobnet.errors import BlobnetError as BlobnetError
    from blobnet.layers.base import Layer as Layer
    from blobnet.layers.registry import layer_types as layer_types
    from blobnet.layers.registry import register as register
    from blobnet.net import Net as Net
    from blobnet.proto.blobnet_pb2 import TEST as TEST
    from blobnet.proto.blobnet_pb2 import TRAIN as TRAIN
    from blobnet.streams import set_seed as set_seed

__version__ = "0.1.0"

_MODULES = ("solvers", "testing", "zoo")
_HOMES = {
    "Blob": "blobnet.blob",
    "BlobnetError": "blobnet.errors",
    "Layer": "blobnet.layers.base",
    "Net": "blobnet.net",
    "TEST": "blobnet.proto.blobnet_pb2",
    "TRAIN": "blobnet.proto.blobnet_pb2",
    "layer_types": "blobnet.layers.registry",
    "register": "blobnet.layers.registry",
    "set_seed": "blobnet.streams",
    "set_threads": "blobnet.config",
}
__all__ = [*_MODULES, *_HOMES]

_root = Path(__file__).resolve().parent.parent
if not (_root / "blobnet" / "solvers").is_dir() and (_root / "setup.cfg").is_file():
    __path__.append(str(_root))  # a bare checkout: proto, solvers, tools and zoo stand beside this folder


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f"blobnet.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'blobnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
