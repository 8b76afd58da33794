"""How kernels are compiled and where the machine code is kept.

``jit`` fixes the flags once: no GIL, IEEE division, and only those floating-point liberties that keep
NaN and infinity. Machine code is cached on disk, in a folder named after everything it depends on: the
sources of the kernel's module and of the kernel modules it imports, the versions of numba and llvmlite,
the processor and the width of its vectors. An entry made from anything else can therefore never be loaded.
"""

import functools
import hashlib
import importlib.util
import re
from pathlib import Path

import llvmlite
import llvmlite.binding
import numba
from numba.core import config as numba_config

from blobnet import config

FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}

_PACKAGE = "blobnet.kernels"


def jit(function=None, **options):
    """Compile a kernel. Reads like numba.njit; options given here win over the project's."""
    if function is None:
        return functools.partial(jit, **options)
    flags = {"nogil": True, "error_model": "numpy", "fastmath": FASTMATH, "cache": True, **options}
    shared_folder = numba_config.CACHE_DIR
    numba_config.CACHE_DIR = str(cache_folder(function.__module__))
    try:
        return numba.njit(**flags)(function)
    finally:
        numba_config.CACHE_DIR = shared_folder


# Compile what is called in one or two places as if it stood there: apart, it would take a quarter of a second more.
inlined = functools.partial(jit, inline="always")


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
            pending += _imported_kernels(_source(name))
    return found


def _imported_kernels(source: str) -> list[str]:
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
