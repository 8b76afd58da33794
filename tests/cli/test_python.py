import os
import subprocess
import sys
from pathlib import Path

import pytest

from blobnet.cli import main

SCRIPT = """
import sys
import caffe
from caffe import layers as L
from helper import NAME
net = caffe.NetSpec()
net.data = L.Input(shape=dict(dim=[1, 2]))
print(__name__, sys.argv, NAME, net.to_proto().layer[0].type, caffe.TEST)
caffe.log("a line of log")
sys.exit(int(sys.argv[-1]))
"""
CODE = "import sys, caffe; print(sys.argv, caffe.Net.__module__)"
OURS = "blobnet.pycaffe.net"


def blobnet(*arguments, cwd, stdin="", path=()):
    folders = os.pathsep.join([str(Path(__file__).parents[2]), *map(str, path)])
    environment = {**os.environ, "PYTHONPATH": folders}
    command = [sys.executable, "-m", "blobnet", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, input=stdin, capture_output=True, text=True)


def test_scripts_run_as_they_are(tmp_path):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "draw_it.py").write_text(SCRIPT)
    (scripts / "helper.py").write_text("NAME = 'helped'")
    outcome = blobnet("python", "scripts/draw_it.py", "--gpu", "0", "3", cwd=tmp_path)
    assert outcome.stdout == "__main__ ['scripts/draw_it.py', '--gpu', '0', '3'] helped Input 1\n"
    assert outcome.returncode == 3
    assert "] a line of log\n" in outcome.stderr


def test_modules_code_and_standard_input_run_too(tmp_path):
    (tmp_path / "module.py").write_text(CODE)
    outcome = blobnet("python", "-m", "module", "-a", cwd=tmp_path)
    assert outcome.stdout == f"{[str(tmp_path / 'module.py'), '-a']} {OURS}\n"
    assert blobnet("python", "-u", "-c", CODE, "--help", cwd=tmp_path).stdout == f"['-c', '--help'] {OURS}\n"
    assert blobnet("python", "-", "x", cwd=tmp_path, stdin=CODE).stdout == f"['-', 'x'] {OURS}\n"
    assert blobnet("python", cwd=tmp_path, stdin=CODE).stdout == f"[''] {OURS}\n"


def test_the_pythons_that_a_program_starts_have_caffe_as_well(tmp_path):
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CODE!r}])"
    assert blobnet("python", "-c", code, cwd=tmp_path).stdout == f"['-c'] {OURS}\n"


def test_a_caffe_on_the_path_is_not_taken(tmp_path):
    """Programs put the python folder of their Caffe first on sys.path, built or not."""
    (tmp_path / "python" / "caffe").mkdir(parents=True)
    (tmp_path / "python" / "caffe" / "__init__.py").write_text("raise ImportError('no _caffe.so')")
    code = "import sys; sys.path.insert(0, 'python'); import caffe.proto.caffe_pb2; print(caffe.TEST)"
    outcome = blobnet("python", "-c", code, cwd=tmp_path)
    assert (outcome.stdout, outcome.returncode) == ("1\n", 0)


def test_the_start_up_of_the_environment_runs_as_well(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('started')")
    assert blobnet("python", "-c", "print('ran')", cwd=tmp_path, path=[tmp_path]).stdout.endswith("started\nran\n")


def test_a_failing_script_shows_its_own_traceback(tmp_path):
    (tmp_path / "broken.py").write_text("import caffe\ncaffe.Net('nowhere.prototxt', caffe.TEST)\n")
    outcome = blobnet("python", "broken.py", cwd=tmp_path)
    assert outcome.returncode == 1
    assert outcome.stderr.startswith("Traceback")
    assert "broken.py" in outcome.stderr
    assert outcome.stderr.splitlines()[-1].startswith("blobnet.errors.BlobnetError: nowhere.prototxt")


def test_a_missing_script_is_one_line(tmp_path):
    outcome = blobnet("python", "nowhere.py", cwd=tmp_path)
    assert outcome.returncode == 2
    assert "nowhere.py" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_help_alone_is_of_the_command(capsys):
    with pytest.raises(SystemExit):
        main(["python", "--help"])
    assert "import caffe" in capsys.readouterr().out
