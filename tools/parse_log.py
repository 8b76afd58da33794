"""Training logs as tables: one row a display or a test, one column a net output.

Reads what Caffe logs (either form of glog's dates) and what ``blobnet train`` logs.
"""

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from blobnet.errors import BlobnetError
from blobnet.io.files import atomic_write, os_errors, read_bytes

Row = dict[str, float]

_STAMP = re.compile(r"[IWEF](\d{4})?(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6}) ")
_START = "Solving"
_ITERATION = re.compile(r"Iteration (\d+)")
_RATE = re.compile(r"lr = (\S+)")
_OUTPUT = re.compile(r"(Train|Test) net output #(\d+): (\S+) = (\S+)")


def parse_log(path: str | os.PathLike) -> tuple[list[Row], list[Row]]:
    """The rows of the train net and of the test nets.

    A row holds NumIters, Seconds since the training began, LearningRate and the net's outputs. The rate is the one
    logged last, so that of the display before; the first row takes the second one's.
    """
    rows: dict[str, list[Row]] = {"Train": [], "Test": []}
    iteration, rate, start = None, math.nan, None
    for stamp, line in _stamped(path):
        if start is None:
            start = stamp
        if found := _ITERATION.search(line):
            iteration = float(found[1])
        if iteration is None:
            continue
        if found := _RATE.search(line):
            rate = _number(found[1])
        if found := _OUTPUT.search(line):
            part, index, name, value = found.groups()
            table = rows[part]
            if not table or table[-1]["NumIters"] != iteration or (index == "0" and name in table[-1]):
                table.append({"NumIters": iteration, "Seconds": (stamp - start).total_seconds(), "LearningRate": rate})
            table[-1][name] = _number(value)
    if iteration is None:
        raise BlobnetError("is no training log: no line names an iteration", file=str(path))
    for table in rows.values():
        if len(table) > 1:
            table[0]["LearningRate"] = table[1]["LearningRate"]
    return rows["Train"], rows["Test"]


def save_csv_files(
    logfile_path: str | os.PathLike,
    output_dir: str | os.PathLike,
    train: Sequence[Row],
    test: Sequence[Row],
    delimiter: str = ",",
    verbose: bool = False,
) -> None:
    """Write ``<log>.train`` and ``<log>.test``; one without rows is not written."""
    for ending, rows in (("train", train), ("test", test)):
        path = Path(output_dir) / f"{Path(logfile_path).name}.{ending}"
        if rows:
            write_csv(path, rows, delimiter)
        if verbose:
            print(f"Wrote {path}" if rows else f"Not writing {path}; no lines to write")


def write_csv(path: str | os.PathLike, rows: Sequence[Row], delimiter: str = ",") -> None:
    """Write rows under the names of all their columns."""
    names = dict.fromkeys(name for row in rows for name in row)
    table = io.StringIO(newline="")
    try:
        writer = csv.DictWriter(table, list(names), delimiter=delimiter)
    except TypeError as error:
        raise BlobnetError(f"a delimiter must be one character; got {delimiter!r}") from error
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path) as temporary:
        temporary.write_bytes(table.getvalue().encode())


def _stamped(path: str | os.PathLike) -> Iterator[tuple[datetime, str]]:
    """Time and text of each line of the log, from the one on that says that the solver starts (if any does).

    Lines without a time are passed over. Where the log leaves out the year, it is the file's.
    """
    lines = read_bytes(path).decode(errors="replace").splitlines()
    start = next((index for index, line in enumerate(lines) if _START in line and _STAMP.match(line)), 0)
    with os_errors(path, "read"):
        year = datetime.fromtimestamp(os.stat(path).st_mtime).year
    last = datetime.min
    for line, found in _matches(lines[start:]):
        stated, *parts = found.groups()
        month, day, hour, minute, second, microsecond = map(int, parts)
        try:
            stamp = datetime(int(stated or year), month, day, hour, minute, second, microsecond)
            if stamp < last and not stated and stamp.month < last.month:
                year += 1
                stamp = stamp.replace(year=year)
        except ValueError:  # no date after all, as in the 31st month
            continue
        last = stamp
        yield stamp, line


def _matches(lines: Iterable[str]) -> Iterator[tuple[str, re.Match]]:
    for line in lines:
        if found := _STAMP.match(line):
            yield line, found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
