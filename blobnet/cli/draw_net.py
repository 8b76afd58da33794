"""Draw the graph of a net, with the flags of Caffe's draw_net.py."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("net", metavar="NET", help="the net's prototxt")
    parser.add_argument("picture", metavar="PICTURE", help="the file to write: .png, .svg, .dot")
    help_text = "direction of the graph, in the formats that need Graphviz (default: LR)"
    parser.add_flag("rankdir", choices=["TB", "BT", "LR", "RL"], default="LR", help=help_text)
    parser.add_flag(
        "phase", choices=["ALL", "TRAIN", "TEST"], default="ALL", help="the layers of a phase (default: ALL)"
    )
    parser.add_switch("display_lrm", help="show learning rate multipliers, in the formats that need Graphviz")


def run(args: argparse.Namespace) -> None:
    from blobnet.proto import blobnet_pb2 as pb
    from blobnet.tools import draw_net

    phase = None if args.phase == "ALL" else pb.Phase.Value(args.phase)
    draw_net.draw_net(args.net, args.picture, rankdir=args.rankdir, phase=phase, display_lrm=args.display_lrm)
