"""Draw loss, accuracy or learning rate of training logs over iterations or seconds (PNG, SVG)."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    chart_types = (
        "0: test accuracy over iterations; 1: over seconds; 2, 3: test loss; 4, 5: learning rate; 6, 7: training loss"
    )
    parser.add_argument("chart_type", type=int, choices=range(8), metavar="CHART_TYPE", help=chart_types)
    parser.add_argument("picture", metavar="PICTURE", help="the file to write: .png, .svg or .pdf")
    parser.add_argument("logs", nargs="+", metavar="LOGFILE", help="the logs, Caffe's or our own")


def run(args: argparse.Namespace) -> None:
    from blobnet.tools import plot_training_log

    plot_training_log.plot(args.chart_type, args.picture, args.logs)
