"""A bounded run of every format, and the harness itself: it must see what it is there to see."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from blobnet import BlobnetError
from tests.fuzz import harness
from tests.fuzz.targets import TARGETS, Target

ROOT = Path(__file__).resolve().parents[2]


def test_mutated_files_are_read_or_refused():
    """In a process of its own, without the threads that other tests leave."""
    command = [sys.executable, "-m", "tests.fuzz", "--count", "250", "--seed", "99"]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    lines = outcome.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(TARGETS)
    assert all("refused" in line for line in lines)


def test_a_case_is_always_the_same():
    seeds = TARGETS["caffemodel"].seeds()
    first, second = (harness.make_case("caffemodel", 1, 2, seeds)[0] for _ in range(2))
    assert first == second


def refuse():
    raise BlobnetError("no")


def fail():
    raise KeyError("x")


def take_memory():
    np.ones(200 << 20, np.uint8).sum()


DEEDS = {
    "read": lambda: None,
    "refused": refuse,
    "KeyError": fail,
    "memory": take_memory,
    "dies": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hangs": lambda: time.sleep(60),
}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("outcome", DEEDS)
def test_the_harness_sees_what_happens_and_goes_on(monkeypatch, outcome):
    """The third of five cases does it; the seed does nothing."""
    calls = []

    def read(folder, dice):
        content = (folder / "file").read_bytes()
        calls.append(content)
        if content == b"case 2":
            DEEDS[outcome]()

    monkeypatch.setattr(harness, "SECONDS", 1)
    monkeypatch.setattr(harness, "make_case", lambda name, seed, number, seeds: ({"file": b"case %d" % number}, None))
    monkeypatch.setitem(TARGETS, "fake", Target(lambda: [{"file": b"seed"}], read, False, 64 << 20))
    report = harness.run("fake", 5)
    assert report.outcomes == ({"read": 5} if outcome == "read" else {"read": 4, outcome: 1})
    assert [number for number, _ in report.faults] == ([] if outcome in ("read", "refused") else [2])
