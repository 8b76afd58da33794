"""The Python layer: a step of the net that the user writes as a class, as with pycaffe.

A prototxt that names a module is a prototxt that runs code, so only modules that the user allows are imported.
"""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from blobnet.blob import Blob
from blobnet.errors import BlobnetError, did_you_mean, error_at
from blobnet.layers.base import Layer
from blobnet.layers.registry import register


class UserCodeError(BlobnetError):
    """A method of a user's layer failed; ``raised`` is what it raised."""

    def __init__(self, error: BlobnetError, raised: Exception):
        super().__init__(error.message, file=error.file, line=error.line, layer=error.layer)
        self.raised = raised


class LearnableBlobs(list[Blob]):
    """The learnable blobs of a user's layer: a list that can make more."""

    def __init__(self, layer: Layer):
        super().__init__()
        self._layer = layer

    def add_blob(self, *shape: int) -> Blob:
        """Append a blob of zeros."""
        return self._layer.add_blob(shape)


class PythonLayer:
    """Base of the classes that ``python_param.layer`` names. Their methods get blobs with live data and diff.

    setup(bottom, top)                     once: read ``param_str``, check, ``self.blobs.add_blob(*shape)``
    reshape(bottom, top)                   before every forward pass: ``top[0].reshape(*shape)``
    forward(bottom, top)                   write the data of the tops
    backward(top, propagate_down, bottom)  write the diffs of the bottoms wanted, add to those of ``self.blobs``

    param_str  the text of ``python_param.param_str``; also as ``param_str_``, its name in pycaffe until 2015
    phase      blobnet.TRAIN or blobnet.TEST
    blobs      the learnable blobs
    """

    type = "Python"
    param_str: str
    param_str_: str
    phase: int
    blobs: LearnableBlobs

    def __init__(self, param):
        """Called with the LayerParameter, before the attributes are set."""

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing, unless the subclass has something to set up."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        raise NotImplementedError("define reshape(self, bottom, top)")

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        raise NotImplementedError("define forward(self, bottom, top)")

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        raise NotImplementedError("define backward(self, top, propagate_down, bottom)")


@register("Python")
class Python(Layer):
    """Runs an object of a class that the user wrote, with any number of bottoms and tops.

    python_param  module  what ``import`` takes: found on sys.path (PYTHONPATH), in the working folder or in the
                          prototxt's; the user must allow it by name, or allow any with "*"
                  layer   a subclass of PythonLayer in it
                  param_str ("")  handed to the object
                  share_in_parallel (false)  accepted without effect: a process has one solver

    Shapes, formula and gradient are the user's; ``reshape`` runs before every forward pass, as in Caffe, so that
    a layer that makes data may give each batch its own shape.

    Errors: a module that is not allowed, is not found or fails when imported; a class that is not in it or is no
    PythonLayer; any exception of the object, which stays attached as the cause with its traceback.

    Where no Caffe is installed, ``import caffe`` gives such modules ``blobnet.pycaffe``.

    Source: the conventions of pycaffe.
    """

    bottoms = (0, None)
    tops = (0, None)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.user_class = self._find_class()
        try:
            self.user = self.user_class(self.param)
        except Exception as error:
            raise self._user_error("__init__", error) from error
        self.blobs = LearnableBlobs(self)
        self.user.blobs = self.blobs
        self.user.param_str = self.user.param_str_ = self.param.python_param.param_str
        self.user.phase = self.phase
        self._call("setup", bottom, top)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self._call("reshape", bottom, top)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self._call("reshape", bottom, top)
        self._call("forward", bottom, top)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self._call("backward", top, propagate_down, bottom)

    def _call(self, method: str, *args) -> None:
        try:
            getattr(self.user, method)(*args)
        except Exception as error:
            raise self._user_error(method, error) from error

    def _find_class(self) -> type[PythonLayer]:
        param = self.param.python_param
        self.require(bool(param.module and param.layer), "python_param must name a module and a layer", "python_param")
        self.require(
            not self.context.untrusted,
            f'an untrusted net must not run code; this layer would run that of the module "{param.module}"',
            "python_param.module",
        )
        self.require(
            self.context.allows(param.module),
            f'the module "{param.module}" is not allowed. A Python layer runs the code of its module, so each one must '
            f"be allowed by name; if you trust it, add --allow-python {param.module} to the command, or "
            f'allowed_modules=["{param.module}"] to Net(...)',
            "python_param.module",
        )
        module = self._import(param.module)
        classes = [name for name, value in vars(module).items() if _is_layer_class(value)]
        self.require(
            hasattr(module, param.layer),
            f'the module "{param.module}" has no class "{param.layer}"{did_you_mean(param.layer, classes)}',
            "python_param.layer",
        )
        self.require(
            param.layer in classes,
            f'"{param.layer}" of the module "{param.module}" must be a subclass of blobnet.layers.python.PythonLayer',
            "python_param.layer",
        )
        return getattr(module, param.layer)

    def _import(self, name: str) -> ModuleType:
        _stand_in_for_caffe()
        try:
            with _importable_from([Path.cwd(), self.context.folder or Path.cwd()]):
                return importlib.import_module(name)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
                text = f'no module "{name}" on sys.path (PYTHONPATH), in the working folder or beside the prototxt'
            else:
                text = f'the module "{name}" failed when imported: {type(error).__name__}: {error}'
            raise error_at(self.param, text, "python_param.module") from error

    def _user_error(self, method: str, error: Exception) -> UserCodeError:
        param = self.param.python_param
        place = _place(error, sys.modules[self.user_class.__module__])
        text = f"{param.layer}.{method} of the module {param.module} failed: {type(error).__name__}: {error}{place}"
        return UserCodeError(error_at(self.param, text, "python_param.layer"), error)


def _is_layer_class(value) -> bool:
    return isinstance(value, type) and issubclass(value, PythonLayer)


@contextmanager
def _importable_from(folders: Sequence[Path]) -> Iterator[None]:
    """Modules in these folders can be imported, after all that sys.path has already."""
    added = {str(folder.resolve()) for folder in folders}.difference(sys.path)
    sys.path += sorted(added)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = [folder for folder in sys.path if folder not in added]


def _stand_in_for_caffe() -> None:
    """Modules that were written for pycaffe say ``import caffe``; where no Caffe is installed, blobnet is meant."""
    if "caffe" in sys.modules:
        return
    found = importlib.util.find_spec("caffe")
    if found is None or found.origin is None:  # None: a folder that merely has the name
        from blobnet import pycaffe

        pycaffe.install()


def _place(error: Exception, module: ModuleType) -> str:
    """`` (pyloss.py:12)``: the last line of the module that was reached."""
    path = getattr(module, "__file__", None) or ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f" ({Path(path).name}:{lines[-1]})" if lines else ""
