"""Ways to part tasks into groups: counted, valued by hand, found where they are planted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.study.transfer.partitions import NEARLY, merged, named, partitions, ranked, worth

BELL = [1, 1, 2, 5, 15, 52, 203, 877]


def planted(groups: tuple[tuple[int, ...], ...], *, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Help of one inside a group, none across."""
    tasks = sum(map(len, groups))
    draw = np.random.default_rng(seed)
    helps = noise * draw.normal(size=(tasks, tasks))
    for group in groups:
        for one, other in itertools.permutations(group, 2):
            helps[one, other] += 1.0
    return helps


@pytest.mark.parametrize("tasks", range(1, 8))
def test_there_are_as_many_as_bell_says(tasks: int) -> None:
    found = list(partitions(tasks))
    assert len(found) == len(set(found)) == BELL[tasks]
    assert all(sorted(itertools.chain(*one)) == list(range(tasks)) for one in found)
    assert all(all(group == tuple(sorted(group)) for group in one) for one in found)
    assert all([group[0] for group in one] == sorted(group[0] for group in one) for one in found)


def test_worth_by_hand() -> None:
    helps = np.array([[9, 0.4, 0.1], [0.2, 9, -0.3], [0.5, -0.1, 9]])
    # Task 0 is helped by 1 (.2) and 2 (.5), 1 by 0 (.4) and 2 (-.1), 2 by 0 (.1) and 1 (-.3).
    assert worth(((0, 1, 2),), helps) == pytest.approx((0.35 + 0.15 - 0.1) / 3)
    assert worth(((0, 1), (2,)), helps) == pytest.approx((0.2 + 0.4) / 3)
    assert worth(((0,), (1,), (2,)), helps) == 0.0


def test_one_does_not_help_oneself() -> None:
    helps = planted(((0, 1), (2,)))
    moved = helps + 5 * np.eye(3)
    assert [worth(one, helps) for one in partitions(3)] == [worth(one, moved) for one in partitions(3)]


@pytest.mark.parametrize("groups", [((0, 1), (2, 3)), ((0, 3, 4), (1, 2, 5)), ((0,), (1, 2)), ((0, 1, 2, 3),), ((0, 2), (1, 5), (3, 4))])
@pytest.mark.parametrize("exhaustive", [8, 0])
def test_planted_groups_are_found(groups: tuple[tuple[int, ...], ...], exhaustive: int) -> None:
    for seed in range(5):
        # Across groups a little harm, so that a task of its own is better alone.
        helps = planted(groups, noise=0.05, seed=seed) - 0.3
        assert ranked(helps, exhaustive=exhaustive)[0] == groups


def test_tasks_that_do_harm_stay_alone() -> None:
    assert ranked(-np.ones((4, 4)))[0] == ((0,), (1,), (2,), (3,))


def test_merging_goes_from_all_alone_to_all_together() -> None:
    path = list(merged(planted(((0, 1), (2, 3)), noise=0.1)))
    assert [len(one) for one in path] == [4, 3, 2, 1]
    assert path[2] == ((0, 1), (2, 3))
    for below, above in itertools.pairwise(path):
        assert all(any(set(group) <= set(other) for other in above) for group in below)


def test_many_tasks_take_the_path() -> None:
    groups = (tuple(range(0, 12, 2)), tuple(range(1, 12, 2)))
    found = ranked(planted(groups, noise=0.05) - 0.2)
    assert len(found) == 12
    assert found[0] == groups


@given(st.integers(1, 5), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_the_first_is_nearly_the_best_with_the_fewest_groups(tasks: int, seed: int) -> None:
    helps = np.random.default_rng(seed).normal(size=(tasks, tasks))
    first, *others = ranked(helps)
    values = [worth(one, helps) for one in others]
    assert values == sorted(values, reverse=True)
    best = max([worth(first, helps), *values])
    assert best >= max(worth(one, helps) for one in merged(helps)) - 1e-12
    assert worth(first, helps) >= NEARLY * best
    assert not [one for one, value in zip(others, values, strict=True) if value >= NEARLY * best > 0 and len(one) < len(first)]


def test_what_helps_alike_stays_together() -> None:
    """Noise makes a pair of three look a little better than all of them."""
    helps = np.array([[0, 1.02, 1.0], [1.02, 0, 1.0], [1.0, 1.0, 0]])
    assert ranked(helps)[0] == ((0, 1, 2),)
    helps[:2, 2] = helps[2, :2] = 0.4
    assert ranked(helps)[0] == ((0, 1), (2,))


@given(st.permutations(range(4)), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_tasks_in_another_order_have_the_same_groups(order: list[int], seed: int) -> None:
    helps = np.random.default_rng(seed).normal(size=(4, 4))
    mine = {frozenset(group) for group in ranked(helps)[0]}
    turned = ranked(helps[np.ix_(order, order)])[0]
    assert {frozenset(order[task] for task in group) for group in turned} == mine


def test_names() -> None:
    assert named(((0, 2), (1,)), ("click", "like", "watch")) == (("click", "watch"), ("like",))
