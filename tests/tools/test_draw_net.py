from xml.etree import ElementTree

import pytest

from blobnet import cli
from tests.recorded import ROOT

NET = str(ROOT / "files/tiny_train_test.prototxt")


@pytest.mark.parametrize("phase", ["ALL", "TRAIN", "TEST"])
def test_phases(phase, tmp_path):
    picture = tmp_path / "net.svg"
    assert cli.main(["draw_net", NET, str(picture), "--rankdir=TB", f"--phase={phase}", "--display_lrm"]) == 0
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")
    assert ("accuracy" in picture.read_text(encoding="utf-8")) == (phase != "TRAIN")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["none", "net.svg"], "none: cannot read the file"),
        ([NET, "none/net.svg"], "none/net.svg: cannot write"),
        ([NET, "net.svg", "--rankdir=UP"], "argument --rankdir: invalid choice: 'UP'"),
    ],
)
def test_faults(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["draw_net", *argv]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {said}")
