"""Work arrays: the same memory again, none of another thread's."""

import threading

import numpy as np

from blobnet.kernels.workspace import CACHE_LINE, MOST_ARRAYS, work_array


def test_a_use_gets_the_same_memory_again_and_more_when_it_needs_more():
    first = work_array("test", (3, 5), np.float32)
    first[...] = 7
    assert first.shape == (3, 5) and first.ctypes.data % CACHE_LINE == 0
    np.testing.assert_array_equal(work_array("test", (15,), np.float32), 7)
    assert np.shares_memory(work_array("test", (2,), np.float64), first)
    assert work_array("test", (100, 100), np.float32).shape == (100, 100)


def test_arrays_of_one_shape_are_the_same_and_those_of_many_are_not_all_kept():
    first = work_array("shapes", (3, 5), np.float32)
    assert work_array("shapes", (3, 5), np.float32) is first
    for extent in range(MOST_ARRAYS + 1):
        assert work_array("shapes", (1, extent), np.float32).shape == (1, extent)
    assert work_array("shapes", (3, 5), np.float32) is not first


def test_uses_and_threads_have_memory_of_their_own():
    here = work_array("test", (8,), np.float32)
    assert not np.shares_memory(here, work_array("another test", (8,), np.float32))
    there = []
    thread = threading.Thread(target=lambda: there.append(work_array("test", (8,), np.float32)))
    thread.start()
    thread.join()
    assert not np.shares_memory(here, there[0])
