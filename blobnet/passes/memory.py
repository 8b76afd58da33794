"""The plan of buffers: what is never needed at the same time may lie in the same memory."""

import bisect
import itertools
from collections.abc import Sequence
from typing import NamedTuple


class Lifetime(NamedTuple):
    """An array of ``size`` elements that is needed from step ``first`` to step ``last``, both included."""

    size: int
    first: int
    last: int


_MOST_GROUPS = 256  # that an array may try; more buffers at a time only nets of thousands of branches need


class _Group:
    """Arrays of which no two are needed at the same time, in the order of time."""

    def __init__(self) -> None:
        self.members: list[int] = []
        self._spans: list[tuple[int, int]] = []

    def take(self, index: int, lifetime: Lifetime) -> bool:
        """Let an array join unless it meets a member; returns whether it did."""
        span = (lifetime.first, lifetime.last)
        place = bisect.bisect(self._spans, span)
        if place and self._spans[place - 1][1] >= lifetime.first:
            return False
        if place < len(self._spans) and self._spans[place][0] <= lifetime.last:
            return False
        self._spans.insert(place, span)
        self.members.append(index)
        return True


def plan_buffers(lifetimes: Sequence[Lifetime]) -> list[list[int]]:
    """Groups of arrays, by index, that share a buffer as large as the largest of the group.

    Greedy by size: the largest arrays come first, and each joins the first group in which it meets no other. For
    the chains and branches of nets this comes close to the least memory (Pisarchyk and Lee 2020, section 5).
    """
    groups: list[_Group] = []
    for index in sorted(range(len(lifetimes)), key=lambda index: -lifetimes[index].size):
        if not any(group.take(index, lifetimes[index]) for group in itertools.islice(groups, _MOST_GROUPS)):
            groups.append(_Group())
            groups[-1].take(index, lifetimes[index])
    return [group.members for group in groups]


def group_by_size(*sizes: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Groups of one member (list, index) from each list at most: the largest of each, the second largest, and so on."""
    ranked = [sorted(range(len(own)), key=own.__getitem__, reverse=True) for own in sizes]
    return [
        [(number, order[rank]) for number, order in enumerate(ranked) if rank < len(order)]
        for rank in range(max(map(len, ranked), default=0))
    ]
