"""Runs cases in child processes under limits of time and memory, and counts how they end."""

import contextlib
import itertools
import multiprocessing
import os
import random
import resource
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from blobnet.errors import BlobnetError
from tests.fuzz.mutation import mutate
from tests.fuzz.targets import TARGETS, Case, Target

SECONDS = 10
ADDRESS_SPACE = 2 << 30  # beyond what the process has when it starts
READ, REFUSED, HANGS = "read", "refused", f"hangs\nmore than {SECONDS} s"
_WARM_UPS = 2  # throws of the dice, with either outcome: what is made once, databases too, is made for both phases
_FIRST_SECONDS = 600  # for the seeds themselves, with which kernels may be compiled


@dataclass
class Report:
    """How the cases of a format ended; ``faults``: number of the case and what happened, all that is not allowed."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)

    def add(self, number: int, outcome: str) -> None:
        kind = outcome.partition("\n")[0]
        self.outcomes[kind] += 1
        if kind not in (READ, REFUSED):
            self.faults.append((number, outcome))


def make_case(name: str, seed: int, number: int, seeds: list[Case]) -> tuple[Case, random.Random]:
    """The files of a case, always the same for a format, a seed and a number."""
    dice = random.Random(f"{name} {seed} {number}")
    case = dict(dice.choice(seeds))
    victim = dice.choice(sorted(case))
    others = [other[victim] for other in seeds if victim in other]
    case[victim] = mutate(case[victim], dice, others, TARGETS[name].text)
    return case, dice


def run(name: str, count: int, seed: int = 0, first: int = 0) -> Report:
    """Run cases ``first`` to ``first + count``; a child that dies or hangs is replaced by a new one.

    A case hangs only if it does so twice: the first time, the machine may have been busy or asleep.
    """
    report = Report()
    number, hung = first, -1
    while number < first + count:
        for done, outcome in _run_child(name, seed, number, first + count):
            if outcome == HANGS and done != hung:
                hung = number = done
                break
            report.add(done, outcome)
            number = done + 1
    return report


def _run_child(name: str, seed: int, first: int, last: int) -> Iterator[tuple[int, str]]:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(name, seed, first, last, sender))
    child.start()
    sender.close()
    try:
        if not receiver.poll(_FIRST_SECONDS) or receiver.recv() is not None:
            raise RuntimeError(f"the seeds of {name} cannot be read")
        for number in range(first, last):
            try:
                if not receiver.poll(SECONDS):
                    yield number, HANGS
                    return
                yield number, receiver.recv()
            except EOFError:
                child.join()
                yield number, f"dies\nexit code {child.exitcode}"
                return
    finally:
        child.kill()
        child.join()
        receiver.close()


def _work(name: str, seed: int, first: int, last: int, sender) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)  # libraries complain there
        os.chdir(folder)
        for case, throw in itertools.product(seeds, range(_WARM_UPS)):
            with contextlib.suppress(BlobnetError):
                _read(target, case, Path(folder), random.Random(throw))
        resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + ADDRESS_SPACE,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sender.send(None)
        for number in range(first, last):
            case, dice = make_case(name, seed, number, seeds)
            sender.send(_outcome(target, case, Path(folder), dice))


def _outcome(target: Target, case: Case, folder: Path, dice: random.Random) -> str:
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    try:
        _read(target, case, folder, dice)
        outcome = READ
    except BlobnetError:
        outcome = REFUSED
    except BaseException:
        trace = traceback.format_exc()
        return f"{trace.splitlines()[-1].partition(':')[0]}\n{trace}"
    taken, allowed = _status("VmHWM") - before, target.allowance + 4 * sum(map(len, case.values()))
    return outcome if taken <= allowed else f"memory\n{taken} bytes taken, {allowed} allowed ({outcome})"


def _read(target: Target, case: Case, folder: Path, dice: random.Random) -> None:
    for name, content in case.items():
        (folder / name).write_bytes(content)
    target.read(folder, dice)


def _status(name: str) -> int:
    """A figure of this process's memory in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise KeyError(name)
