"""Kills trainings with SIGKILL at random moments and looks at what they leave.

    python -m tests.kill.harness --kills 1000 [--seed 1] [--folder F]

A training with snapshots every few iterations is killed, resumed as ``--resume auto`` does, killed again, until it
ends; then another one begins. After every kill a whole snapshot must be there that is at most one interval old, and
every training must end with the weights, history and best weights of one that was left alone, to the bit.
"""

import argparse
import contextlib
import gc
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blobnet import config, snapshot, snapshot_folder, solvers
from blobnet.data.lmdb import write_database
from blobnet.io.weights import read_weights
from blobnet.proto import blobnet_pb2 as pb

INTERVAL = 3
ITERATIONS = 120

NET = """
name: "killed"
layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "lmdb" backend: LMDB batch_size: 4 } transform_param { scale: 0.01 mirror: true crop_size: 7 } }
layer { name: "hidden" type: "InnerProduct" bottom: "data" top: "h"
  inner_product_param { num_output: 300 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "h" top: "h" }
layer { name: "drop" type: "Dropout" bottom: "h" top: "h" }
layer { name: "score" type: "InnerProduct" bottom: "h" top: "score"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy" include { phase: TEST } }
"""
SOLVER = f"""
net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" type: "Adam" momentum: 0.9 max_iter: {ITERATIONS} random_seed: 1
test_interval: 4 average_loss: 5
snapshot_prefix: "runs/s" snapshot: {INTERVAL} snapshot_keep: 3 snapshot_best: "loss"
"""


class KillError(Exception):
    """A kill has left something that must not be."""


@dataclass
class Tally:
    kills: int = 0
    finished: int = 0
    torn: int = 0  # kills that left one file of a pair new, or a temporary one
    most_lost: int = 0  # iterations


class Progress(solvers.Callback):
    """Leaves the number of iterations made where the parent process sees it."""

    def __init__(self, memory: mmap.mmap):
        self.memory = memory

    def on_iteration(self, solver, loss):
        self.memory[:8] = struct.pack("q", solver.iter)


def write_training(folder: Path) -> None:
    random_pixels = np.random.default_rng(0).integers(0, 256, (22, 1, 8, 8), np.uint8)
    records = [
        pb.Datum(channels=1, height=8, width=8, data=p.tobytes(), label=i % 5) for i, p in enumerate(random_pixels)
    ]
    write_database(folder / "lmdb", [(b"%03d" % i, record.SerializeToString()) for i, record in enumerate(records)])
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(SOLVER)


def train(memory: mmap.mmap) -> None:
    """The training in the working folder, from its newest snapshot on."""
    solver = solvers.create("solver.prototxt", callbacks=[Progress(memory)], lean=True)
    state = solver.newest_snapshot()
    if state is not None:
        solver.restore(state)
    solver.solve()


def result() -> list[bytes]:
    """What a training that has ended leaves."""
    state = snapshot.read(f"runs/s_iter_{ITERATIONS}.solverstate")
    files = [f"runs/s_iter_{ITERATIONS}.caffemodel", "runs/s_best.caffemodel"]
    weights = [array.tobytes() for file in files for arrays in read_weights(file).values() for array in arrays]
    return weights + [array.tobytes() for array in state.history] + [snapshot._to_json(state.resume).encode()]


def kill_once(memory: mmap.mmap, seconds: float) -> bool:
    """Start the training in a process of its own and kill it after a time; returns whether it had ended before."""
    memory[:8] = struct.pack("q", 0)
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
            train(memory)
            code = 0
        os._exit(code)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise KillError("the resumed training failed by itself")
    return os.WIFEXITED(status)


def look(memory: mmap.mmap, tally: Tally) -> None:
    """What a killed training has left."""
    [made] = struct.unpack("q", memory[:8])
    prefix = Path("runs/s")
    state = snapshot_folder.newest(prefix)
    found = 0 if state is None else snapshot.read(state).iteration
    lost = max(0, made - found)
    if lost > INTERVAL:
        raise KillError(f"{made} iterations were made, the newest whole snapshot is of iteration {found}")
    if Path("runs/s_best.caffemodel").exists():
        read_weights("runs/s_best.caffemodel")
    names = {path.name for path in prefix.parent.iterdir()} if prefix.parent.exists() else set()
    models = {name for name in names if "_iter_" in name and name.endswith(".caffemodel")}
    states = {name.replace(".solverstate", ".caffemodel") for name in names if name.endswith(".solverstate")}
    tally.torn += bool(models ^ states) or any(name.endswith(".tmp") for name in names)
    tally.most_lost = max(tally.most_lost, lost)


@contextlib.contextmanager
def work_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(folder: Path, kills: int, seed: int) -> Tally:
    """Kill trainings in a folder so many times; raises KillError at the first harm."""
    tally, chance, memory = Tally(), random.Random(seed), mmap.mmap(-1, 8)
    config.set_threads(1)
    write_training(folder)
    with work_in(folder):
        began = time.monotonic()
        train(memory)
        took = time.monotonic() - began
        expected = result()
        shutil.rmtree("runs")
        gc.collect()  # closes the database, which must not be open across a fork
        while tally.kills < kills:
            if kill_once(memory, chance.uniform(0, 0.3 * took)):
                tally.finished += 1
                if result() != expected:
                    raise KillError("a training that was killed and resumed ended otherwise than one left alone")
                if left := [path.name for path in Path("runs").glob(".*")]:
                    raise KillError(f"the training that ended left {left}")
                shutil.rmtree("runs")
            else:
                tally.kills += 1
                look(memory, tally)
                if tally.kills % 100 == 0:
                    print(f"{tally.kills} kills", file=sys.stderr, flush=True)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="kept afterwards (default: a passing one)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        if args.folder:
            args.folder.mkdir(parents=True)
        tally = run(args.folder or Path(passing), args.kills, args.seed)
    print(
        f"{tally.kills} kills survived, {tally.finished} trainings ended as if left alone; "
        f"{tally.torn} kills left something unfinished; at most {tally.most_lost} iterations lost "
        f"(snapshots every {INTERVAL})"
    )


if __name__ == "__main__":
    main()
