"""LSTM layers forward and backward, side by side with ``torch.nn.LSTM``.

As many inputs as cells, one sequence in each stream. Both start from the same weights, and outputs and gradients are
compared.
"""

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import jobs, nets, options, ours, report, torch_engine, turns
from benchmarks.kernels import difference
from blobnet.proto import blobnet_pb2 as pb

STEPS, BATCHES, CELLS = (50, 100), (32, 64), (128, 256, 512)
TASKS = ("forward", "backward")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recurrent", description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help=f"default: {STEPS}")
    parser.add_argument("--batch", type=int, nargs="+", default=BATCHES, help=f"default: {BATCHES}")
    parser.add_argument("--cells", type=int, nargs="+", default=CELLS, help=f"default: {CELLS}")
    options.add_measuring(parser, rounds=10, seconds=0.5)
    args = parser.parse_args(argv)
    report.print_machine(args.threads, ["numpy", "numba", "torch"])
    columns = [f"{task} {column}" for task in TASKS for column in ("ratio", "blobnet ms", "torch ms", "GFLOP/s")]
    table = report.Table(["steps, batch, cells", *columns, "ratio of both", "difference"])
    workers = [turns.Worker(engine, args.threads) for engine in ("blobnet", "torch")]
    for steps, batch, cells in itertools.product(args.steps, args.batch, args.cells):
        table.add([f"{steps}, {batch}, {cells}", *measure(steps, batch, cells, workers, args)])
    for worker in workers:
        worker.close()


def measure(
    steps: int, batch: int, cells: int, workers: Sequence[turns.Worker], args: argparse.Namespace
) -> list[object]:
    """The cells of a row, after the first."""
    own, peer = workers
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        inputs = {
            "x": np.random.default_rng(1).standard_normal((steps, batch, cells), np.float32),
            "cont": np.repeat(np.arange(steps, dtype=np.float32)[:, None] > 0, batch, axis=1),
        }
        jobs.write(folder, net(steps, batch, cells), pb.TRAIN, inputs)
        own.hold(ours.Unit, folder, True)
        peer.hold(torch_engine.Lstm, folder, args.threads)
    expected, found = (worker.call("results", list(TASKS)) for worker in workers)
    row: list[object] = []
    totals: dict[str, list[float]] = {worker.name: [0.0] * args.rounds for worker in workers}
    for task in TASKS:
        times = turns.race(workers, task, args.rounds, args.seconds)
        for name, laps in times.items():
            totals[name] = [total + lap for total, lap in zip(totals[name], laps, strict=True)]
        ours_ms, torch_ms = (median(times[worker.name]) for worker in workers)
        rate = own.call("work", task).flops / ours_ms / 1e6
        row += [turns.ratio(times["blobnet"], times["torch"]), f"{ours_ms:.2f}", f"{torch_ms:.2f}", f"{rate:.0f}"]
    return [*row, turns.ratio(totals["blobnet"], totals["torch"]), f"{difference(expected, found):.0e}"]


def net(steps: int, batch: int, cells: int) -> pb.NetParameter:
    param = pb.NetParameter(force_backward=True)
    param.layer.append(nets.input_layer("x", [steps, batch, cells]))
    param.layer.append(nets.input_layer("cont", [steps, batch]))
    lstm = param.layer.add(name="lstm", type="LSTM", bottom=["x", "cont"], top=["h"])
    lstm.recurrent_param.num_output = cells
    lstm.recurrent_param.weight_filler.type = "uniform"
    lstm.recurrent_param.weight_filler.min = -(cells**-0.5)
    lstm.recurrent_param.weight_filler.max = cells**-0.5
    return param


if __name__ == "__main__":
    main()
