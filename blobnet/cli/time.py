"""Benchmark a model: the time of each layer, forward and backward, against what the machine can do."""

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from blobnet.cli import flags

if TYPE_CHECKING:
    from blobnet.kernels.limits import Limits
    from blobnet.layers.base import Layer
    from blobnet.net import Net
    from blobnet.roofline import Work


def add_flags(parser: flags.Parser) -> None:
    parser.add_flag("model", needed=True, metavar="FILE", help="the net's prototxt")
    parser.add_flag("weights", metavar="FILE,...", help="caffemodels to load first")
    parser.add_flag("iterations", type=flags.count, default=50, metavar="N", help="passes to average (default: 50)")
    parser.add_flag("phase", choices=["TRAIN", "TEST"], default="TRAIN", help="phase of the net (default: TRAIN)")
    flags.add_net(parser)


def run(args: argparse.Namespace) -> None:
    from blobnet.cli import log
    from blobnet.cli.compiling import announced
    from blobnet.kernels import limits

    with log.shown(), announced():
        net = flags.build_net(args, args.phase)
        steps = _measure(net, args.iterations)
        machine = limits.measured()
    print(f"Average time per layer over {args.iterations} iterations, in milliseconds:")
    _print_table([*(row for step in steps for row in step.rows(machine)), _total(steps, machine)])
    print(_LEGEND.format(flops=machine.flops / 1e9, bytes=machine.bytes / 1e9))


_HEADER = ("layer", "type", "forward", "backward", "GFLOP/s", "GB/s", "limit %", "path")
_TEXTS = ("layer", "type", "path")
_LEGEND = """
GFLOP/s and GB/s: the multiplications and additions with weights, and each array moved once, over both passes.
limit %: the time that these take at this machine's limits ({flops:.0f} GFLOP/s, {bytes:.0f} GB/s), over the time taken.
path: the families of kernels that ran, the one that took longest first; (with x): runs as one with layer x."""


@dataclass
class _Step:
    """Layers that run as one, and what their passes take."""

    layers: Sequence["Layer"]
    work: list["Work"]
    forward: float = 0.0  # seconds a pass
    backward: float = 0.0
    kernels: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # seconds by family

    def observe(self, kernel: Callable, seconds: float) -> None:
        self.kernels[kernel.__module__.rpartition(".")[2]] += seconds

    def rows(self, machine: "Limits") -> list[list[str]]:
        """The first layer has the figures of all."""
        first, *others = self.layers
        path = " ".join(sorted(self.kernels, key=lambda family: -self.kernels[family]))
        figures = _figures(self.forward, self.backward, self.work, machine)
        blank = [""] * len(figures)
        return [
            [first.name, first.type, *figures, path],
            *([other.name, other.type, *blank, f"(with {first.name})"] for other in others),
        ]


def _figures(forward: float, backward: float, work: list["Work"], machine: "Limits") -> list[str]:
    """Milliseconds, rates and the part of the limit; rates only where there is work to speak of."""
    seconds = forward + backward
    flops = sum(part.flops for part in work) / seconds / 1e9
    moved = sum(part.bytes for part in work) / seconds / 1e9
    limit = 100 * sum(part.seconds(machine) for part in work) / seconds
    times = [f"{1000 * forward:.3f}", f"{1000 * backward:.3f}"]
    return [*times, f"{flops:.1f}" if flops else "", *([f"{moved:.1f}", f"{limit:.0f}"] if moved else ["", ""])]


def _measure(net: "Net", iterations: int) -> list[_Step]:
    """The steps of the net; a first pass, which compiles and makes the diffs, is not counted."""
    from blobnet import roofline
    from blobnet.kernels import parallel

    net.forward_backward()
    steps = {}
    for indices in net.steps:
        work = [roofline.forward(net, indices)]
        work += [roofline.backward(net, indices)] if net.layer_need_backward[indices[-1]] else []
        steps[indices] = _Step(net.layers[indices.start : indices.stop], work)
    for _ in range(iterations):
        for indices, step in steps.items():
            with parallel.observed(step.observe):
                step.forward += _seconds(net.forward_from_to, indices[0], indices[-1]) / iterations
        for indices, step in reversed(steps.items()):
            with parallel.observed(step.observe):
                step.backward += _seconds(net.backward_from_to, indices[-1], indices[0]) / iterations
    return list(steps.values())


def _seconds(run_layers: Callable[[int, int], object], first: int, last: int) -> float:
    start = perf_counter()
    run_layers(first, last)
    return perf_counter() - start


def _total(steps: list[_Step], machine: "Limits") -> list[str]:
    times = sum(step.forward for step in steps), sum(step.backward for step in steps)
    return ["Average pass", "", *_figures(*times, [part for step in steps for part in step.work], machine), ""]


def _print_table(rows: list[list[str]]) -> None:
    table = [list(_HEADER), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADER))]
    for row in table:
        cells = zip(_HEADER, row, widths, strict=True)
        aligned = (cell.ljust(width) if name in _TEXTS else cell.rjust(width) for name, cell, width in cells)
        print("  ".join(aligned).rstrip())
