"""Draw the graph of a net, as SVG, PNG or dot."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("net", metavar="NET", help="the net's prototxt")
    parser.add_argument("picture", metavar="PICTURE", help="the file to write: NAME.svg, NAME.png or NAME.dot")
    parser.add_flag("phase", choices=["TRAIN", "TEST"], default="TEST", help="phase of the net (default: TEST)")
    flags.add_state(parser)


def run(args: argparse.Namespace) -> None:
    from blobnet.proto import blobnet_pb2 as pb
    from blobnet.tools import draw

    draw.draw(args.net, args.picture, pb.Phase.Value(args.phase), level=args.level or 0, stages=args.stage)
