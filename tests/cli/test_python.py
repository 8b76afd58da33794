import os
import subprocess
import sys
from pathlib import Path

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


def blobnet(*arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "blobnet", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_scripts_run_as_they_are(tmp_path):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "draw_it.py").write_text(SCRIPT)
    (scripts / "helper.py").write_text("NAME = 'helped'")
    outcome = blobnet("python", "scripts/draw_it.py", "--gpu", "0", "3", cwd=tmp_path)
    assert outcome.stdout == "__main__ ['scripts/draw_it.py', '--gpu', '0', '3'] helped Input 1\n"
    assert outcome.returncode == 3
    assert "] a line of log\n" in outcome.stderr


def test_a_failing_script_shows_its_own_traceback(tmp_path):
    (tmp_path / "broken.py").write_text("import caffe\ncaffe.Net('nowhere.prototxt', caffe.TEST)\n")
    outcome = blobnet("python", "broken.py", cwd=tmp_path)
    assert outcome.returncode == 1
    assert outcome.stderr.startswith("Traceback")
    assert "broken.py" in outcome.stderr
    assert outcome.stderr.splitlines()[-1].startswith("blobnet.errors.BlobnetError: nowhere.prototxt")


def test_a_missing_script_is_one_line(capsys):
    assert main(["python", "nowhere.py"]) == 1
    assert capsys.readouterr().err == "error: nowhere.py: there is no such script\n"
