"""Run Python as usual, but for `import caffe`: that gives blobnet."""

import argparse
import os
import sys
from pathlib import Path

from blobnet.cli import flags

STARTUP = Path(__file__).parent / "startup"


def add_flags(parser: flags.Parser) -> None:
    help_text = "what python takes: a script with its arguments, -m MODULE ..., -c CODE ..., or nothing"
    parser.add_rest("arguments", help=help_text)


def run(args: argparse.Namespace) -> None:
    folders = [str(STARTUP), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    os.execve(sys.executable, [sys.executable, *args.arguments], environment)
