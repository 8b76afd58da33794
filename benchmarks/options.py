"""Arguments that the benchmarks share."""

import argparse

from benchmarks import nets
from blobnet import config


def add_nets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("nets", nargs="*", metavar="NET", help=f"of {', '.join(nets.BATCHES)} (default: all)")
    parser.set_defaults(nets=list(nets.BATCHES))


def add_measuring(parser: argparse.ArgumentParser, rounds: int, seconds: float) -> None:
    parser.add_argument("--threads", type=int, default=config.threads(), help="of each engine (default: all cores)")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"turns of each engine (default: {rounds})")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"of a turn (default: {seconds:g})")
