"""blobnet train: what it says, writes and obeys."""

import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from blobnet import cli
from blobnet.io.weights import read_weights

ROOT = Path(__file__).resolve().parents[2]
GLOG = re.compile(r"[IWE]\d{4} \d\d:\d\d:\d\d\.\d{6} \d+ \w+\.py:\d+\] ")


def messages(capsys):
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if not GLOG.match(line)] == []
    return [GLOG.sub("", line, count=1) for line in lines]


def loss_after(iterations):
    """Every update of weights and bias brings the prediction closer to 1, by 0.1 * (3 * 0.5^2 + 1) of the distance."""
    return f"{0.5 * (1 - 0.175) ** (2 * iterations):g}"


def test_the_log_reads_as_caffes(run_folder, capsys):
    assert cli.main(["train", "--solver", "solver.prototxt", "--threads", "1"]) == 0
    lines = [line for line in messages(capsys) if not line.startswith("Compiling kernels")]
    said = [re.sub(r"\(\S+ iter/s, \S+s/", "(N iter/s, Ns/", line) for line in lines]
    middle, end = loss_after(2), loss_after(4)
    assert said[said.index("Solving line") :] == [
        "Solving line",
        "Learning Rate Policy: fixed",
        "Iteration 0, Testing net (#0)",
        "    Test net output #0: loss = 0.5 (* 1 = 0.5 loss)",
        "Iteration 0, loss = 0.5",
        "    Train net output #0: loss = 0.5 (* 1 = 0.5 loss)",
        "Iteration 0, lr = 0.1",
        "Iteration 2, Testing net (#0)",
        f"    Test net output #0: loss = {middle} (* 1 = {middle} loss)",
        f"Iteration 2 (N iter/s, Ns/2 iters), loss = {middle}",
        f"    Train net output #0: loss = {middle} (* 1 = {middle} loss)",
        "Iteration 2, lr = 0.1",
        "Snapshotting to line_iter_4.caffemodel and line_iter_4.solverstate",
        "Iteration 4, Testing net (#0)",
        f"    Test net output #0: loss = {end} (* 1 = {end} loss)",
        f"Iteration 4 (N iter/s, Ns/2 iters), loss = {end}",
        f"    Train net output #0: loss = {end} (* 1 = {end} loss)",
        "Iteration 4, lr = 0.1",
        "Optimization Done.",
        f"Last test, at iteration 4: loss = {end}",
        "Weights: line_iter_4.caffemodel",
    ]


def test_a_training_is_resumed(run_folder):
    assert cli.main(["train", "--solver=solver.prototxt"]) == 0
    whole = read_weights("line_iter_4.caffemodel")["ip"]
    short = (run_folder / "solver.prototxt").read_text().replace("max_iter: 4", "max_iter: 2")
    (run_folder / "short.prototxt").write_text(short)
    assert cli.main(["train", "--solver=short.prototxt"]) == 0
    (run_folder / "line_iter_4.caffemodel").unlink()
    assert cli.main(["train", "--solver=solver.prototxt", "--snapshot=line_iter_2.solverstate"]) == 0
    assert [array.tolist() for array in read_weights("line_iter_4.caffemodel")["ip"]] == [a.tolist() for a in whole]


def test_a_training_starts_from_weights(run_folder, capsys):
    assert cli.main(["train", "--solver=solver.prototxt"]) == 0
    capsys.readouterr()
    assert cli.main(["train", "--solver=solver.prototxt", "--weights=line_iter_4.caffemodel"]) == 0
    said = messages(capsys)
    first_test = said[said.index("Iteration 0, Testing net (#0)") + 1]
    assert first_test.startswith(f"    Test net output #0: loss = {loss_after(4)} ")


@pytest.mark.parametrize("flags", [["--level=2", "--stage=extra"], ["-stage", "extra,other", "-level", "3"]])
def test_level_and_stage_choose_layers_of_the_train_net(run_folder, flags):
    text = (run_folder / "net.prototxt").read_text().replace('"Silence"', '"NoSuchType"')
    (run_folder / "net.prototxt").write_text(text)
    assert cli.main(["train", "--solver=solver.prototxt"]) == 0
    assert cli.main(["train", "--solver=solver.prototxt", *flags]) == 1


def test_a_gpu_is_asked_for(run_folder, capsys):
    with (run_folder / "solver.prototxt").open("a") as file:
        file.write("solver_mode: GPU\n")
    assert cli.main(["train", "--solver=solver.prototxt"]) == 0
    assert sum("a GPU was asked for" in line for line in messages(capsys)) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("base_lr", "base_rl"), "solver.prototxt:3: .*base_rl.*base_lr"),
        (("net.prototxt", "none.prototxt"), "none.prototxt: cannot read: No such file or directory"),
        (('"fixed"', '"fixd"'), 'solver.prototxt:4: lr_policy must be one of .* got "fixd"; did you mean "fixed"'),
    ],
)
def test_faults_of_the_solver_name_file_and_line(run_folder, capsys, change, said):
    text = (run_folder / "solver.prototxt").read_text().replace(*change)
    (run_folder / "solver.prototxt").write_text(text)
    assert cli.main(["train", "--solver=solver.prototxt"]) == 1
    assert re.match(f"error: {said}", capsys.readouterr().err.splitlines()[-1])


