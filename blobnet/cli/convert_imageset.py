"""Pack the images of a list into a database for the Data layer."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("root", metavar="ROOTFOLDER/", help="what stands in front of each name of the list")
    parser.add_argument("list_file", metavar="LISTFILE", help="a line for each image: its name and its label")
    parser.add_argument("database", metavar="DB_NAME", help="the database folder to make")
    parser.add_switch("gray", help="one channel of grey instead of three of colour")
    parser.add_switch("shuffle", help="take the images in a random order")
    flags.add_backend(parser)
    parser.add_flag("resize_width", type=flags.extent, default=0, metavar="N", help="width to resize images to")
    parser.add_flag("resize_height", type=flags.extent, default=0, metavar="N", help="height to resize images to")
    parser.add_switch("check_size", help="images of different sizes are an error")
    parser.add_switch("encoded", help="store image files as they are instead of bare pixels")
    parser.add_flag("encode_type", default="", metavar="png|jpg|...", help="store image files of this format")
    flags.add_max_memory(parser)


def run(args: argparse.Namespace) -> None:
    from blobnet.cli import log
    from blobnet.tools import convert_imageset

    with log.shown():
        convert_imageset.convert(**vars(args))
