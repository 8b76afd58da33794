"""List all that is wrong or doubtful in nets and solvers, without training."""

import argparse

from blobnet.cli import flags
from blobnet.errors import BlobnetError


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="prototxts of nets and solvers")
    parser.add_switch("data", help="also read every example of the data that they name")
    flags.add_modules(parser)
    flags.add_limits(parser)


def run(args: argparse.Namespace) -> None:
    from blobnet import check
    from blobnet.check.findings import ERROR

    flags.import_modules(args)
    found = [
        finding for file in args.files for finding in check.check(file, args.data, args.untrusted, args.allow_python)
    ]
    for finding in found:
        print(finding)
    errors = sum(finding.severity == ERROR for finding in found)
    if errors:
        raise BlobnetError(f"{errors} errors, {len(found) - errors} warnings")
    print(f"no errors, {len(found)} warnings")
