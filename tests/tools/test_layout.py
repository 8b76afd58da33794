"""Layouts: nothing overlaps, everything flows down, nothing stands off without a reason."""

import itertools

import numpy as np
import pytest

from blobnet.tools import layout
from blobnet.tools.layout import Point, Size

GAP = Size(10, 20)


def random_graph(seed: int):
    generator = np.random.default_rng(seed)
    count = int(generator.integers(2, 25))
    sizes = [Size(*generator.uniform(5, 60, 2)) for _ in range(count)]
    pairs = [(a, b) for a, b in itertools.combinations(range(count), 2) if generator.random() < 0.15]
    return sizes, pairs


def overlap(a: Point, size_a: Size, b: Point, size_b: Size) -> bool:
    apart_x = abs(a.x - b.x) >= (size_a.width + size_b.width) / 2 - 1e-9
    apart_y = abs(a.y - b.y) >= (size_a.height + size_b.height) / 2 - 1e-9
    return not (apart_x or apart_y)


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs(seed):
    sizes, edges = random_graph(seed)
    found = layout.layered(sizes, edges, GAP)
    places = list(zip(found.centres, sizes, strict=True))
    for (a, size_a), (b, size_b) in itertools.combinations(places, 2):
        assert not overlap(a, size_a, b, size_b)
    for centre, size in places:
        assert centre.x - size.width / 2 >= -1e-9 and centre.x + size.width / 2 <= found.size.width + 1e-9
        assert centre.y - size.height / 2 >= -1e-9 and centre.y + size.height / 2 <= found.size.height + 1e-9
    for (start, stop), bends in zip(edges, found.bends, strict=True):
        ys = [found.centres[start].y, *(bend.y for bend in bends), found.centres[stop].y]
        assert ys == sorted(ys) and len(set(ys)) == len(ys)
        for bend, (centre, size) in itertools.product(bends, places):
            assert not overlap(bend, Size(0, 0), centre, size)


def test_a_chain_is_a_straight_line():
    found = layout.layered([Size(10, 5), Size(40, 5), Size(20, 9)], [(0, 1), (1, 2)], GAP)
    assert [centre.x for centre in found.centres] == [20, 20, 20]
    assert [centre.y for centre in found.centres] == [2.5, 27.5, 54.5]
    assert found.size == (40, 59)


def test_an_edge_bends_around_what_it_passes():
    found = layout.layered([Size(30, 5)] * 3, [(0, 1), (1, 2), (0, 2)], GAP)
    (bend,) = found.bends[2]
    assert bend.y == found.centres[1].y
    assert abs(bend.x - found.centres[1].x) >= 15 + GAP.width


def test_nothing_and_no_edges():
    assert layout.layered([], [], GAP).size == (0, 0)
    assert layout.layered([Size(10, 5)] * 2, [], GAP).size == (30, 5)
