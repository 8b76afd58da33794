"""The figures of a training run in files, for every display and every test: JSON lines, CSV, TensorBoard.

A record has: iteration, phase ("train" or "test"), net (the number of the test net), time (UTC), seconds since the
training began, lr, images_per_second (of training alone), loss (smoothed, as displayed) and the net's outputs.
"""

import collections
import contextlib
import csv
import io
import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from blobnet.cli.progress import batch_size
from blobnet.cli.stopwatch import Stopwatch
from blobnet.errors import BlobnetError
from blobnet.io.files import append, atomic_write, os_errors
from blobnet.io.tensorboard import EventFile
from blobnet.net import Net
from blobnet.solvers.callbacks import Callback, DisplayRecord, Output
from blobnet.solvers.solver import Solver

log = logging.getLogger("blobnet")

Record = dict[str, Any]

_OUTPUTS = "outputs"


class Sink(Protocol):
    """Where records go."""

    def start(self, iteration: int, outputs: Sequence[str]) -> float:
        """A training begins or goes on there; the records of a former run from there on are dropped.

        Returns the seconds that the former run took until then.
        """

    def write(self, record: Record) -> None: ...


class Metrics(Callback):
    """Hands records to sinks. One that cannot be begun or written to is warned of; the training goes on."""

    def __init__(self, sinks: Sequence[Sink]):
        self._sinks = sinks
        self._begun: list[Sink] = []
        self._failing: set[Sink] = set()
        self._iteration = 0

    def on_start(self, solver: Solver) -> None:
        self._images = batch_size(solver.net) * solver.param.iter_size
        self._seconds_before = self._begin(solver)
        self._started = datetime.now(UTC)
        self._watch = Stopwatch()

    def on_forward(self, solver: Solver, net: Net) -> None:
        if solver.iter < self._iteration:  # rolled back
            self._begin(solver)
        self._iteration = solver.iter

    def on_iteration(self, solver: Solver, loss: float) -> None:
        self._watch.lap()

    def on_display(self, solver: Solver, record: DisplayRecord) -> None:
        pace = self._watch.seconds_per_iteration
        self._watch.reset()
        images_per_second = round(self._images / pace, 1) if pace else None
        rate = float(f"{record.lr:.7g}")  # base_lr is a float32
        self._write(solver, "train", record.loss, record.outputs, rate, images_per_second)

    def on_test(self, solver: Solver, index: int, outputs: list[Output], loss: float | None) -> None:
        self._watch.skip()
        self._write(solver, "test", loss, outputs, net=index)

    def _begin(self, solver: Solver) -> float:
        """Begin the sinks at the solver's iteration; returns the seconds that the training took before."""
        nets = [solver.net, *solver.test_nets]
        names = list(dict.fromkeys(name for net in nets for name in _output_names(net)))
        self._iteration = solver.iter
        self._begun = []
        seconds = 0.0
        for sink in self._sinks:
            with self._misses(sink):
                seconds = max(seconds, sink.start(solver.iter, names))
                self._begun.append(sink)
        return seconds

    @contextlib.contextmanager
    def _misses(self, sink: Sink) -> Iterator[None]:
        try:
            yield
            self._failing.discard(sink)
        except BlobnetError as error:
            if sink not in self._failing:
                log.warning("metrics are missed, training goes on: %s", error)
            self._failing.add(sink)

    def _write(
        self,
        solver: Solver,
        phase: str,
        loss: float | None,
        outputs: Sequence[Output],
        lr: float | None = None,
        images_per_second: float | None = None,
        net: int | None = None,
    ) -> None:
        now = datetime.now(UTC)
        record = {
            "iteration": solver.iter,
            "phase": phase,
            "net": net,
            "time": now.isoformat(timespec="milliseconds"),
            "seconds": round(self._seconds_before + (now - self._started).total_seconds(), 3),
            "lr": lr,
            "images_per_second": images_per_second,
            "loss": loss,
            _OUTPUTS: dict(
                zip(_numbered([output.name for output in outputs]), (output.value for output in outputs), strict=True)
            ),
        }
        for sink in self._begun:
            with self._misses(sink):
                sink.write(record)


def of(solver: Solver, tensorboard: str | None = None) -> Metrics:
    """The metrics of a solver, beside its snapshots: ``<prefix>_metrics.jsonl`` and ``<prefix>_metrics.csv``.

    tensorboard   a folder for events, too
    """
    prefix = solver.snapshot_prefix or Path("solver")
    sinks: list[Sink] = [
        JsonLines(prefix.with_name(f"{prefix.name}_metrics.jsonl")),
        Table(prefix.with_name(f"{prefix.name}_metrics.csv")),
    ]
    if tensorboard is not None:
        sinks.append(TensorBoard(tensorboard))
    return Metrics(sinks)


