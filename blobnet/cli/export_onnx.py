"""Write a net and its weights as an ONNX model, for other runtimes."""

import argparse
from pathlib import Path

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("net", metavar="NET", help="the deploy prototxt")
    parser.add_argument("weights", metavar="WEIGHTS", help="the caffemodel, HDF5 or safetensors file")
    help_text = "the file to write (default: WEIGHTS with the extension .onnx)"
    parser.add_argument("output", nargs="?", metavar="OUTPUT", help=help_text)
    parser.add_switch("dynamic-batch", help="leave the batch, the inputs' first extent, open")


def run(args: argparse.Namespace) -> None:
    from blobnet.cli import log
    from blobnet.io import onnx

    with log.shown():
        output = args.output or Path(args.weights).with_suffix(".onnx")
        onnx.export(args.net, args.weights, output, args.dynamic_batch)
    print(f"Wrote {output}")
