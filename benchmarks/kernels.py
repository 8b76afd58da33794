"""The layers of nine nets one by one, side by side with PyTorch, and against the machine's limits.

Convolutions and inner products are run forward, backward to data and backward to weights, other layers forward and
backward. PyTorch runs eagerly, in NCHW and in channels_last; the better of the two counts. Rates are those of the
plain algorithm, multiplications and additions and each array moved once, as a part of what the machine was measured
to do in the same run, before this net or an earlier one: Winograd's algorithm and layers that stay in a cache may come
out above 100 %.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import jobs, nets, options, ours, report, torch_engine, turns
from benchmarks.units import Unit, units
from blobnet.kernels.limits import Limits
from blobnet.proto import blobnet_pb2 as pb

COLUMNS = ("layer", "type", "shapes", "pass", "times", "ratio (least to most)", "blobnet ms", "torch ms", "format")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    options.add_nets(parser)
    parser.add_argument("--types", nargs="+", metavar="TYPE", help="layer types to run, such as Convolution")
    options.add_measuring(parser, rounds=5, seconds=0.1)
    args = parser.parse_args(argv)
    report.print_machine(args.threads, ["numpy", "numba", "torch"])
    workers = [turns.Worker(engine, args.threads) for engine in ("blobnet", *torch_engine.FORMATS)]
    limits = Limits(0, 0)
    for name in args.nets:
        workers[0].hold(ours.Machine)
        limits = Limits(*map(max, limits, workers[0].call("limits")))
        print(f"\n{name}, batch {nets.BATCHES[name]}")
        print(f"limits: {limits.flops / 1e9:.0f} GFLOP/s in multiply-adds, {limits.bytes / 1e9:.1f} GB/s in copies\n")
        table = report.Table([*COLUMNS, "GFLOP/s", "% of peak", "GB/s", "% of copy", "difference"], texts=4)
        for unit in units(nets.training(name, nets.BATCHES[name])):
            if not args.types or unit.type in args.types:
                for row in measure(unit, workers, limits, args):
                    table.add(row)
    for worker in workers:
        worker.close()


def measure(
    unit: Unit, workers: Sequence[turns.Worker], limits: Limits, args: argparse.Namespace
) -> Iterator[list[object]]:
    """A row of the table for each pass."""
    own, *peers = workers
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        jobs.write(folder, unit.param, pb.TRAIN)
        own.hold(ours.Unit, folder, unit.propagate)
        for peer in peers:
            peer.hold(torch_engine.Unit, folder, unit.propagate, args.threads, peer.name)
    expected, *found = [worker.call("results", unit.tasks) for worker in workers]
    worst = max(difference(expected, results) for results in found)
    for task in unit.tasks:
        times = turns.race(workers, task, args.rounds, args.seconds)
        work = own.call("work", task)
        peer_name = turns.best(times, list(torch_engine.FORMATS))
        own_ms = median(times["blobnet"])
        flops, moved = work.flops / own_ms * 1e3, work.bytes / own_ms * 1e3
        yield [
            unit.name,
            unit.type,
            unit.shapes,
            task,
            unit.count,
            turns.ratio(times["blobnet"], times[peer_name]),
            f"{own_ms:.3f}",
            f"{median(times[peer_name]):.3f}",
            torch_engine.SHORT[peer_name],
            f"{flops / 1e9:.1f}" if flops else "",
            f"{100 * flops / limits.flops:.0f}" if flops else "",
            f"{moved / 1e9:.1f}",
            f"{100 * moved / limits.bytes:.0f}",
            "random" if unit.type == "Dropout" else f"{worst:.0e}",
        ]


def difference(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """The largest between any two results, as a part of the largest element."""
    pairs = zip(expected, found, strict=True)
    return max(float(np.abs(a - b.reshape(a.shape)).max() / max(np.abs(b).max(), 1e-30)) for a, b in pairs)


if __name__ == "__main__":
    main()
