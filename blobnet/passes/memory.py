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


def group_by_size(*sizes: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Groups of one member (list, index) from each list at most: the largest of each, the second largest, and so on."""
    ranked = [sorted(range(len(own)), key=own.__getitem__, reverse=True) for own in sizes]
    return [
        [(number, order[rank]) for number, order in enumerate(ranked) if rank < len(order)]
        for rank in range(max(map(len, ranked), default=0))
    ]
