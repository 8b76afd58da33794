"""Draw the graph of a net, as SVG, PNG or dot."""

import argparse
from pathlib import Path

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("net", metavar="NET", help="the net's prototxt")
    help_text = "the file to write: NAME.svg, NAME.png or NAME.dot (default: NET with the extension .svg)"
    parser.add_argument("picture", nargs="?", metavar="PICTURE", help=help_text)
    parser.add_flag("phase", choices=["TRAIN", "TEST"], default="TEST", help="phase of the net (default: TEST)")
    flags.add_state(parser)


def run(args: argparse.Namespace) -> None:
    from blobnet.proto import blobnet_pb2 as pb
    from blobnet.tools import draw

    picture = args.picture or Path(args.net).with_suffix(".svg")
    draw.draw(args.net, picture, pb.Phase.Value(args.phase), level=args.level or 0, stages=args.stage)
    print(f"Wrote {picture}")
