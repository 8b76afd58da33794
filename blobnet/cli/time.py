"""Benchmark a model: the time of each layer, forward and backward, against what the machine can do."""

import argparse
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from blobnet.cli import flags

if TYPE_CHECKING:
    from blobnet.kernels.limits import Limits
    from blobnet.net import Net
    from blobnet.roofline import Work


def add_flags(parser: flags.Parser) -> None:
    parser.add_flag("model", needed=True, metavar="FILE", help="the net's prototxt")
    parser.add_flag("weights", metavar="FILE,...", help="caffemodels to load first")
    parser.add_flag("iterations", type=flags.count, default=50, metavar="N", help="passes to average (default: 50)")
    parser.add_flag("phase", choices=["TRAIN", "TEST"], default="TRAIN", help="phase of the net (default: TRAIN)")
    flags.add_strict(parser)
    flags.add_state(parser)
    flags.add_device(parser)
    flags.add_modules(parser)


def run(args: argparse.Namespace) -> None:
    from blobnet.cli import log
    from blobnet.cli.compiling import announced
    from blobnet.kernels import limits

    with log.shown(), announced():
        net = flags.build_net(args, args.phase)
        if args.weights:
            report = net.copy_trained_layers_from(args.weights)
            if args.strict:
                report.require_complete()
        rows = _measure(net, args.iterations)
        machine = limits.measured()
    print(f"Average time per layer over {args.iterations} iterations, in milliseconds:")
    _print_table([*(row.cells(machine) for row in rows), _sum(rows, machine)])
    print(_LEGEND.format(flops=machine.flops / 1e9, bytes=machine.bytes / 1e9))


_HEADER = ("layer", "type", "forward", "backward", "GFLOP/s", "GB/s", "limit %", "path")
_TEXTS = ("layer", "type", "path")
_LEGEND = """
GFLOP/s and GB/s: the multiplications and additions with weights, and each array moved once, over both passes.
limit %: the time that these take at this machine's limits ({flops:.0f} GFLOP/s, {bytes:.0f} GB/s), over the time taken.
path: the families of kernels that ran, the one that took longest first."""


@dataclass
class _Row:
    """A layer, and what its passes have taken in all."""

    name: str
    type: str
    forward: float = 0.0  # seconds a pass
    backward: float = 0.0
    work: list["Work"] = field(default_factory=list)
    kernels: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # seconds by family

    def observe(self, kernel: Callable, seconds: float) -> None:
        self.kernels[kernel.__module__.rpartition(".")[2]] += seconds

    def cells(self, machine: "Limits") -> list[str]:
        seconds = self.forward + self.backward
        flops = sum(work.flops for work in self.work) / seconds
        bytes_ = sum(work.bytes for work in self.work) / seconds
        limit = sum(work.seconds(machine) for work in self.work) / seconds
        path = " ".join(sorted(self.kernels, key=lambda family: -self.kernels[family]))
        rates = (f"{flops / 1e9:.1f}" if flops else "", f"{bytes_ / 1e9:.1f}", f"{100 * limit:.0f}")
        return [self.name, self.type, f"{1000 * self.forward:.3f}", f"{1000 * self.backward:.3f}", *rates, path]


def _measure(net: "Net", iterations: int) -> list[_Row]:
    """A row a layer; a first pass, which compiles and makes the diffs, is not counted."""
    from blobnet import roofline
    from blobnet.kernels import parallel

    rows = [_Row(layer.name, layer.type) for layer in net.layers]
    indices = range(len(rows))
    net.forward_from_to(0, len(rows) - 1)
    net.backward_from_to(len(rows) - 1, 0)
    for _ in range(iterations):
        for index in indices:
            with parallel.observed(rows[index].observe):
                rows[index].forward += _seconds(net.forward_from_to, index) / iterations
        for index in reversed(indices):
            with parallel.observed(rows[index].observe):
                rows[index].backward += _seconds(net.backward_from_to, index) / iterations
    for index, (row, layer) in enumerate(zip(rows, net.layers, strict=True)):
        bottom, top = net.bottoms[index], net.tops[index]
        row.work.append(roofline.forward(layer, bottom, top))
        if net.layer_need_backward[index]:
            row.work.append(roofline.backward(layer, bottom, top, net.bottom_need_backward[index]))
    return rows


def _seconds(run_layers: Callable[[int, int], object], index: int) -> float:
    start = perf_counter()
    run_layers(index, index)
    return perf_counter() - start


def _sum(rows: list[_Row], machine: "Limits") -> list[str]:
    total = _Row("Average pass", "")
    for row in rows:
        total.forward += row.forward
        total.backward += row.backward
        total.work += row.work
    return total.cells(machine)


def _print_table(rows: list[list[str]]) -> None:
    table = [list(_HEADER), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADER))]
    for row in table:
        cells = zip(_HEADER, row, widths, strict=True)
        aligned = (cell.ljust(width) if name in _TEXTS else cell.rjust(width) for name, cell, width in cells)
        print("  ".join(aligned).rstrip())
