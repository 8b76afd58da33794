"""Score a model: the outputs of its test net, batch by batch and on average."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_flag("model", needed=True, metavar="FILE", help="the net's prototxt")
    parser.add_flag("weights", needed=True, metavar="FILE,...", help="the caffemodels to score")
    parser.add_flag("iterations", type=flags.count, default=50, metavar="N", help="batches to run (default: 50)")
    flags.add_net(parser)


def run(args: argparse.Namespace) -> None:
    from blobnet.cli import events, log
    from blobnet.cli.compiling import announced
    from blobnet.solvers import scoring

    with log.shown(), announced():
        net = flags.build_net(args, "TEST")
        net.freeze()
        means = scoring.Means()
        for batch in range(args.iterations):
            means.add(net, net.forward_from_to(0, len(net.layers) - 1), weight=1)
            for output in scoring.outputs(net, {name: net.blobs[name].data for name in net.outputs}):
                print(f"Batch {batch}, {output.name} = {output.value:g}")
    result = means.result(net, with_loss=True)
    print(f"Loss: {result.loss:g}")
    for output in result.outputs:
        print(events.describe_output(output))
