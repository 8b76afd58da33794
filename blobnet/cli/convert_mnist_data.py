"""Pack MNIST's idx files into a database."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("images", metavar="IMAGE_FILE", help="the idx file of the images")
    parser.add_argument("labels", metavar="LABEL_FILE", help="the idx file of the labels")
    parser.add_argument("database", metavar="DB_NAME", help="the database folder to make")
    flags.add_backend(parser)


def run(args: argparse.Namespace) -> None:
    from blobnet.tools import convert_mnist_data

    count = convert_mnist_data.convert(**vars(args))
    print(f"A total of {count} items.")
