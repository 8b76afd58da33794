"""The live line, drawn into a string."""

import io
import re

import pytest

from blobnet import solvers
from blobnet.cli import progress
from blobnet.testing import net_from_text


def test_every_drawing_replaces_the_one_before(run_folder, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_DRAWINGS", 0)
    stream = io.StringIO()
    solver = solvers.create("solver.prototxt")
    solver.callbacks.append(progress.LiveLine(stream))
    solver.solve()
    nothing, *drawings, cleared = stream.getvalue().split("\r\x1b[K")
    assert (nothing, cleared) == ("", "")
    assert [drawing.partition("  ")[0] for drawing in drawings] == [f"Iteration {count}/4" for count in (1, 2, 3, 4)]
    assert re.fullmatch(r"Iteration 4/4  loss 0.\d+  lr 0.1  \d+ images/s  0:00:00 left", drawings[-1])


def test_a_narrow_terminal_cuts_the_line(run_folder, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_DRAWINGS", 0)
    monkeypatch.setenv("COLUMNS", "20")
    stream = io.StringIO()
    solver = solvers.create("solver.prototxt")
    solver.callbacks.append(progress.LiveLine(stream))
    solver.solve()
    assert {len(drawing) for drawing in stream.getvalue().split("\r\x1b[K")[1:-1]} == {19}


@pytest.mark.parametrize(
    ("prototxt", "images"),
    [
        ('layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 7 dim: 2 } } }', 7),
        ("", 1),
    ],
)
def test_batch_size(prototxt, images):
    assert progress.batch_size(net_from_text(prototxt)) == images
