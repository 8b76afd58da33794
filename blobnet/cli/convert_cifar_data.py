"""Pack the binary files of CIFAR-10 into databases."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("folder", metavar="INPUT_FOLDER", help="the folder of the .bin files")
    parser.add_argument("output", metavar="OUTPUT_FOLDER", help="where the databases come to lie")
    parser.add_argument("backend", metavar="DB_TYPE", choices=flags.BACKENDS, help="kind of database")


def run(args: argparse.Namespace) -> None:
    from blobnet.tools import convert_cifar_data

    for path in convert_cifar_data.convert(**vars(args)):
        print(f"Wrote {path}")
