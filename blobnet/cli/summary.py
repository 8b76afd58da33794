"""Describe a net: outputs, parameters, multiply-adds, receptive fields and memory, layer by layer."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("net", metavar="NET", help="the net's prototxt")
    parser.add_flag("phase", choices=["TRAIN", "TEST"], default="TEST", help="phase of the net (default: TEST)")
    help_text = "first extent of the inputs (default: 1; as written where that does not fit, and in recurrent nets)"
    parser.add_flag("batch", type=flags.count, metavar="N", help=help_text)
    help_text = "shape of a blob whose data layer cannot tell, its source being elsewhere, such as data=10x3x32x32"
    parser.add_flag("input", type=_named_shape, action="append", default=[], metavar="NAME=SHAPE", help=help_text)
    flags.add_state(parser)
    flags.add_modules(parser)
    flags.add_limits(parser)


def run(args: argparse.Namespace) -> None:
    from blobnet import summary
    from blobnet.proto import blobnet_pb2 as pb

    flags.import_modules(args)
    found = summary.summarize(
        args.net,
        getattr(pb, args.phase),
        batch=args.batch,
        inputs=dict(args.input),
        level=args.level or 0,
        stages=args.stage,
        allowed_modules=args.allow_python,
        untrusted=args.untrusted,
    )
    for line in (*found.notes, *summary.table(found)):
        print(line)


def _named_shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, shape = text.partition("=")
    extents = shape.split("x")
    if not name or not all(extent.isdecimal() and int(extent) for extent in extents):
        raise argparse.ArgumentTypeError(f"a blob and its shape are needed, such as data=10x3x32x32; got {text!r}")
    return name, tuple(map(int, extents))
