"""List the layers of a net: types, parameters' rates, bottoms, tops and windows."""

import argparse
import sys

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("net", metavar="NET", help="the net's prototxt")
    parser.add_argument(
        "-w", "--max-width", type=flags.count, default=30, metavar="N", help="width of a column at most"
    )


def run(args: argparse.Namespace) -> None:
    from blobnet.tools import summarize

    for line in summarize.table(summarize.read_net(args.net), args.max_width, sys.stdout.isatty()):
        print(line)
