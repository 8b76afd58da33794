import pytest

from blobnet.data.passes import Rows, batches, rows_of_batch


@pytest.mark.parametrize(("size", "examples"), [(3, 10), (5, 10), (4, 3), (1, 1), (7, 7)])
def test_each_pass_holds_every_example_once_and_in_order(size, examples):
    per_pass = batches(size, examples)
    rows = [rows_of_batch(number, size, examples) for number in range(3 * per_pass)]
    seen = [first + i for first, length in rows for i in range(length)]
    assert seen == list(range(3 * examples))
    assert all(length <= size for _, length in rows)


def test_the_last_batch_of_a_pass_is_the_short_one():
    assert [rows_of_batch(number, 4, 10) for number in range(4)] == [Rows(0, 4), Rows(4, 4), Rows(8, 2), Rows(10, 4)]
