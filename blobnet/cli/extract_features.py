"""Write what blobs of a trained net hold, image by image, into databases."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("weights", metavar="WEIGHTS", help="the caffemodel")
    parser.add_argument("model", metavar="NET", help="the net's prototxt, with a data layer")
    parser.add_argument("blobs", type=flags.comma_list, metavar="BLOB,...", help="blobs to extract")
    parser.add_argument("databases", type=flags.comma_list, metavar="DB,...", help="the database folders to make")
    parser.add_argument("batches", type=flags.count, metavar="BATCHES", help="batches to run")
    parser.add_argument("backend", choices=flags.BACKENDS, help="kind of database")
    parser.add_argument("mode", nargs="?", choices=["CPU", "GPU"], help="accepted for Caffe's sake; the CPU runs")
    parser.add_argument("device", nargs="?", metavar="DEVICE_ID=0", help="accepted for Caffe's sake")
    flags.add_max_memory(parser)


def run(args: argparse.Namespace) -> None:
    from blobnet.cli import log
    from blobnet.tools import extract_features

    with log.shown():
        extract_features.extract(
            args.weights, args.model, args.blobs, args.databases, args.batches, backend=args.backend
        )
