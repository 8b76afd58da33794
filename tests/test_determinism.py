"""The same seed gives the same bits on 1, 2 and 4 threads, from run to run and from process to process.

The largest nets of the zoo are left to ``python -m tests.determinism``, which takes all of them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import blobnet
from blobnet import config
from tests import determinism

ROOT = Path(__file__).resolve().parents[1]
LONG = {"preresnet18", "preresnet50", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"}
LONG |= {"alexnet", "caffenet", "googlenet", "vgg11", "vgg13", "vgg16", "vgg19"}


@pytest.fixture(autouse=True)
def own_threads():
    before = config.threads()
    yield
    config.set_threads(before)


@pytest.mark.parametrize("model", sorted(set(blobnet.zoo.names()) - LONG))
def test_same_bits_on_any_number_of_threads(model):
    assert len({determinism.digest(model, threads) for threads in determinism.THREADS}) == 1


def test_another_seed_gives_other_bits(monkeypatch):
    one = determinism.digest("lenet", 1)
    monkeypatch.setattr(determinism, "SEED", 2)
    assert determinism.digest("lenet", 1) != one


def in_another_process(model: str, **settings: str) -> str:
    command = [sys.executable, "-c", f"from tests import determinism; print(determinism.digest('{model}', 2))"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_same_bits_in_another_process():
    assert in_another_process("cifar10_full") == determinism.digest("cifar10_full", 1)


def test_same_bits_whether_kernels_are_compiled_or_loaded(tmp_path):
    compiled, loaded = (in_another_process("char_rnn", BLOBNET_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert compiled == loaded
