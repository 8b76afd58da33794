"""Turn a training log, Caffe's or our own, into tables (CSV)."""

import argparse

from blobnet.cli import flags


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("log", metavar="LOGFILE", help="the log")
    parser.add_argument("folder", metavar="OUTPUT_DIR", help="where LOGFILE.train and LOGFILE.test are written")
    parser.add_switch("verbose", help="say what is written")
    parser.add_flag("delimiter", default=",", metavar="CHARACTER", help="what stands between columns (default: ,)")


def run(args: argparse.Namespace) -> None:
    from blobnet.tools import parse_log

    train, test = parse_log.parse_log(args.log)
    parse_log.save_csv_files(args.log, args.folder, train, test, args.delimiter, args.verbose)
