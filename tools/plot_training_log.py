"""Charts of training logs: accuracy, loss and learning rate over iterations or seconds. Needs matplotlib."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

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
    figures = extras.load("matplotlib.figure", "plot")
    chart = CHARTS[chart_type]
    figure = figures.Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(title=chart.title, xlabel=chart.over, ylabel=f"{chart.part} {chart.quantity}")
    for log in logs:
        _draw(axes, chart, log)
    axes.grid(alpha=0.3)
    axes.legend()
    kind = Path(picture).suffix.lstrip(".").lower()
    if kind not in figure.canvas.get_supported_filetypes():
        raise BlobnetError("a picture is a .png, .svg or .pdf file", file=str(picture))
    with atomic_write(picture) as temporary:
        figure.savefig(temporary, format=kind)


def _draw(axes, chart: Chart, log: str | os.PathLike) -> None:
    train, test = parse_log.parse_log(log)
    rows = train if chart.part == "Train" else test
    names = dict.fromkeys(name for row in rows for name in row)
    columns = [name for name in names if any(part.lower() in name.lower() for part in chart.columns)]
    if not columns:
        raise BlobnetError(f"holds no {chart.part.lower()} {chart.quantity}", file=str(log))
    for name in columns:
        points = [(row[_X[chart.over]], row[name]) for row in rows if name in row]
        label = Path(log).stem if len(columns) == 1 else f"{Path(log).stem}: {name}"
        axes.plot(*zip(*points, strict=True), label=label, linewidth=0.75, marker="." if len(points) < 100 else None)
