"""Rewrite a caffemodel of any age in the current format."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("source", metavar="INPUT", help="the caffemodel to read")
    parser.add_argument("target", metavar="OUTPUT", help="the caffemodel to write")


def run(args: argparse.Namespace) -> None:
    from blobnet.cli import log
    from blobnet.tools import upgrade_net_proto_binary

    with log.shown():
        upgrade_net_proto_binary.upgrade(args.source, args.target)
