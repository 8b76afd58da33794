import sys
from xml.etree import ElementTree

import pytest
from PIL import Image

from blobnet import cli
from blobnet.tools import plot_training_log
from tests.recorded import ROOT

LOG = str(ROOT / "files/logs/train_tiny.txt")


@pytest.mark.parametrize("chart_type", range(8))
def test_charts(chart_type, tmp_path):
    picture = tmp_path / "chart.svg"
    assert cli.main(["plot_training_log", str(chart_type), str(picture), LOG, LOG]) == 0
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")


def test_curves_of_one_training(tmp_path):
    for name in ("a.svg", "b.svg"):
        assert cli.main(["plot_training_log", "curves", str(tmp_path / name), LOG]) == 0
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()
    assert all(f"<!-- {text} -->" in drawn for text in ("loss", "training batch", "test set", "iteration"))


def test_curves_with_accuracy(tmp_path):
    lines = ["Iteration 0, Testing net (#0)", "Test net output #0: accuracy = 0.1", "Iteration 0, loss = 2"]
    lines += ["Train net output #0: loss = 2", "Iteration 5, Testing net (#0)", "Test net output #0: accuracy = 0.9"]
    (tmp_path / "log").write_text("".join(f"I0102 03:04:05.000000 1 solver.cpp:1] {line}\n" for line in lines))
    plot_training_log.plot_curves(tmp_path / "chart.svg", tmp_path / "log")
    assert "<!-- test accuracy -->" in (tmp_path / "chart.svg").read_text()


def test_titles_are_caffes():
    assert [chart.title for chart in plot_training_log.CHARTS] == [
        "Test accuracy vs. Iters",
        "Test accuracy vs. Seconds",
        "Test loss vs. Iters",
        "Test loss vs. Seconds",
        "Train learning rate vs. Iters",
        "Train learning rate vs. Seconds",
        "Train loss vs. Iters",
        "Train loss vs. Seconds",
    ]


def test_a_png(tmp_path):
    plot_training_log.plot(6, tmp_path / "chart.png", [LOG])
    with Image.open(tmp_path / "chart.png") as image:
        assert (image.format, image.size) == ("PNG", (800, 500))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["8", "a.png", LOG], "argument CHART_TYPE: invalid choice: '8'"),
        (["curves", "a.png", LOG, LOG], "curves shows one log; got 2"),
        (["curves", "a.png", "log"], "log: holds no loss"),
        (["0", "a.txt", LOG], "a.txt: a picture is a .png, .svg or .pdf file"),
        (["0", "a.png", "none"], "none: cannot read: No such file or directory"),
        (["0", "a.png", "log"], "log: holds no test accuracy"),
        (["0", "none/a.png", LOG], "none/a.png: cannot write: No such file or directory"),
    ],
)
def test_faults(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log").write_text("I1231 23:59:59.500000 12 solver.cpp:1] Iteration 3, lr = 1\n")
    assert cli.main(["plot_training_log", *argv]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {said}")


def test_without_matplotlib(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert cli.main(["plot_training_log", "0", str(tmp_path / "a.png"), LOG]) == 1
    assert 'matplotlib is needed and not installed: pip install "blobnet[plot]"' in capsys.readouterr().err
