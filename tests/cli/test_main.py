"""The frame around the commands: help, version, exit codes, and faults in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

import blobnet
from blobnet import cli

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"]])
def test_help_lists_the_commands(argv, capsys):
    assert cli.main(argv) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-help", "-h"])
def test_help_of_a_command(command, flag, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([command, flag])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: blobnet {command} ")


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"blobnet {blobnet.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["trian"], f'unknown command "trian"; did you mean "train"? (commands: {", ".join(cli.COMMANDS)})'),
        (["train"], "--solver is needed (blobnet train --help lists the flags)"),
        (["test", "--weights", "w"], "--model is needed (blobnet test --help lists the flags)"),
        (["train", "--solver", "none"], "none: cannot read the file: No such file or directory"),
        (["test", "-model=none", "-weights=w"], "none: cannot read the file: No such file or directory"),
        (["time", "--model", "."], ".: cannot read the file: Is a directory"),
        (
            ["train", "--solver", "s", "--snapshot", "a", "--weights", "b"],
            "--snapshot resumes a training, --weights starts one: give one of them, not both",
        ),
    ],
)
def test_faults_are_one_line_and_a_1(argv, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {said}"


@pytest.mark.parametrize(
    ("program", "arguments", "prog"),
    [
        ("build/tools/caffe", ["train", "--help"], "train"),
        ("build/tools/compute_image_mean", ["--help"], "compute_image_mean"),
        ("./convert_imageset.bin", ["-help"], "convert_imageset"),
        ("tools/extra/parse_log.py", ["--help"], "parse_log"),
    ],
)
def test_a_program_named_after_a_command_is_that_command(program, arguments, prog, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().out.startswith(f"usage: blobnet {prog} ")


def test_help_imports_nothing_heavy():
    script = "import sys; from blobnet import cli; cli.main([]); print(sorted({'numba', 'numpy'} & sys.modules.keys()))"
    outcome = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert outcome.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_leaves_is_no_fault():
    pipeline = f"{sys.executable} -m blobnet device_query | true"
    outcome = subprocess.run(["bash", "-c", pipeline], cwd=ROOT, capture_output=True, text=True, check=True)
    assert outcome.stderr == ""


def test_device_query(capsys):
    assert cli.main(["device_query", "-gpu", "all"]) == 0
    printed = capsys.readouterr().out
    assert "Device:           CPU" in printed
    assert "Threads used:" in printed