def _output_names(net: Net) -> list[str]:
    return _numbered([name for name in net.outputs for _ in range(net.blobs[name].count)])


def _numbered(names: Sequence[str]) -> list[str]:
    """Names as they are where they stand once, else with the numbers of the blob's values: ``prob[0]``."""
    total, seen = collections.Counter(names), collections.Counter[str]()
    numbered = []
    for name in names:
        numbered.append(f"{name}[{seen[name]}]" if total[name] > 1 else name)
        seen[name] += 1
    return numbered


class JsonLines:
    """One JSON object a line. NaN and infinities, which JSON lacks, are null."""

    def __init__(self, path: Path):
        self._path = path

    def start(self, iteration: int, outputs: Sequence[str]) -> float:
        kept = [(seconds, line) for number, seconds, line in self._read() if number < iteration] if iteration else []
        _begin(self._path, "".join(f"{line}\n" for _, line in kept), bool(kept))
        return kept[-1][0] if kept else 0.0

    def write(self, record: Record) -> None:
        append(self._path, _json_line(record).encode())

    def _read(self) -> Iterator[tuple[int, float, str]]:
        """Iteration, seconds and text of each line; one that is no record, such as a torn last one, is left out."""
        for line in _read_lines(self._path):
            try:
                record = json.loads(line)
                yield int(record["iteration"]), float(record["seconds"]), line
            except (KeyError, OverflowError, TypeError, ValueError):
                continue


class Table:
    """CSV, with a column ``outputs.<name>`` for each output of any net."""

    def __init__(self, path: Path):
        self._path = path
        self._columns: list[str] = []

    def start(self, iteration: int, outputs: Sequence[str]) -> float:
        rows = _read_rows(self._path) if iteration else []
        kept = [row for row in rows if _is_whole(row) and int(row["iteration"]) < iteration]
        columns = ["iteration", "phase", "net", "time", "seconds", "lr", "images_per_second", "loss"]
        former = [column for column in (rows[0] if rows else {}) if isinstance(column, str)]
        self._columns = list(dict.fromkeys([*columns, *(f"{_OUTPUTS}.{name}" for name in outputs), *former]))
        header = dict(zip(self._columns, self._columns, strict=True))
        _begin(self._path, self._lines([header, *kept]), bool(kept))
        return 0.0

    def write(self, record: Record) -> None:
        row = {name: value for name, value in record.items() if name != _OUTPUTS}
        row |= {f"{_OUTPUTS}.{name}": value for name, value in record[_OUTPUTS].items()}
        append(self._path, self._lines([row]).encode())

    def _lines(self, rows: Sequence[dict[str, Any]]) -> str:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns, extrasaction="ignore", lineterminator="\n").writerows(rows)
        return text.getvalue()


class TensorBoard:
    """An event file in a folder. Tags: ``train/<output>``, ``test/<output>`` (``test1/...``), lr, smoothed_loss, ..."""

    def __init__(self, folder: str | os.PathLike):
        self._folder = Path(folder)
        with os_errors(folder, "write events here"):
            self._folder.mkdir(parents=True, exist_ok=True)

    def start(self, iteration: int, outputs: Sequence[str]) -> float:
        self._file = EventFile(self._folder, iteration)
        return 0.0

    def write(self, record: Record) -> None:
        part = record["phase"] + (str(record["net"]) if record["net"] else "")
        scalars = {f"{part}/{name}": value for name, value in record[_OUTPUTS].items()}
        if record["phase"] == "train":
            scalars |= {"smoothed_loss": record["loss"], "lr": record["lr"]}
            scalars |= {"images_per_second": record["images_per_second"]}
        self._file.write(record["iteration"], {tag: value for tag, value in scalars.items() if value is not None})


def _is_whole(row: dict[str, Any]) -> bool:
    """Whether a row of CSV has all its columns, which a torn last one lacks."""
    return None not in row.values() and row.get("iteration", "").isdecimal()


def _json_line(record: Record) -> str:
    def finite(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    plain = {name: finite(value) for name, value in record.items()}
    plain[_OUTPUTS] = {name: finite(value) for name, value in record[_OUTPUTS].items()}
    return json.dumps(plain) + "\n"


def _read_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    with os_errors(path, "read"):
        return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        return list(csv.DictReader(_read_lines(path)))
    except csv.Error as error:
        raise BlobnetError(f"is no CSV to go on with: {error}; remove it", file=str(path)) from error


def _begin(path: Path, content: str, keeps_records: bool) -> None:
    """Write a file anew. Only where it keeps records, there is something to lose by half of it."""
    with os_errors(path.parent, "write metrics here"):
        path.parent.mkdir(parents=True, exist_ok=True)
    if keeps_records:
        with atomic_write(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    else:
        with os_errors(path, "write"):
            path.write_text(content, encoding="utf-8")
