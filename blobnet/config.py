"""Settings of the process: each has one place, one default and one environment variable."""

import functools
import os
import re
from pathlib import Path

from blobnet.errors import BlobnetError


def available_cores() -> int:
    """Cores this process may use: its affinity, cut to the processor quota of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _cgroup_quota()))


_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def _cgroup_quota() -> int:
    try:
        quota, period = _CPU_QUOTA.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return 1 << 30
    return 1 << 30 if quota == "max" else -(-int(quota) // int(period))


def cache_folder() -> Path:
    """Where compiled kernels and the zoo's databases are kept: BLOBNET_CACHE_DIR, else the user's cache folder."""
    if given := os.environ.get("BLOBNET_CACHE_DIR"):
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_cache_dir("blobnet"))


@functools.cache
def reference_kernels() -> bool:
    """Whether products and convolutions run the textbook way, and every layer by itself (BLOBNET_KERNELS=reference).

    The default is the fast way (fast). Read once.
    """
    kernels = os.environ.get("BLOBNET_KERNELS", "fast")
    if kernels not in ("fast", "reference"):
        raise BlobnetError(f'BLOBNET_KERNELS must be "fast" or "reference"; got "{kernels}"')
    return kernels == "reference"


def vector_bits() -> int:
    """Most bits of the vectors that kernels use: BLOBNET_VECTOR_BITS (128, 256 or 512), else 512.

    The processor may have less. Read once, when kernels are compiled or loaded.
    """
    bits = os.environ.get("BLOBNET_VECTOR_BITS", "512")
    if bits not in ("128", "256", "512"):
        raise BlobnetError(f'BLOBNET_VECTOR_BITS must be 128, 256 or 512; got "{bits}"')
    return int(bits)


_threads: int | None = None


def threads() -> int:
    """Threads a kernel may use. Set by ``set_threads``, else BLOBNET_NUM_THREADS, else the available cores."""
    global _threads
    if _threads is None:
        _threads = _positive(os.environ.get("BLOBNET_NUM_THREADS"), "BLOBNET_NUM_THREADS") or available_cores()
    return _threads


def set_threads(count: int) -> None:
    global _threads
    _threads = _positive(str(count), "threads")


_MEMORY_SHARE = 0.9  # of the machine, by default
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

_max_memory: int | None = None


def max_memory() -> int:
    """Bytes that the blobs of a net may take: those of ``given_max_memory``, else nine tenths of the machine's."""
    given = given_max_memory()
    return int(_MEMORY_SHARE * machine_memory()) if given is None else given


def given_max_memory() -> int | None:
    """What ``set_max_memory``, else BLOBNET_MAX_MEMORY (``8G``) allows; None where nobody has said."""
    text = os.environ.get("BLOBNET_MAX_MEMORY")
    return _bytes(text, "BLOBNET_MAX_MEMORY") if _max_memory is None and text else _max_memory


def set_max_memory(size: int | str | None) -> None:
    """``size``: bytes, or a text such as ``512M``, ``8G`` or ``1.5T``; None leaves it to the environment again."""
    global _max_memory
    _max_memory = None if size is None else _bytes(str(size), "max-memory")


def machine_memory() -> int:
    """Bytes of memory that there are, cut to the limit of the control group."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else [1 << 40]
    for name in _CGROUP_LIMITS:
        try:
            found.append(int(Path(name).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return min(found)


def _bytes(text: str, name: str) -> int:
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE | re.ASCII)
    size = int(float(parts[1]) * _UNITS[parts[2].upper()]) if parts else 0
    if size == 0:
        raise BlobnetError(f"{name} must be a number of bytes, or one with K, M, G or T such as 8G; got {text!r}")
    return size


def _positive(text: str | None, name: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise BlobnetError(f"{name} must be a whole number of 1 or more; got {text!r}")
    return int(text)
