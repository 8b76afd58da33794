"""Fuzzes the readers for as long as wanted.

    python -m tests.fuzz [--format F] [--count N] [--seed S] [--first K] [--keep FOLDER]

Prints the outcomes of each format and every fault with its case; ``--keep`` writes the files of those cases.
"""

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz import harness
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--format", choices=sorted(TARGETS), action="append", help="default: every format")
    parser.add_argument("--count", type=int, default=1000, help="cases of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--keep", type=Path, help="folder for the files of cases that fail")
    args = parser.parse_args()
    faults = 0
    for name in args.format or TARGETS:
        start = time.monotonic()
        report = harness.run(name, args.count, args.seed, args.first)
        outcomes = ", ".join(f"{kind} {count}" for kind, count in report.outcomes.most_common())
        print(f"{name}: {outcomes} ({time.monotonic() - start:.0f} s)", flush=True)
        for number, text in report.faults:
            print(f"  case {number}: {text}")
            if args.keep:
                keep(name, args.seed, number, args.keep / f"{name}-{args.seed}-{number}")
        faults += len(report.faults)
    return 1 if faults else 0


def keep(name: str, seed: int, number: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    case, _ = harness.make_case(name, seed, number, TARGETS[name].seeds())
    for file, content in case.items():
        (folder / file).write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
