"""Rewrite trained weights in another format: caffemodel, HDF5 (.h5) or safetensors."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("source", metavar="INPUT", help="the weights to read, in any of the formats")
    help_text = "the file to write: .h5, .safetensors, or a caffemodel by any other name"
    parser.add_argument("target", metavar="OUTPUT", help=help_text)


def run(args: argparse.Namespace) -> None:
    from blobnet.cli import log
    from blobnet.io import weights

    with log.shown():
        layers = weights.read_weights(args.source)
        weights.write_weights(args.target, weights.read_net_name(args.source), list(layers.items()))
