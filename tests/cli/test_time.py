"""blobnet time: one row a layer."""

import re
import sys

from blobnet import cli, roofline, testing
from blobnet.cli import time
from blobnet.kernels import gemm, limits, update


def test_table_has_a_row_for_each_layer(run_folder, capsys):
    assert cli.main(["time", "--model", "net.prototxt", "--iterations", "2"]) == 0
    table, legend = capsys.readouterr().out.split("\n\n")
    title, header, *rows = table.splitlines()
    assert title == "Average time per layer over 2 iterations, in milliseconds:"
    assert header == "layer         type           forward  backward  GFLOP/s  GB/s  limit %  path"
    assert [row[: header.index("GFLOP/s")].split()[:-2] for row in rows] == [
        ["data", "DummyData"],
        ["ip", "InnerProduct"],
        ["loss", "EuclideanLoss"],
        ["Average", "pass"],
    ]
    assert all(re.search(r" \d+\.\d{3} +\d+\.\d{3}\b", row) for row in rows)
    assert rows[1].split()[-1] in ("gemm", "product")
    assert [line.partition(":")[0] for line in legend.splitlines()] == ["GFLOP/s and GB/s", "limit %", "path"]


def test_figures_follow_from_work_and_time():
    machine = limits.Limits(flops=4e9, bytes=1e9)
    work = [roofline.Work(flops=4_000_000, bytes=2_000_000), roofline.Work(flops=8_000_000, bytes=500_000)]
    net = testing.net_from_text(
        """layer { name: "ip" type: "Input" top: "x" }
        layer { name: "relu" type: "ReLU" bottom: "x" top: "x" }"""
    )
    step = time._Step(net.layers, work, forward=0.002, backward=0.006)
    step.observe(gemm.gemm, 1.0)
    step.observe(update.sgd, 2.0)
    assert step.rows(machine) == [
        ["ip", "Input", "2.000", "6.000", "1.5", "0.3", "50", "update gemm"],
        ["relu", "ReLU", "", "", "", "", "", "(with ip)"],
    ]


def test_layers_that_run_as_one_have_one_time(run_folder, capsys):
    (run_folder / "fused.prototxt").write_text(
        """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
        layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" }
        layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }"""
    )
    assert cli.main(["time", "-model=fused.prototxt", "-iterations=1"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["relu", "ReLU", "(with", "bn)"] in rows
    assert next(row for row in rows if row[:1] == ["bn"])[-1] == "normalization"


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
        "import blobnet\nfrom blobnet.layers.activation import ReLU\n@blobnet.register('Own')\nclass Own(ReLU): pass\n"
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
