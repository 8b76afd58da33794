"""Predictions of nine nets for one image and for eight, side by side with ONNX Runtime and OpenVINO.

All run the deploy net in float32 with the same weights on the same images, and their probabilities are compared.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import jobs, nets, options, ours, predictors, report, turns
from blobnet.proto import blobnet_pb2 as pb

COLUMNS = ("net, batch", "ratio (least to most)", "blobnet ms", *(f"{name} ms" for name in predictors.ENGINES))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__)
    options.add_nets(parser)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="images at once (default: 1 8)")
    options.add_measuring(parser, rounds=10, seconds=0.5)
    args = parser.parse_args(argv)
    report.print_machine(args.threads, ["numpy", "numba", "onnxruntime", "openvino"])
    table = report.Table([*COLUMNS, "images/s", "MB", "difference"])
    for name in args.nets:
        for batch in args.batch:
            table.add(measure(name, batch, args))


def measure(name: str, batch: int, args: argparse.Namespace) -> list[object]:
    """A row of the table."""
    own, *peers = workers = [turns.Worker(engine, args.threads) for engine in ("blobnet", *predictors.ENGINES)]
    with tempfile.TemporaryDirectory() as temporary:
        folder, onnx = Path(temporary), Path(temporary) / "net.onnx"
        jobs.write(folder, nets.predicting(name, batch), pb.TEST)
        predictors.write_onnx(folder, onnx)
        own.hold(ours.Prediction, folder)
        for peer in peers:
            peer.hold(predictors.ENGINES[peer.name], folder, onnx, args.threads)
    expected, *outputs = [worker.call("output") for worker in workers]
    times = turns.race(workers, "predict", args.rounds, args.seconds)
    memory = own.peak_memory()
    for worker in workers:
        worker.close()
    peer = turns.best(times, list(predictors.ENGINES))
    own_ms = median(times["blobnet"])
    return [
        f"{name} {batch}",
        turns.ratio(times["blobnet"], times[peer]),
        f"{own_ms:.2f}",
        *(f"{median(times[peer.name]):.2f}" for peer in peers),
        f"{1000 * batch / own_ms:.0f}",
        f"{memory:.0f}",
        f"{max(float(np.abs(output - expected).max()) for output in outputs) / np.abs(expected).max():.0e}",
    ]


if __name__ == "__main__":
    main()
