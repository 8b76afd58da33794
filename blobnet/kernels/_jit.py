"""How kernels are compiled and where the machine code is kept.

``jit`` fixes the flags once: no GIL, IEEE division, only those floating-point liberties that keep NaN and infinity,
and no way in for C. Machine code is cached on disk, in a folder named after everything it depends on: the
sources of the kernel's module and of the kernel modules it imports, the versions of numba and llvmlite,
the processor and the width of its vectors. An entry made from anything else can therefore never be loaded.
Processes that start at the same time share the work: what one of them is compiling the others wait for, and load.
"""

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from numba.core import compiler, types
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher
from numba.core.registry import CPUDispatcher
from numba.np import numpy_support

from blobnet import collector, config

FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}

_PACKAGE = "blobnet.kernels"


class Kernel:
    """A function that compiled ones call as machine code, and Python too.

    Most kernels are only ever compiled into others: numba hears of one when it is first called, or compiled into
    another.
    """

    def __init__(self, function: Callable, cached: bool, options: dict[str, Any]):
        functools.update_wrapper(self, function)
        self.py_func = function
        self.options = options
        self._cached = cached

    @functools.cached_property
    def dispatcher(self) -> Dispatcher:
        """What compiles the function for the types of its arguments, and calls it."""
        if self._cached:
            return _Dispatcher(self.py_func, targetoptions=self._target_options(), pipeline_class=_Compiler)
        return numba.njit(**self.options)(self.py_func)

    @functools.cached_property
    def part(self) -> Dispatcher:
        """What compiles the function for the types of its arguments, as a part of those that call it."""
        if self._cached:
            options = {**self._target_options(), "no_cpython_wrapper": True}
            return _Part(self.py_func, targetoptions=options, pipeline_class=_PartCompiler)
        return self.dispatcher

    def _target_options(self) -> dict[str, Any]:
        return {"nopython": True, "boundscheck": None, **self.options}

    @property
    def _numba_type_(self) -> types.Dispatcher:
        return self.part._numba_type_

    def __call__(self, *args):
        return self.dispatcher(*args)


def jit(function=None, **options):
    """Compile a kernel. Takes the options of numba.njit; those given here win over the project's.

    Kernels make no arrays but those on the ``stack``, so that nobody has to count who refers to one: numba refuses
    others, and to return any, with its error "NRT required" or "only accept returning of array passed".
    """
    if function is None:
        return functools.partial(jit, **options)
    flags = {"nogil": True, "error_model": "numpy", "fastmath": FASTMATH, "no_cfunc_wrapper": True, "cache": True}
    flags.update(options, _nrt=False)
    return Kernel(function, flags.pop("cache"), flags)


class _Locator:
    """Tells numba's cache where the machine code of a function is kept, in a folder that is named after its sources."""

    def __init__(self, function: Callable):
        self._folder = cache_folder(function.__module__)
        self._line = function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, function: Callable, file: str) -> "_Locator":
        return cls(function)

    def ensure_cache_path(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._folder.name

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Files(CompileResultCacheImpl):
    """What is kept of a function: of the environments that it comes with, only those that hold something."""

    _locator_classes = (_Locator,)

    def reduce(self, result):
        *others, environments = super().reduce(result)
        return *others, tuple(environment for environment in environments if environment.consts)


class _Cache(FunctionCache):
    """Numba's cache of a function, in our folder. Where that cannot be read or written, each process compiles.

    What is loaded needs neither numba's run time nor the registries of its compiler, which take longer to fill.
    """

    _impl_class = _Files

    def load_overload(self, signature, context):
        with contextlib.suppress(OSError):
            return self._load_overload(signature, context)

    def save_overload(self, signature, result):
        with contextlib.suppress(OSError):
            super().save_overload(signature, result)


class _Library(JITCodeLibrary):
    """Code that is optimised once, as a whole: before that, variables of its functions only move out of memory.

    Numba would run most passes over each function first, and again over those that call it: a tenth more to compile.
    It would also look for references that need not be counted, once what counts them is in one function.
    """

    def _optimize_functions(self, module):
        module.data_layout = self._codegen._data_layout
        passes, builder = llvmlite.binding.create_new_function_pass_manager(), self._codegen._pass_builder()
        passes.add_sroa_pass()
        passes.add_dead_code_elimination_pass()
        for function in module.functions:
            passes.run(function, builder)

    def _optimize_final_module(self):
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)