@contextmanager
def endless_training(folder, *flags, stderr=subprocess.PIPE):
    """The process of a training that goes on until it is told to stop."""
    text = (folder / "solver.prototxt").read_text()
    (folder / "solver.prototxt").write_text(text.replace("max_iter: 4", "max_iter: 1000000000"))
    command = [sys.executable, "-m", "blobnet", "train", "--solver=solver.prototxt", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    with subprocess.Popen(command, env=environment, stderr=stderr, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(said, lines):
    assert any(said in line for line in lines)


@pytest.mark.parametrize(
    ("number", "flags"),
    [(signal.SIGINT, []), (signal.SIGTERM, []), (signal.SIGHUP, ["-sighup_effect=stop"])],
)
def test_a_signal_stops_after_a_snapshot(run_folder, number, flags):
    with endless_training(run_folder, *flags) as process:
        wait_for("Iteration 2", process.stderr)
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait() == 0
    stopped = int(re.search(r"Optimization stopped early, at iteration (\d+)", rest)[1])
    assert (run_folder / f"line_iter_{stopped}.solverstate").is_file()


def test_a_snapshot_on_demand_lets_the_training_go_on(run_folder):
    with endless_training(run_folder) as process:
        wait_for("Iteration 2", process.stderr)
        process.send_signal(signal.SIGHUP)
        wait_for("Snapshotting", process.stderr)
        wait_for("lr = ", process.stderr)


def test_a_terminal_gets_one_live_line(run_folder):
    terminal, stderr = pty.openpty()
    with endless_training(run_folder, stderr=stderr):
        os.close(stderr)
        shown = b""
        while b" left" not in shown:
            shown += os.read(terminal, 4096)
    os.close(terminal)
    assert re.search(
        rb"\r\x1b\[KIteration \d+/1000000000  loss \S+  lr 0.1  \d+ images/s  (\d+ days, )?\d+:\d\d:\d\d left", shown
    )
    assert b"Train net output" not in shown


def test_resume_auto_starts_and_goes_on(run_folder, capsys):
    """The same command line again and again, as after a crash, ends as one training does."""
    assert cli.main(["train", "--solver=solver.prototxt"]) == 0
    whole = read_weights("line_iter_4.caffemodel")["ip"]
    for path in run_folder.glob("line_iter_*"):
        path.unlink()
    capsys.readouterr()
    text = (run_folder / "solver.prototxt").read_text()
    for end, going_on in ((2, None), (3, 2), (4, 3), (4, 4)):
        (run_folder / "solver.prototxt").write_text(text.replace("max_iter: 4", f"max_iter: {end}"))
        assert cli.main(["train", "--solver=solver.prototxt", "--resume", "auto"]) == 0
        found = [line for line in messages(capsys) if "going on from iteration" in line]
        assert found == ([f"line_iter_{going_on}.solverstate: going on from iteration {going_on}"] if going_on else [])
    assert [array.tolist() for array in read_weights("line_iter_4.caffemodel")["ip"]] == [a.tolist() for a in whole]


def test_resume_with_other_weights(run_folder, capsys):
    assert cli.main(["train", "--solver=solver.prototxt"]) == 0
    (run_folder / "line_iter_2.caffemodel").write_bytes((run_folder / "line_iter_4.caffemodel").read_bytes())
    command = ["train", "--solver=solver.prototxt", "--resume=line_iter_4.solverstate"]
    (run_folder / "line_iter_4.caffemodel").write_bytes(b"")
    assert cli.main(command) == 1
    assert "its weights were not written with the state" in capsys.readouterr().err
    assert cli.main([*command, "--weights=line_iter_2.caffemodel"]) == 0


def test_snapshot_and_resume_exclude_each_other(run_folder, capsys):
    assert cli.main(["train", "--solver=solver.prototxt", "--snapshot=a", "--resume=b"]) == 1
    assert "--snapshot and --resume both resume a training" in capsys.readouterr().err


def test_a_training_without_its_last_snapshot_fails(run_folder, capsys):
    (run_folder / "line_iter_4.caffemodel").mkdir()
    assert cli.main(["train", "--solver=solver.prototxt"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("error: the last snapshot is missing: ")
    assert sum("Iteration 4: no snapshot, training goes on" in line for line in said) == 1
