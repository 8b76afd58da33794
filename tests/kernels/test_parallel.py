import multiprocessing
import threading

import numpy as np
import pytest

from blobnet import config
from blobnet.kernels.parallel import observed, parallel_for, scratch


@pytest.fixture(autouse=True)
def four_threads():
    before = config.threads()
    config.set_threads(4)
    yield
    config.set_threads(before)


def mark(start, stop, owner):
    owner[start:stop] += 1


@pytest.mark.parametrize(("count", "grain"), [(1, 1), (3, 1), (17, 4), (1000, 7), (5, 100)])
def test_every_item_is_handled_once(count, grain):
    owner = np.zeros(count, int)
    parallel_for(mark, count, owner, grain=grain)
    assert (owner == 1).all()


def test_parts_begin_at_whole_grains():
    starts = []
    parallel_for(lambda start, stop: starts.append(start), 100, grain=8)
    assert len(starts) == 4 and all(start % 8 == 0 for start in starts)


def test_each_thread_has_a_row_of_scratch():
    rows = []
    parallel_for(lambda start, stop, row: rows.append(row.ctypes.data), 8, scratch=scratch(5, np.float32))
    assert len(set(rows)) == 4


@pytest.mark.parametrize("failing", [0, 3])
def test_an_exception_of_any_thread_reaches_the_caller(failing):
    def fail(start, stop):
        if start <= failing < stop:
            raise ZeroDivisionError(start)

    with pytest.raises(ZeroDivisionError):
        parallel_for(fail, 4)
    parallel_for(mark, 4, np.zeros(4))  # and the pool goes on


def test_a_call_from_within_or_beside_a_region_runs_alone():
    threads = set()

    def outer(start, stop):
        parallel_for(lambda *_: threads.add((start, threading.get_ident())), 8)

    parallel_for(outer, 4)
    assert len(threads) == 4


def _in_child(queue):
    owner = np.zeros(16, int)
    parallel_for(mark, 16, owner)
    queue.put(owner.tolist())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_threads_of_its_own():
    parallel_for(mark, 16, np.zeros(16))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=20) == [1] * 16
    child.join()


def test_an_observer_is_told_each_kernel_and_its_seconds():
    seen = []
    with observed(lambda kernel, seconds: seen.append((kernel, seconds))):
        parallel_for(mark, 4, np.zeros(4))
    parallel_for(mark, 4, np.zeros(4))
    assert [kernel for kernel, _ in seen] == [mark]
    assert seen[0][1] >= 0
