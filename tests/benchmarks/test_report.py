"""What the benchmarks print."""

from benchmarks import report


def test_machine(capsys, monkeypatch):
    monkeypatch.setattr(report.os, "getloadavg", lambda: (0.75, 0.0, 0.0))
    report.print_machine(2, ["numpy"])
    processor, state, warning, _ = capsys.readouterr().out.split("\n", 3)
    assert "2 threads; Python 3." in processor and ", numpy " in processor
    assert state.startswith("commit ") and state.endswith("load average 0.75")
    assert warning == "The machine is busy: these figures are noise."


def test_table(capsys):
    table = report.Table(["net, batch", "ms"])
    table.add(["lenet 64", "1.5"])
    assert capsys.readouterr().out == "| net, batch | ms |\n| :--        | --: |\n| lenet 64   | 1.5 |\n"