class _Compiler(compiler.Compiler):
    """Numba's compiler, with libraries of ours."""

    library_class: ClassVar = _Library

    def compile_extra(self, function):
        self.state.library = self.library_class(self.state.targetctx.codegen(), function.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(function)


class PartLibrary(_Library):
    """Code that others link in and optimise."""

    def _optimize_final_module(self):
        passes = llvmlite.binding.create_new_module_pass_manager()
        passes.add_global_dead_code_eliminate_pass()
        passes.run(self._final_module, self._codegen._pass_builder())

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True


class _PartCompiler(_Compiler):
    """Numba's compiler up to the machine code. Callers find the result by its description: it has no address."""

    library_class = PartLibrary

    def compile_extra(self, function):
        context = self.state.targetctx
        self.state.flags.no_compile = True
        result = super().compile_extra(function)
        context.insert_user_function(result.fndesc, result.fndesc, [result.library])
        return result._replace(entry_point=result.fndesc)


class _PartFiles(CompileResultCacheImpl):
    """What is kept of a part."""

    _locator_classes = (_Locator,)

    def get_filename_base(self, name, flags):
        return f"part.{super().get_filename_base(name, flags)}"

    def reduce(self, result):
        result.fndesc.typemap = result.fndesc.calltypes = None
        return result.library._get_module_for_linking().as_bitcode(), result.fndesc, result.signature

    def rebuild(self, context, kept):
        code, description, signature = kept
        library = PartLibrary(context.codegen(), description.qualname)
        library._final_module = library._shared_module = llvmlite.binding.parse_bitcode(code)
        library._finalized = True
        return compiler.compile_result(
            entry_point=description, fndesc=description, signature=signature, library=library, objectmode=False
        )


class _PartCache(_Cache):
    """Numba's cache of what others link in."""

    _impl_class = _PartFiles


class _Dispatcher(CPUDispatcher):
    """Loads a kernel or compiles it, while no other process does: numba's index would lose what one of two adds."""

    _cache_class: ClassVar = _Cache

    def compile(self, signature):
        if isinstance(self._cache, NullCache):
            self._cache = self._cache_class(self.py_func)
        lock = Path(self._cache.cache_path) / f"{self.__qualname__}.lock"
        with global_compiler_lock, _locked(lock), collector.paused():
            return super().compile(signature)

    def typeof_pyval(self, value):
        """As numba's, which to tell an array from a masked one imports these."""
        if type(value) is tuple:
            return types.BaseTuple.from_types([self.typeof_pyval(part) for part in value])
        if type(value) is not np.ndarray:
            return super().typeof_pyval(value)
        layout, readonly = numpy_support.map_layout(value), not value.flags.writeable
        kind = types.Array(numpy_support.from_dtype(value.dtype), value.ndim, layout, readonly)
        self._types_active_call.add(kind)
        return kind


class _Part(_Dispatcher):
    """Loads a kernel, or compiles it, for others to be linked with: it is neither optimised nor machine code."""

    _cache_class = _PartCache

    def add_overload(self, result):
        self.overloads[tuple(result.signature.args)] = result


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait for a lock file and hold it; the system drops it when the process ends, however it ends.

    Where there is no such file, or the file system knows no locks, nobody waits.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            fcntl.lockf(held.enter_context(open(path, "a")), fcntl.LOCK_EX)
        yield


@functools.cache
def cache_folder(module: str) -> Path:
    """Where the machine code of a kernel module is kept."""
    digest = hashlib.blake2b(_toolchain().encode(), digest_size=12)
    for name in sorted(_with_imports(module)):
        digest.update(_source(name).encode())
    return config.cache_folder() / "kernels" / f"{module}-{digest.hexdigest()}"


@functools.cache
def _toolchain() -> str:
    features = llvmlite.binding.get_host_cpu_features().flatten()
    processor = f"{llvmlite.binding.get_host_cpu_name()} {features} {config.vector_bits()}"
    return f"{numba.__version__} {llvmlite.__version__} {processor}"


def _with_imports(module: str) -> set[str]:
    """The module and, closed over their imports, the kernel modules it uses; always this one, and what runs kernels."""
    found: set[str] = set()
    pending = [module, __name__, f"{_PACKAGE}.region"]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += _imported_kernels(name)
    return found


@functools.cache
def _imported_kernels(module: str) -> list[str]:
    source = _source(module)
    names = re.findall(rf"^\s*from {re.escape(_PACKAGE)}\.(\w+) import", source, re.MULTILINE)
    for group in re.findall(rf"^\s*from {re.escape(_PACKAGE)} import \(?([\w\s,]+)", source, re.MULTILINE):
        names += re.findall(r"\w+", group)
    return [f"{_PACKAGE}.{name}" for name in names if importlib.util.find_spec(f"{_PACKAGE}.{name}")]


@functools.cache
def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    return Path(spec.origin).read_text(encoding="utf-8")
