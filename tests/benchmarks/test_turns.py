"""Engines in processes of their own, and what their times are made into."""

import os

import pytest

from benchmarks import turns


class Counting:
    """An engine that counts its runs."""

    def __init__(self, start):
        self.count = start

    def run(self, task):
        if task == "fail":
            raise ValueError("the task fails")
        self.count += 1

    def process(self):
        return os.getpid()


@pytest.fixture
def workers():
    made = [turns.Worker(name, threads=1) for name in ("ours", "peer")]
    for worker in made:
        worker.hold(Counting, 10)
    yield made
    for worker in made:
        worker.close()


def test_a_race_warms_up_and_takes_turns(workers):
    times = turns.race(workers, "step", rounds=3, seconds=0)
    assert {name: len(laps) for name, laps in times.items()} == {"ours": 3, "peer": 3}
    assert all(lap > 0 for laps in times.values() for lap in laps)
    assert len({worker.call("process") for worker in workers} | {os.getpid()}) == 3
    assert all(worker.peak_memory() > 1 for worker in workers)


def test_a_fault_names_the_worker_and_what_happened(workers):
    with pytest.raises(RuntimeError, match="(?s)peer: Traceback.*ValueError: the task fails"):
        workers[1].lap("fail", 0)
    assert workers[1].lap("step", 0) > 0  # it goes on


def test_a_process_that_ends_is_told(workers):
    with pytest.raises(RuntimeError, match="the process of ours ended with code 7"):
        workers[0].hold(os._exit, 7)
    workers.pop(0)


def test_foreign_settings_do_not_reach_the_workers(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    monkeypatch.setenv("BLOBNET_NUM_THREADS", "9")
    worker = turns.Worker("ours", threads=3)
    worker.hold(dict)
    names = ("OPENBLAS_CORETYPE", "OMP_NUM_THREADS", "BLOBNET_NUM_THREADS")
    worker.hold(_Environment)
    assert [worker.call("variable", name) for name in names] == [None, "3", "3"]
    worker.close()


class _Environment:
    def variable(self, name):
        return os.environ.get(name)


def test_ratio_is_taken_round_by_round():
    assert turns.ratio([1.0, 2.0, 4.0], [2.0, 6.0, 4.0]) == (2.0, 1.0, 3.0)
    assert str(turns.ratio([2.0], [3.0])) == "1.50 (1.50 to 1.50)"


def test_the_better_peer_has_the_lower_median():
    times = {"ours": [1.0] * 3, "a": [3.0, 1.0, 9.0], "b": [2.0, 2.0, 9.0]}
    assert turns.best(times, ["a", "b"]) == "b"
