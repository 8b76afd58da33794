"""Classify windows of images with a trained net."""

import argparse

from blobnet.cli import flags
from blobnet.errors import BlobnetError


def add_flags(parser: flags.Parser) -> None:
    help_text = "a CSV file with the columns filename, ymin, xmin, ymax, xmax"
    parser.add_argument("input_file", metavar="INPUT", help=help_text)
    parser.add_argument("output_file", metavar="OUTPUT", help="the .csv or .h5 file of predictions to write")
    flags.add_images(parser)
    help_text = "list: the windows of INPUT, the only mode there is (default: list)"
    parser.add_flag("crop_mode", choices=["list", "selective_search"], default="list", help=help_text)
    help_text = "pixels around each window that show what surrounds it (default: 16)"
    parser.add_flag("context_pad", type=flags.extent, default=16, metavar="N", help=help_text)


def run(args: argparse.Namespace) -> None:
    from blobnet.cli import log
    from blobnet.tools import detect

    if args.crop_mode != "list":
        raise BlobnetError("selective search needs MATLAB: list the windows in a CSV file, with --crop_mode=list")
    with log.shown():
        detections = detect.detect(
            args.input_file,
            args.model_def,
            args.pretrained_model,
            context_pad=args.context_pad,
            **flags.image_options(args),
        )
        detect.save(args.output_file, detections)
        log.log.info("Saved %d windows to %s", len(detections), args.output_file)
