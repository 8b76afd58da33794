"""The plan of buffers: what is never needed at the same time may lie in the same memory."""

from collections.abc import Sequence
from typing import NamedTuple


class Lifetime(NamedTuple):
    """An array of ``size`` elements that is needed from step ``first`` to step ``last``, both included."""

    size: int
    first: int
    last: int

    def meets(self, other: "Lifetime") -> bool:
        return self.first <= other.last and other.first <= self.last


def plan_buffers(lifetimes: Sequence[Lifetime]) -> list[list[int]]:
    """Groups of arrays, by index, that share a buffer as large as the largest of the group.

    Greedy by size: the largest arrays come first, and each joins the first group in which it meets no other. For
    the chains and branches of nets this comes close to the least memory (Pisarchyk and Lee 2020, section 5).
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lifetimes)), key=lambda index: -lifetimes[index].size):
        for group in groups:
            if not any(lifetimes[index].meets(lifetimes[member]) for member in group):
                group.append(index)
                break
        else:
            groups.append([index])
    return groups


def pair_by_size(sizes: Sequence[int], others: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs (index in sizes, index in others), largest with largest, while both last."""
    mine = sorted(range(len(sizes)), key=lambda index: -sizes[index])
    theirs = sorted(range(len(others)), key=lambda index: -others[index])
    return list(zip(mine, theirs, strict=False))
