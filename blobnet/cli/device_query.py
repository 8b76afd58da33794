"""Show what blobnet runs on: processor, cores, memory, versions, where compiled kernels are kept."""

import argparse
import platform
import sys

from blobnet import __version__, config
from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    flags.add_device(parser)


def run(args: argparse.Namespace) -> None:
    import llvmlite.binding
    import numba
    import numpy

    flags.use_cpu(args)
    rows = {
        "Device": "CPU, the only one that blobnet runs on",
        "Processor": llvmlite.binding.get_host_cpu_name(),
        "System": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "Cores available": config.available_cores(),
        "Threads used": config.threads(),
        "Cache": config.cache_folder(),
        "blobnet": __version__,
        "Python": sys.version.partition(" ")[0],
        "numpy": numpy.__version__,
        "numba": numba.__version__,
    }
    for name, value in rows.items():
        print(f"{name + ':':<18}{value}")
