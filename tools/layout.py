"""A place for every node of a graph that flows downwards, in layers; ``draw`` turns places into pictures.

Longest paths give the layers, sweeps by the mean of the neighbours the order within them and then the places
(Sugiyama, Tagawa and Toda 1981, Methods for visual understanding of hierarchical system structures).
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

_SWEEPS = 8
_BEND_WIDTH = 10.0


class Size(NamedTuple):
    width: float
    height: float


class Point(NamedTuple):
    x: float
    y: float


class Layout(NamedTuple):
    size: Size
    centres: list[Point]  # of the nodes
    bends: list[list[Point]]  # of the edges, on the layers that they pass


def layered(sizes: Sequence[Size], edges: Sequence[tuple[int, int]], gap: Size) -> Layout:
    """Places for nodes of these sizes. Every edge leads from a node to one with a higher number."""
    ranks = _longest_paths(len(sizes), edges)
    count = len(sizes)
    widths = [size.width for size in sizes]
    links: list[tuple[int, int]] = []
    chains: list[list[int]] = []
    for start, stop in edges:
        chain = list(range(len(widths), len(widths) + ranks[stop] - ranks[start] - 1))
        widths += [_BEND_WIDTH] * len(chain)
        ranks += range(ranks[start] + 1, ranks[stop])
        links += zip([start, *chain], [*chain, stop], strict=True)
        chains.append(chain)
    above: list[list[int]] = [[] for _ in widths]
    below: list[list[int]] = [[] for _ in widths]
    for start, stop in links:
        below[start].append(stop)
        above[stop].append(start)
    rows: list[list[int]] = [[] for _ in range(max(ranks, default=-1) + 1)]
    for node, rank in enumerate(ranks):
        rows[rank].append(node)
    _order(rows, above, below)
    xs = _spread(rows, above, below, widths, gap.width)
    heights = [max([sizes[node].height for node in row if node < count], default=0.0) for row in rows]
    tops = [sum(heights[:rank]) + rank * gap.height for rank in range(len(rows))]
    points = [Point(x, tops[rank] + heights[rank] / 2) for x, rank in zip(xs, ranks, strict=True)]
    size = Size(
        max((x + width / 2 for x, width in zip(xs, widths, strict=True)), default=0.0),
        sum(heights) + gap.height * max(len(rows) - 1, 0),
    )
    return Layout(size, points[:count], [[points[node] for node in chain] for chain in chains])


def _longest_paths(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    ranks = [0] * count
    for start, stop in sorted(edges):
        ranks[stop] = max(ranks[stop], ranks[start] + 1)
    return ranks


def _order(rows: list[list[int]], above: list[list[int]], below: list[list[int]]) -> None:
    """Sort each row by the mean place of its nodes' neighbours in the row before, downwards and upwards in turn."""
    places = {node: float(place) for row in rows for place, node in enumerate(row)}
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        neighbours = above if downwards else below
        for row in rows if downwards else reversed(rows):
            row.sort(key=lambda node: _mean([places[other] for other in neighbours[node]], places[node]))
            places.update((node, float(place)) for place, node in enumerate(row))


def _spread(
    rows: list[list[int]], above: list[list[int]], below: list[list[int]], widths: Sequence[float], gap: float
) -> list[float]:
    """The centres of all nodes along their rows: near the neighbours, in order, and never overlapping."""
    xs = [0.0] * len(widths)
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        neighbours = above if downwards else below
        for row in rows if downwards else reversed(rows):
            wanted = [_mean([xs[other] for other in neighbours[node]], xs[node]) for node in row]
            placed = _apart(wanted, [widths[node] for node in row], gap)
            for node, x in zip(row, placed, strict=True):
                xs[node] = x
    left = min((x - width / 2 for x, width in zip(xs, widths, strict=True)), default=0.0)
    return [x - left for x in xs]


def _apart(wanted: Sequence[float], widths: Sequence[float], gap: float) -> list[float]:
    """The places nearest to the wanted ones, by least squares, that keep order and distance.

    Neighbours that want the same place form a block around the mean of their wishes (pool adjacent violators).
    """
    least = list(accumulate(((a + b) / 2 + gap for a, b in pairwise(widths)), initial=0.0))
    blocks: list[list[float]] = []
    for x, distance in zip(wanted, least, strict=True):
        blocks.append([x - distance])
        while len(blocks) > 1 and _mean(blocks[-2], 0) > _mean(blocks[-1], 0):
            blocks[-2:] = [[*blocks[-2], *blocks[-1]]]
    starts = [_mean(block, 0) for block in blocks for _ in block]
    return [start + distance for start, distance in zip(starts, least, strict=True)]


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
