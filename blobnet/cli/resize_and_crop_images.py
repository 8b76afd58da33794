"""Resize images to one short side and cut out the square in their middle."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_flag("input_folder", needed=True, metavar="DIR", help="the folder of the images")
    parser.add_flag("output_folder", needed=True, metavar="DIR", help="the folder to write them to, as in the former")
    parser.add_flag("output_side_length", type=flags.count, default=256, metavar="N", help="side (default: 256)")
    parser.add_flag("input", metavar="FILE", help="a list of the images, one a line (default: all of the folder)")
    help_text = "how to resize: as OpenCV does, or smoothly (default: opencv)"
    parser.add_flag("image_lib", type=str.lower, choices=["opencv", "pil"], default="opencv", help=help_text)
    flags.add_max_memory(parser)


def run(args: argparse.Namespace) -> None:
    from blobnet.cli import log
    from blobnet.tools import resize_and_crop_images

    with log.shown():
        resize_and_crop_images.resize_and_crop(
            args.input_folder,
            args.output_folder,
            args.output_side_length,
            list_file=args.input,
            smooth=args.image_lib == "pil",
        )
