"""The line about compiling: once, and only when something is compiled."""

import numba

from blobnet.cli.compiling import announced


def test_one_line_for_any_number_of_kernels(caplog):
    caplog.set_level("INFO", "blobnet")
    twice, thrice = numba.njit(lambda x: 2 * x), numba.njit(lambda x: 3 * x)
    with announced():
        assert caplog.records == []
        twice(1)
        thrice(1)
    assert [record.message.partition(" (")[0] for record in caplog.records] == ["Compiling kernels for this processor"]


def test_nothing_is_said_of_what_is_compiled_already(caplog):
    caplog.set_level("INFO", "blobnet")
    twice = numba.njit(lambda x: 2 * x)
    twice(1)
    with announced():
        twice(2)
    assert caplog.records == []
