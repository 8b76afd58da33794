import multiprocessing
import threading
from typing import NamedTuple

import numpy as np
import pytest

from blobnet import config
from blobnet.kernels import parallel, region
from blobnet.kernels._jit import _Dispatcher, jit
from blobnet.kernels.parallel import (
    Obstacle,
    Region,
    Regions,
    observed,
    parallel_for,
    record,
    rehearsed,
    repeated,
    scratch,
    succeeds,
)


@pytest.fixture(autouse=True)
def four_threads():
    before = config.threads()
    config.set_threads(4)
    yield
    config.set_threads(before)


@jit(cache=False)
def mark(start, stop, owner):
    for item in range(start, stop):
        owner[item] += 1


@jit(cache=False)
def note_start(start, stop, starts):
    starts[start:stop] = start


@jit(cache=False)
def note_row(start, stop, rows, row):
    for _ in range(1000):  # long enough for other threads to come
        row[0] = start
    rows[start:stop] = row.ctypes.data + (0 if row[0] == start else 1)


class Span(NamedTuple):
    first: int
    last: int


class Line(NamedTuple):
    slope: np.ndarray
    shift: float


@jit(cache=False)
def draw_line(start, stop, y, span: Span, line: Line):
    for i in range(max(start, span.first), min(stop, span.last)):
        y[i] = i * line.slope[0] + line.shift


@jit
def expect_less(start, stop, values, limit):
    for item in range(start, stop):
        if values[item] >= limit:
            raise ValueError


@pytest.mark.parametrize(("count", "grain"), [(0, 1), (1, 1), (3, 1), (17, 4), (1000, 7), (5, 100), (1 << 20, 1)])
def test_every_item_is_handled_once(count, grain):
    owner = np.zeros(count, int)
    parallel_for(mark, count, owner, grain=grain)
    assert (owner == 1).all()


@pytest.mark.parametrize("threads", [1, 4])
def test_a_kernel_reads_named_tuples_by_the_names_it_is_annotated_with(threads):
    config.set_threads(threads)
    y = np.zeros(100)
    parallel_for(draw_line, 100, y, Span(3, 90), Line(np.array([2.0]), 0.5))
    expected = [2 * i + 0.5 if 3 <= i < 90 else 0 for i in range(100)]
    np.testing.assert_array_equal(y, expected)


def test_parts_begin_at_whole_grains():
    starts = np.empty(100, int)
    parallel_for(note_start, 100, starts, grain=8)
    assert len(set(starts)) > 1 and all(start % 8 == 0 for start in starts)


@pytest.mark.parametrize(("parts", "blocks"), [(1, 1), (1, 9), (3, 3), (8, 8), (8, 9), (8, 11), (8, 640), (64, 1000)])
def test_later_parts_are_smaller_but_none_is_empty(parts, blocks):
    starts = [region.first_block(part, parts, blocks) for part in range(parts + 1)]
    sizes = np.diff(starts)
    assert (starts[0], starts[-1]) == (0, blocks)
    assert sizes.min() >= 1
    assert np.diff(sizes).max(initial=0) <= 1  # but for rounding
    assert sizes[-1] == 1 + (blocks - parts) // parts**2 <= sizes[0]


def test_a_thread_has_a_row_of_scratch_to_itself():
    work, rows = scratch(5, np.float32), np.zeros(256, np.int64)
    for _ in range(50):
        parallel_for(note_row, 256, rows, scratch=work)
        assert set(rows) <= {row.ctypes.data for row in work}


def test_fewer_threads_than_before_keep_to_their_rows():
    for threads in (4, 2, 4, 1, 3):
        config.set_threads(threads)
        work, rows = scratch(5, np.float32), np.zeros(64, np.int64)
        parallel_for(note_row, 64, rows, scratch=work)
        assert set(rows) <= {row.ctypes.data for row in work}


