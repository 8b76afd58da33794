"""What a benchmark prints: the machine, then Markdown tables, row by row as they come."""

import importlib.metadata
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path


def print_machine(threads: int, packages: Iterable[str]) -> None:
    """Processor, cores, load, versions and commit, so that a table can be read a year later."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    load = os.getloadavg()[0]
    print(f"{_processor()}, {os.cpu_count()} cores; {threads} threads; Python {platform.python_version()}, {versions}")
    print(f"commit {_commit()}; {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}; load average {load:.2f}")
    if load > 0.5:
        print("The machine is busy: these figures are noise.")
    print(flush=True)


def _processor() -> str:
    try:
        return re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[0]
    except (OSError, IndexError):
        return platform.processor()


def _commit() -> str:
    folder = Path(__file__).parent
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=folder, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


class Table:
    """A Markdown table whose rows are printed as they are added; the first columns are text, the others numbers."""

    def __init__(self, columns: Sequence[str], texts: int = 1):
        self._columns = columns
        self.add(columns)
        self.add([":--" if index < texts else "--:" for index in range(len(columns))])

    def add(self, cells: Sequence[object]) -> None:
        padded = (str(cell).ljust(len(column)) for cell, column in zip(cells, self._columns, strict=True))
        print(f"| {' | '.join(padded)} |", flush=True)
