import gc
import threading
import time

import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.data.prefetch import Prefetcher


def count(position, batch):
    batch.data.reshape(2)
    batch.data.data[...] = position["batch"]
    return {"batch": position["batch"] + 1}


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "blobnet-prefetch"]


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert condition()


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    gc.collect()
    wait_until(lambda: not threads())


def take(prefetcher):
    batch = prefetcher.take()
    taken = batch.data.data.tolist(), batch.position
    prefetcher.give_back(batch)
    return taken


@pytest.mark.parametrize("depth", [1, 4])
def test_batches_come_in_order_with_the_position_behind_them(depth):
    prefetcher = Prefetcher(count, {"batch": 5}, depth, np.dtype(np.float32))
    for number in range(5, 30):
        assert take(prefetcher) == ([number, number], {"batch": number + 1})


def test_no_more_than_depth_batches_are_loaded_ahead():
    loaded = []

    def load(position, batch):
        loaded.append(position["batch"])
        return count(position, batch)

    prefetcher = Prefetcher(load, {"batch": 0}, 3, np.dtype(np.float32))
    wait_until(lambda: len(loaded) == 3)
    time.sleep(0.02)
    assert loaded == [0, 1, 2]
    take(prefetcher)
    wait_until(lambda: len(loaded) == 4)


@pytest.mark.parametrize("error", [BlobnetError("damaged"), MemoryError("no room"), SystemExit(3)])
def test_an_error_is_raised_where_its_batch_would_have_come_and_stays(error):
    def load(position, batch):
        if position["batch"] == 3:
            raise error
        return count(position, batch)

    prefetcher = Prefetcher(load, {"batch": 0}, 2, np.dtype(np.float32))
    assert [take(prefetcher)[0][0] for _ in range(3)] == [0, 1, 2]
    for _ in range(2):
        with pytest.raises(type(error)):
            prefetcher.take()
    wait_until(lambda: not threads())


def test_close_ends_the_thread_even_in_the_middle_of_a_batch():
    started = threading.Event()

    def load(position, batch):
        started.set()
        time.sleep(0.02)
        return count(position, batch)

    prefetcher = Prefetcher(load, {"batch": 0}, 4, np.dtype(np.float32))
    started.wait()
    prefetcher.close()
    assert not threads()


def test_the_thread_ends_with_its_owner():
    prefetcher = Prefetcher(count, {"batch": 0}, 2, np.dtype(np.float32))
    take(prefetcher)
    assert len(threads()) == 1
    del prefetcher
    gc.collect()
    wait_until(lambda: not threads())
