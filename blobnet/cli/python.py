"""Run a pycaffe script as it is: its `import caffe` gives blobnet."""

import argparse
import os
import runpy
import sys
import traceback

from blobnet.cli import flags
from blobnet.errors import BlobnetError


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("script", help="the script to run")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the script gets as its arguments")


def run(args: argparse.Namespace) -> None:
    from blobnet import pycaffe
    from blobnet.cli import log

    if not os.path.isfile(args.script):
        raise BlobnetError("there is no such script", file=args.script)
    pycaffe.install()
    sys.argv[:] = [args.script, *args.arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(args.script)))
    with log.shown():
        try:
            runpy.run_path(args.script, run_name="__main__")
        except Exception as error:
            traceback.print_exception(error)
            sys.exit(1)
