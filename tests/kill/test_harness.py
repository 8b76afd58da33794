"""A few of the kills that ``python -m tests.kill.harness`` makes by the thousand, in a process of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_trainings_survive_kills():
    command = [sys.executable, "-m", "tests.kill.harness", "--kills", "40", "--seed", "5"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lost = re.match(r"40 kills survived, \d+ trainings ended .* at most (\d+) iterations lost", done.stdout)
    assert lost and int(lost[1]) <= 3
