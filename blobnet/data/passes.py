"""Passes: where the batches of a data set lie when every pass over it ends with its last example."""

from typing import NamedTuple


class Rows(NamedTuple):
    """The examples of a batch: the first one, counted from the start of training on, and how many."""

    first: int
    length: int


def rows_of_batch(number: int, size: int, examples: int) -> Rows:
    """The examples of batch ``number``; the last batch of a pass is short where ``size`` does not divide it."""
    passes, index = divmod(number, batches(size, examples))
    first = index * size
    return Rows(passes * examples + first, min(size, examples - first))


def batches(size: int, examples: int) -> int:
    """How many batches of at most ``size`` a pass takes."""
    return -(-examples // size)
