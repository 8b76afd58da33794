"""Charts of training logs: accuracy, loss and learning rate over iterations or seconds. Needs matplotlib."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from blobnet import extras
from blobnet.errors import BlobnetError
from blobnet.io.files import atomic_write
from blobnet.tools import parse_log


class Chart(NamedTuple):
    """What a chart shows: which columns of which table, over what."""

    part: str
    quantity: str
    columns: tuple[str, ...]  # what the names of its columns contain
    over: str

    @property
    def title(self) -> str:
        return f"{self.part} {self.quantity} vs. {self.over}"


_X = {"Iters": "NumIters", "Seconds": "Seconds"}

CHARTS = [
    Chart(part, quantity, columns, over)
    for part, quantity, columns in (
        ("Test", "accuracy", ("acc",)),
        ("Test", "loss", ("loss",)),
        ("Train", "learning rate", ("LearningRate",)),
        ("Train", "loss", ("loss",)),
    )
    for over in _X
]


def plot(chart_type: int, picture: str | os.PathLike, logs: Sequence[str | os.PathLike]) -> None:
    """Draw one chart of all the logs.

    chart_type   an index of ``CHARTS``, as in Caffe's plot_training_log.py
    picture      the file to write; its extension is its format: .png, .svg, .pdf
    """
    chart = CHARTS[chart_type]
    figure = _figure(8, 5)
    axes = figure.add_subplot(title=chart.title, xlabel=chart.over, ylabel=f"{chart.part} {chart.quantity}")
    for log in logs:
        rows = dict(zip(("Train", "Test"), parse_log.parse_log(log), strict=True))[chart.part]
        columns = _columns(rows, chart)
        if not columns:
            raise BlobnetError(f"holds no {chart.part.lower()} {chart.quantity}", file=str(log))
        for name in columns:
            label = Path(log).stem if len(columns) == 1 else f"{Path(log).stem}: {name}"
            _draw(axes, rows, _X[chart.over], name, label)
    axes.legend()
    _save(figure, picture)


def plot_curves(picture: str | os.PathLike, log: str | os.PathLike) -> None:
    """Draw how a training went: the losses of its batches and tests and, beside them, the accuracy of the tests."""
    train, tests = parse_log.parse_log(log)
    test = [row for row in tests if row["NumIters"] > 0]
    accuracies = _columns(test, CHARTS[0])
    panels = 2 if accuracies else 1
    figure = _figure(4.5 * panels, 3.2)
    losses = figure.add_subplot(1, panels, 1, title="loss", xlabel="iteration", yscale="log")
    for part, rows in (("training batch", train), ("test set", test)):
        columns = _columns(rows, CHARTS[2])
        for name in columns:
            _draw(losses, rows, "NumIters", name, part if len(columns) == 1 else f"{part}: {name}")
    if not losses.lines:
        raise BlobnetError("holds no loss", file=str(log))
    losses.legend()
    if accuracies:
        axes = figure.add_subplot(1, panels, 2, title="test accuracy", xlabel="iteration")
        for name in accuracies:
            _draw(axes, test, "NumIters", name, name)
        if len(accuracies) > 1:
            axes.legend()
    _save(figure, picture)


def _columns(rows: Sequence[parse_log.Row], chart: Chart) -> list[str]:
    """The columns of a table that a chart shows."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if any(part.lower() in name.lower() for part in chart.columns)]


def _figure(width: float, height: float) -> Any:
    return extras.load("matplotlib.figure", "plot").Figure(figsize=(width, height), layout="constrained")


def _draw(axes: Any, rows: Sequence[parse_log.Row], x: str, y: str, label: str) -> None:
    points = [(row[x], row[y]) for row in rows if y in row]
    axes.plot(*zip(*points, strict=True), label=label, linewidth=1, marker="." if len(points) < 100 else None)
    axes.grid(alpha=0.3)


def _save(figure: Any, picture: str | os.PathLike) -> None:
    """Write the picture, without the date, so that the same log gives the same file."""
    kind = Path(picture).suffix.lstrip(".").lower()
    if kind not in figure.canvas.get_supported_filetypes():
        raise BlobnetError("a picture is a .png, .svg or .pdf file", file=str(picture))
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with extras.load("matplotlib", "plot").rc_context({"svg.hashsalt": "blobnet"}), atomic_write(picture) as temporary:
        figure.savefig(temporary, format=kind, metadata=undated)
