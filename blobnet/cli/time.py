"""Benchmark a model: milliseconds of each layer, forward and backward."""

import argparse
from collections.abc import Callable
from time import perf_counter

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_flag("model", needed=True, metavar="FILE", help="the net's prototxt")
    parser.add_flag("weights", metavar="FILE,...", help="caffemodels to load first")
    parser.add_flag("iterations", type=flags.count, default=50, metavar="N", help="passes to average (default: 50)")
    parser.add_flag("phase", choices=["TRAIN", "TEST"], default="TRAIN", help="phase of the net (default: TRAIN)")
    flags.add_state(parser)
    flags.add_device(parser)
    flags.add_modules(parser)


def run(args: argparse.Namespace) -> None:
    from blobnet.cli import log
    from blobnet.cli.compiling import announced

    with log.shown(), announced():
        net = flags.build_net(args, args.phase)
        if args.weights:
            net.copy_trained_layers_from(args.weights)
        last = len(net.layers) - 1
        net.forward_from_to(0, last)
        net.backward_from_to(last, 0)
        forward, backward = [0.0] * (last + 1), [0.0] * (last + 1)
        for _ in range(args.iterations):
            for index in range(last + 1):
                forward[index] += _seconds(net.forward_from_to, index)
            for index in range(last, -1, -1):
                backward[index] += _seconds(net.backward_from_to, index)
    rows = [
        (layer.name, layer.type, seconds[0], seconds[1])
        for layer, *seconds in zip(net.layers, forward, backward, strict=True)
    ]
    _print_table([*rows, ("Average pass", "", sum(forward), sum(backward))], args.iterations)


def _seconds(run_layers: Callable[[int, int], object], index: int) -> float:
    start = perf_counter()
    run_layers(index, index)
    return perf_counter() - start


def _print_table(rows: list[tuple[str, str, float, float]], iterations: int) -> None:
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    print(f"Average time per layer over {iterations} iterations, in milliseconds:")
    print(f"{'layer':<{widths[0]}}  {'type':<{widths[1]}}  {'forward':>10}  {'backward':>10}")
    for name, type_name, *seconds in rows:
        forward, backward = (1000 * total / iterations for total in seconds)
        print(f"{name:<{widths[0]}}  {type_name:<{widths[1]}}  {forward:10.3f}  {backward:10.3f}")
