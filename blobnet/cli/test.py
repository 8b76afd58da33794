"""Score a model: the outputs of its test net, batch by batch and on average."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_flag("model", needed=True, metavar="FILE", help="the net's prototxt")
    parser.add_flag("weights", needed=True, metavar="FILE,...", help="the caffemodels to score")
    parser.add_flag("iterations", type=flags.count, default=50, metavar="N", help="batches to run (default: 50)")
    flags.add_net(parser)


def run(args: argparse.Namespace) -> None:
    import numpy as np

    from blobnet.cli import events, log
    from blobnet.cli.compiling import announced
    from blobnet.solvers.callbacks import Output

    with log.shown(), announced():
        net = flags.build_net(args, "TEST")
        net.freeze()
        total_loss, totals = 0.0, {name: np.zeros(net.blobs[name].count) for name in net.outputs}
        for batch in range(args.iterations):
            total_loss += net.forward_from_to(0, len(net.layers) - 1)
            for name, total in totals.items():
                values = net.blobs[name].data.ravel()
                total += values
                for value in values:
                    print(f"Batch {batch}, {name} = {value:g}")
    print(f"Loss: {total_loss / args.iterations:g}")
    for name, total in totals.items():
        for index, value in enumerate(total / args.iterations):
            print(events.describe_output(Output(name, index, value, net.loss_weights.get(name, 0.0))))
