"""Soak: LeNet for many iterations, and whether memory, file handles or threads grow.

    python benchmarks/soak.py [--iterations 10000] [--every 100] [--snapshot 500]

Tests every 500 iterations and snapshots run along, as in a real training. The first tenth of the samples is left out:
buffers are made there. Exits with 1 where memory grows by 1 KB an iteration or more, or handles or threads do at all.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from blobnet import solvers, zoo
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text

WARM = 0.1  # share of the samples that is left out
MOST_GROWTH = 1024  # bytes an iteration


class Sampler(solvers.Callback):
    """Notes what the process holds, every so many iterations."""

    def __init__(self, every: int):
        self.every = every
        self.samples: list[tuple[int, int, int, int]] = []  # iteration, resident bytes, handles, threads

    def on_iteration(self, solver: solvers.Solver, loss: float) -> None:
        if solver.iter % self.every == 0:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            resident = pages * os.sysconf("SC_PAGE_SIZE")
            handles, threads = (len(os.listdir(f"/proc/self/{kind}")) for kind in ("fd", "task"))
            self.samples.append((solver.iter, resident, handles, threads))


def soak(iterations: int, every: int, snapshot: int) -> Sampler:
    """Train LeNet in a passing folder."""
    param = text.read(zoo.folder("lenet") / "solver.prototxt", pb.SolverParameter())
    param.max_iter, param.snapshot, param.snapshot_keep, param.random_seed = iterations, snapshot, 2, 1
    sampler = Sampler(every)
    with tempfile.TemporaryDirectory() as folder:
        param.snapshot_prefix = f"{folder}/soak"
        solvers.create(param, callbacks=[sampler]).solve()
    return sampler


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--iterations", type=int, default=10000)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--snapshot", type=int, default=500)
    args = parser.parse_args()
    samples = np.array(soak(args.iterations, args.every, args.snapshot).samples)
    kept = samples[int(WARM * len(samples)) :]
    iteration, resident, handles, threads = kept.T
    slope = np.polyfit(iteration, resident, 1)[0]
    print(f"{args.iterations} iterations, {len(kept)} samples")
    first, last = (f"{size / 2**20:.1f} MB" for size in (resident[0], resident[-1]))
    print(f"resident memory: {first} to {last}, {slope:.0f} bytes an iteration")
    print(f"file handles: {handles[0]} to {handles[-1]}, at most {handles.max()}")
    print(f"threads: {threads[0]} to {threads[-1]}, at most {threads.max()}")
    grows = slope >= MOST_GROWTH or handles[-1] > handles[0] or threads[-1] > threads[0]
    return int(grows)


if __name__ == "__main__":
    sys.exit(main())
