"""Logs of Caffe and of blobnet as tables."""

import csv
import math
import os

import pytest

from blobnet import BlobnetError, cli
from blobnet.tools import parse_log
from tests.recorded import ROOT

LOG = ROOT / "files/logs/train_tiny.txt"


def test_a_log_of_caffe():
    train, test = parse_log.parse_log(LOG)
    assert [list(row) for row in train] == [["NumIters", "Seconds", "LearningRate", "loss"]] * 5
    assert [list(row) for row in test] == [["NumIters", "Seconds", "LearningRate", "accuracy", "loss"]] * 3
    assert [row["NumIters"] for row in train] == [0, 2, 4, 6, 8]
    assert [row["LearningRate"] for row in train] == [0.05, 0.05, 0.05, 0.025, 0.025]
    assert [row["loss"] for row in train] == [1.38629, 1.7572, 1.13805, 0.971493, 1.00794]
    assert [row["Seconds"] for row in test] == [0.001398, 0.003843, 0.007843]
    assert [row["accuracy"] for row in test] == [0.416667] * 3


OLD_LOG = """\
Log file created at: 2014/12/31 23:59:00
I1231 23:59:58.000000 12 net.cpp:1] Iteration 7, Testing net (#0)
I1231 23:59:59.500000 12 solver.cpp:1] Solving it
I1231 23:59:59.750000 12 solver.cpp:2] Iteration 0, Testing net (#0)
I0101 00:00:00.500000 12 solver.cpp:3]     Test net output #0: accuracy = 0.1
I0101 00:00:01.500000 12 solver.cpp:3]     Test net output #1: loss = nan (* 1 = nan loss)
I0101 00:00:02.000000 12 solver.cpp:2] Iteration 0, Testing net (#1)
I0101 00:00:02.500000 12 solver.cpp:3]     Test net output #0: accuracy = 0.2
torn line
I9999 00:00:03.500000 12 solver.cpp:4] Iteration 5, lr = 3
I0101 00:00:03.500000 12 solver.cpp:4] Iteration 0, lr = 1e-05
I0101 00:00:04.500000 12 solver.cpp:2] Iteration 10, Testing net (#0)
I0101 00:00:05.500000 12 solver.cpp:3]     Test net output #0: accuracy = 0.3
I0101 00:00:06.000000 12 solver.cpp:3]     Test net output #1: prob = 1
I0101 00:00:06.500000 12 solver.cpp:3]     Test net output #2: prob = 2
"""


def test_two_test_nets_a_new_year_and_torn_lines(tmp_path):
    (tmp_path / "log").write_text(OLD_LOG)
    os.utime(tmp_path / "log", (1420066800, 1420066800))
    train, test = parse_log.parse_log(tmp_path / "log")
    assert train == []
    assert [(row["NumIters"], row["Seconds"], row["accuracy"]) for row in test] == [
        (0, 1.0, 0.1),
        (0, 3.0, 0.2),
        (10, 6.0, 0.3),
    ]
    assert math.isnan(test[0]["loss"])
    assert test[2]["prob"] == 2
    assert test[2]["LearningRate"] == 1e-05


def test_tables_on_the_disk(tmp_path, capsys):
    assert cli.main(["parse_log", str(LOG), str(tmp_path), "--verbose", "--delimiter=;"]) == 0
    paths = [tmp_path / f"train_tiny.txt.{part}" for part in ("train", "test")]
    assert capsys.readouterr().out.splitlines() == [f"Wrote {path}" for path in paths]
    for path, rows in zip(paths, parse_log.parse_log(LOG), strict=True):
        with open(path, newline="", encoding="utf-8") as file:
            found = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file, delimiter=";")]
        assert found == rows


def test_rows_of_different_columns(tmp_path):
    parse_log.write_csv(tmp_path / "table", [{"a": 1.0}, {"a": 2.0, "b": 3.0}])
    assert (tmp_path / "table").read_bytes() == b"a,b\r\n1.0,\r\n2.0,3.0\r\n"


def test_faults(tmp_path, capsys):
    (tmp_path / "empty").write_text("I1231 23:59:59.500000 12 solver.cpp:1] Solving it\n")
    with pytest.raises(BlobnetError, match="is no training log: no line names an iteration"):
        parse_log.parse_log(tmp_path / "empty")
    assert cli.main(["parse_log", str(tmp_path / "none"), str(tmp_path)]) == 1
    assert cli.main(["parse_log", str(LOG), str(tmp_path / "none")]) == 1
    assert cli.main(["parse_log", str(LOG), str(tmp_path), "--delimiter", "and"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: a delimiter must be one character; got 'and'"