def test_a_kernel_that_raises_where_it_may_not_is_an_error():
    with pytest.raises(RuntimeError, match="expect_less failed"):
        parallel_for(expect_less, 4, np.arange(4.0), 2.0)
    owner = np.zeros(4, int)
    parallel_for(mark, 4, owner)  # and the pool goes on
    assert (owner == 1).all()


def test_threads_do_not_wait_at_work_for_a_kernel_that_is_compiled(monkeypatch):
    @jit(cache=False)
    def fill(start, stop, owner):
        owner[start:stop] = 1

    parallel_for(mark, 64, np.zeros(64, int))
    taken, compile_kernel = [], _Dispatcher.compile

    def compile_and_look(self, signature):
        taken.append(parallel._board()[region.TAKEN])
        return compile_kernel(self, signature)

    monkeypatch.setattr(_Dispatcher, "compile", compile_and_look)
    owner = np.zeros(64, int)
    parallel_for(fill, 64, owner)
    assert taken == [0]
    assert (owner == 1).all()


def test_what_is_not_compiled_runs_where_it_is_called():
    calls = []
    parallel_for(lambda start, stop, *rows: calls.append((start, stop, len(rows))), 8, scratch=scratch(5, np.float32))
    assert calls == [(0, 8, 1)]


def test_regions_of_several_threads_do_not_meet():
    def work(results):
        for _ in range(200):
            owner = np.zeros(64, int)
            parallel_for(mark, 64, owner)
            results.append((owner == 1).all())

    results: list[bool] = []
    threads = [threading.Thread(target=work, args=(results,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 600 and all(results)


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


def test_what_is_recorded_runs_again():
    owner, other = np.zeros(16), np.zeros(3)

    def run():
        parallel_for(mark, 16, owner)
        assert succeeds(expect_less, len(owner), owner, 3)
        parallel_for(mark, 3, other)

    regions = Regions(record(run))
    parallel_for(mark, 16, np.zeros(16))
    assert owner.tolist() == [1] * 16 and other.tolist() == [1] * 3
    assert regions.run() == 3
    assert owner.tolist() == [2] * 16 and other.tolist() == [2] * 3
    assert regions.run() == 1  # the second does not succeed any longer
    assert owner.tolist() == [3] * 16 and other.tolist() == [2] * 3


def test_what_is_repeated_between_regions_is_recorded_in_its_place():
    owner = np.zeros(4, int)

    def run():
        parallel_for(mark, 4, owner)
        repeated(np.multiply, owner, 10, out=owner)
        parallel_for(mark, 4, owner)
        repeated(print, end="", in_order=False)

    first, call, second, later = record(run)
    assert owner.tolist() == [11] * 4
    assert isinstance(first, Region) and isinstance(second, Region)
    assert call.in_order and not later.in_order
    call.function()
    assert owner.tolist() == [110] * 4


def test_a_repeated_kernel_that_raises_where_it_may_not_is_an_error():
    values = np.zeros(4)
    regions = Regions(record(lambda: parallel_for(expect_less, 4, values, 2.0)))
    assert regions.run() == 1
    values[3] = 2
    with pytest.raises(RuntimeError, match="expect_less failed"):
        regions.run()


def test_repeated_regions_run_alone_where_another_thread_runs_one():
    owner = np.zeros(64, int)
    regions = Regions(record(lambda: parallel_for(mark, 64, owner)))
    with parallel._busy:
        assert regions.run() == 1
    assert owner.tolist() == [2] * 64


def test_what_speaks_against_running_again():
    def run_rehearsed():
        with rehearsed():
            parallel_for(mark, 4, np.zeros(4))

    assert record(lambda: parallel_for(lambda start, stop, owner: None, 4, np.zeros(4))) == [Obstacle.PYTHON]
    assert record(run_rehearsed) == [Obstacle.PYTHON]
    assert record(lambda: succeeds(expect_less, 1, np.zeros(1), 0))[1:] == [Obstacle.VALUES]
    assert record(lambda: None) == []
