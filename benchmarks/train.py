"""A training step of nine nets, side by side with PyTorch.

Both run SGD with momentum and weight decay on data in memory, from the same weights; the loss of the first pass is
compared. PyTorch runs eagerly with its fused optimiser, in NCHW and in channels_last; the better of the two counts.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks import jobs, nets, options, ours, report, torch_engine, turns
from blobnet.proto import blobnet_pb2 as pb

RATE, MOMENTUM, DECAY = 0.0001, 0.9, 0.0005
COLUMNS = (
    "net, batch",
    "ratio (least to most)",
    "blobnet ms",
    "torch ms",
    "format",
    "images/s",
    "torch images/s",
    "MB",
    "torch MB",
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    options.add_nets(parser)
    options.add_measuring(parser, rounds=10, seconds=1.0)
    args = parser.parse_args(argv)
    report.print_machine(args.threads, ["numpy", "numba", "torch"])
    table = report.Table([*COLUMNS, "loss difference"])
    for name in args.nets:
        table.add(measure(name, nets.BATCHES[name], args))


def measure(name: str, batch: int, args: argparse.Namespace) -> list[object]:
    """A row of the table."""
    own, *peers = workers = [turns.Worker(engine, args.threads) for engine in ("blobnet", *torch_engine.FORMATS)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        jobs.write(folder, nets.training(name, batch), pb.TRAIN)
        _compile(folder, args.threads)
        own.hold(ours.Training, folder, RATE, MOMENTUM, DECAY)
        for peer in peers:
            peer.hold(torch_engine.Training, folder, RATE, MOMENTUM, DECAY, args.threads, peer.name)
    losses = [worker.call("first_loss") for worker in workers]
    times = turns.race(workers, "step", args.rounds, args.seconds)
    memory = {worker.name: worker.peak_memory() for worker in workers}
    for worker in workers:
        worker.close()
    peer = turns.best(times, list(torch_engine.FORMATS))
    own_ms, peer_ms = median(times["blobnet"]), median(times[peer])
    return [
        f"{name} {batch}",
        turns.ratio(times["blobnet"], times[peer]),
        f"{own_ms:.2f}",
        f"{peer_ms:.2f}",
        torch_engine.SHORT[peer],
        f"{1000 * batch / own_ms:.0f}",
        f"{1000 * batch / peer_ms:.0f}",
        f"{memory['blobnet']:.0f}",
        f"{memory[peer]:.0f}",
        f"{max(abs(loss / losses[0] - 1) for loss in losses[1:]):.0e}",
    ]


def _compile(folder: Path, threads: int) -> None:
    """Run a step in a process of its own, so that the one that is measured finds its kernels compiled."""
    worker = turns.Worker("blobnet", threads)
    worker.hold(ours.Training, folder, RATE, MOMENTUM, DECAY)
    worker.lap("step", 0)
    worker.close()


if __name__ == "__main__":
    main()
