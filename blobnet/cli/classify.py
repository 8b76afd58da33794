"""Classify images with a trained net."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("input_file", metavar="INPUT", help="an image, a folder of images, or an .npy file of them")
    parser.add_argument("output_file", metavar="OUTPUT", help="the .npy file of predictions to write")
    flags.add_images(parser)
    parser.add_switch("center_only", help="take the middle of each image instead of ten crops")
    help_text = "size that images are resized to first (default: 256,256)"
    parser.add_flag("images_dim", type=flags.whole_numbers, default=[256, 256], metavar="HEIGHT,WIDTH", help=help_text)
    parser.add_flag("ext", default="jpg", metavar="EXTENSION", help="the images of a folder (default: jpg)")


def run(args: argparse.Namespace) -> None:
    from blobnet.cli import log
    from blobnet.tools import classify

    with log.shown():
        predictions = classify.classify(
            args.input_file,
            args.model_def,
            args.pretrained_model,
            center_only=args.center_only,
            image_dims=args.images_dim,
            extension=args.ext,
            **flags.image_options(args),
        )
        log.log.info("Saving results into %s", classify.save(args.output_file, predictions))
