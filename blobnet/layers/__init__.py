"""The layers, by family. Importing this room registers every layer type."""

import importlib
import pkgutil

from blobnet.layers.base import Layer
from blobnet.layers.registry import layer_types, register

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["Layer", "layer_types", "register"]
