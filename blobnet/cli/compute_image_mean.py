"""Compute the mean image of a database."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("database", metavar="INPUT_DB", help="the database folder")
    parser.add_argument("output", nargs="?", metavar="OUTPUT_FILE", help="the binaryproto to write")
    flags.add_backend(parser)
    flags.add_max_memory(parser)


def run(args: argparse.Namespace) -> None:
    from blobnet.cli import log
    from blobnet.tools import compute_image_mean

    with log.shown():
        compute_image_mean.compute(**vars(args))
