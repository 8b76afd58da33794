"""Settings of the process: each has one place, one default and one environment variable."""

import os
from pathlib import Path

import platformdirs

from blobnet.errors import BlobnetError


def available_cores() -> int:
    """Cores this process may use: its affinity, cut to the processor quota of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _cgroup_quota()))


def _cgroup_quota() -> int:
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        return 1 << 30
    return 1 << 30 if quota == "max" else -(-int(quota) // int(period))


def cache_folder() -> Path:
    """Where compiled kernels and the zoo's databases are kept: BLOBNET_CACHE_DIR, else the user's cache folder."""
    return Path(os.environ.get("BLOBNET_CACHE_DIR") or platformdirs.user_cache_dir("blobnet"))


def reference_kernels() -> bool:
    """Whether products and convolutions run the textbook way (BLOBNET_KERNELS=reference) or the fast one (fast)."""
    kernels = os.environ.get("BLOBNET_KERNELS", "fast")
    if kernels not in ("fast", "reference"):
        raise BlobnetError(f'BLOBNET_KERNELS must be "fast" or "reference"; got "{kernels}"')
    return kernels == "reference"


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


def _positive(text: str | None, name: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise BlobnetError(f"{name} must be a whole number of 1 or more; got {text!r}")
    return int(text)
