import itertools

import numpy as np

from blobnet.passes.memory import Lifetime, group_by_size, plan_buffers


def test_a_chain_needs_two_buffers():
    chain = [Lifetime(10, step, step + 1) for step in range(8)]
    assert len(plan_buffers(chain)) == 2


def test_a_branch_keeps_its_shortcut():
    shortcut, first, second = Lifetime(10, 0, 3), Lifetime(10, 0, 1), Lifetime(10, 2, 3)
    groups = plan_buffers([shortcut, first, second])
    assert sorted(map(sorted, groups)) == [[0], [1, 2]]


def test_arrays_of_a_group_never_meet_and_every_array_has_one_group():
    random = np.random.default_rng(1)
    for _ in range(200):
        starts = random.integers(0, 30, 20)
        lifetimes = [
            Lifetime(int(size), int(first), int(first + length))
            for first, length, size in zip(starts, random.integers(0, 8, 20), random.integers(1, 100, 20), strict=True)
        ]
        groups = plan_buffers(lifetimes)
        assert sorted(itertools.chain(*groups)) == list(range(20))
        for group in groups:
            for one, other in itertools.combinations(group, 2):
                assert lifetimes[one].last < lifetimes[other].first or lifetimes[other].last < lifetimes[one].first


def test_of_many_arrays_at_a_time_each_has_its_own_group():
    groups = plan_buffers([Lifetime(1, 0, 9)] * 600)
    assert sorted(groups) == [[index] for index in range(600)]


def test_groups_go_by_size():
    assert group_by_size([1, 9, 5], [4, 7]) == [[(0, 1), (1, 1)], [(0, 2), (1, 0)], [(0, 0)]]
    assert group_by_size([], [3]) == [[(1, 0)]]
    assert group_by_size() == []
