"""Draw loss, accuracy or learning rate of training logs over iterations or seconds (PNG, SVG)."""

import argparse

from blobnet.cli import flags

CURVES = "curves"


def add_flags(parser: flags.Parser) -> None:
    chart_types = (
        "0: test accuracy over iterations; 1: over seconds; 2, 3: test loss; 4, 5: learning rate; 6, 7: training loss; "
        "curves: losses and accuracy of one log side by side"
    )
    parser.add_argument("chart_type", choices=[*map(str, range(8)), CURVES], metavar="CHART_TYPE", help=chart_types)
    parser.add_argument("picture", metavar="PICTURE", help="the file to write: .png, .svg or .pdf")
    parser.add_argument("logs", nargs="+", metavar="LOGFILE", help="the logs, Caffe's or our own")


def run(args: argparse.Namespace) -> None:
    from blobnet.errors import BlobnetError
    from blobnet.tools import plot_training_log

    if args.chart_type != CURVES:
        plot_training_log.plot(int(args.chart_type), args.picture, args.logs)
    elif len(args.logs) == 1:
        plot_training_log.plot_curves(args.picture, args.logs[0])
    else:
        raise BlobnetError(f"{CURVES} shows one log; got {len(args.logs)}")
