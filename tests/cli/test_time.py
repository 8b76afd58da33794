"""blobnet time: one row a layer."""

import re

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
