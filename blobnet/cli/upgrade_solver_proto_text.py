"""Rewrite a solver's prototxt of any age in the current format."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("source", metavar="INPUT", help="the prototxt to read")
    parser.add_argument("target", metavar="OUTPUT", help="the prototxt to write")


def run(args: argparse.Namespace) -> None:
    from blobnet.cli import log
    from blobnet.tools import upgrade_solver_proto_text

    with log.shown():
        upgrade_solver_proto_text.upgrade(args.source, args.target)
