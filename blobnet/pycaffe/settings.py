"""Settings of the process: device, seed, log, and what several GPUs would take."""

import contextlib
import logging
import os
import time
from typing import Any, NoReturn

from blobnet import config, streams
from blobnet.cli import log as log_format
from blobnet.errors import BlobnetError
from blobnet.layers import layer_types

__version__ = "1.0.0"  # of the Caffe whose names, arguments and numbers these are

logger = logging.getLogger("blobnet")
_log_shown = contextlib.ExitStack()


def layer_type_list() -> list[str]:
    """Every layer type, sorted."""
    return layer_types()


# Device, seed and log


def set_mode_cpu() -> None:
    """Nothing: the CPU runs."""


def set_mode_gpu() -> None:
    """Accepted with a line in the log: blobnet runs on the CPU, and the results are the same."""
    logger.info("set_mode_gpu: blobnet has no GPU to offer; the CPU runs, with %d threads", config.threads())


def set_device(device: int) -> None:
    """Accepted without effect: there are no GPUs to choose from."""


def set_random_seed(seed: int) -> None:
    """Seed every net that is built from now on."""
    streams.set_seed(int(seed))


def init_log(level: int = 0, to_stderr: bool = True) -> None:
    """Show the log on standard error from glog's level up: 0 INFO, 1 WARNING, 2 ERROR, 3 FATAL."""
    if not logger.handlers:
        _log_shown.enter_context(log_format.shown())
    logger.setLevel(_severity(level))


def _severity(glog_level: int) -> int:
    return logging.INFO + 10 * glog_level


def _is_wanted(record: logging.LogRecord) -> bool:
    """Programs set GLOG_minloglevel to quieten Caffe, often before they import it."""
    least = os.environ.get("GLOG_minloglevel", "")  # noqa: SIM112 (the name is glog's)
    return record.levelno >= _severity(int(least) if least.isdecimal() else 0)


logger.addFilter(_is_wanted)


def log(text: str) -> None:
    """Write a line to the log."""
    logger.info("%s", text)


# What takes several GPUs

_solver = {"count": 1, "rank": 0}


def solver_count() -> int:
    return _solver["count"]


def solver_rank() -> int:
    return _solver["rank"]


def set_solver_count(count: int) -> None:
    """Kept for ``solver_count``; one solver runs in a process all the same."""
    _solver["count"] = int(count)


def set_solver_rank(rank: int) -> None:
    """Kept for ``solver_rank``."""
    _solver["rank"] = int(rank)


def set_multiprocess(multiprocess: bool) -> None:
    """Accepted without effect: data layers do not share a reader between processes."""


def has_nccl() -> bool:
    """False: there are no GPUs to connect."""
    return False


class NCCL:
    """Refused: NCCL connects GPUs. Scripts that ask ``has_nccl`` first never get here."""

    def __init__(self, *_: Any):
        self.new_uid()

    @staticmethod
    def new_uid() -> NoReturn:
        raise BlobnetError("NCCL connects several GPUs, and blobnet runs on the CPU; train with one solver instead")


class Timer:
    """A stop watch: ``start``, ``stop``, then the milliseconds between them as ``ms``."""

    ms = 0.0

    def start(self) -> None:
        self._started = time.perf_counter()

    def stop(self) -> None:
        self.ms = 1000 * (time.perf_counter() - self._started)
