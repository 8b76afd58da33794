"""Python runs this at its start: under ``blobnet python``, and wherever such a program starts another Python.

From here on ``import caffe`` gives blobnet, whatever else is on sys.path.
"""

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder

_FOLDER = os.path.dirname(__file__)


class _CaffeFinder:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != "caffe":
            return None
        return importlib.util.spec_from_file_location(name, os.path.join(_FOLDER, "caffe.py"))


sys.meta_path.insert(0, _CaffeFinder)
sys.path.remove(_FOLDER)

_of_the_environment = PathFinder.find_spec("sitecustomize")
if _of_the_environment is not None and _of_the_environment.loader is not None:
    _of_the_environment.loader.exec_module(importlib.util.module_from_spec(_of_the_environment))
