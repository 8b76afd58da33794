"""blobnet time: one row a layer."""

import re
import sys

from blobnet import cli


def test_table_has_a_row_for_each_layer(run_folder, capsys):
    assert cli.main(["time", "--model", "net.prototxt", "--iterations", "2"]) == 0
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert title == "Average time per layer over 2 iterations, in milliseconds:"
    assert header.split() == ["layer", "type", "forward", "backward"]
    assert [row.split()[:2] for row in rows[:-1]] == [
        ["data", "DummyData"],
        ["ip", "InnerProduct"],
        ["loss", "EuclideanLoss"],
    ]
    assert all(re.search(r" +\d+\.\d{3} +\d+\.\d{3}$", row) for row in rows)
    assert len({len(line) for line in (header, *rows)}) == 1


def test_phase_and_state(run_folder, capsys):
    command = ["time", "-model=net.prototxt", "-iterations=1", "-phase=TEST", "-level=2", "-stage=extra"]
    assert cli.main(command) == 0
    assert "Silence" in capsys.readouterr().out


def test_unknown_phase(run_folder, capsys):
    assert cli.main(["time", "-model=net.prototxt", "-phase", "VALIDATE"]) == 1
    assert "invalid choice: 'VALIDATE'" in capsys.readouterr().err


def test_layers_of_ones_own_are_imported(run_folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (run_folder / "own_layers.py").write_text(
        "import blobnet\nfrom blobnet.layers.activation import ReLU\n"
        "@blobnet.register('Own')\nclass Own(ReLU): pass\n"
    )
    (run_folder / "own.prototxt").write_text(
        """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }
        layer { name: "own" type: "Own" bottom: "x" top: "y" }"""
    )
    assert cli.main(["time", "-model=own.prototxt", "-iterations=1"]) == 1
    assert cli.main(["time", "-model=own.prototxt", "-iterations=1", "--import=own_layers"]) == 0
    assert cli.main(["time", "-model=own.prototxt", "--import", "no_such_layers"]) == 1
    said = 'error: --import: the module "no_such_layers" cannot be imported: ModuleNotFoundError'
    assert capsys.readouterr().err.splitlines()[-1].startswith(said)
