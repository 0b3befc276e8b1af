"""Which tasks should share: every way to part them into groups, ranked by how much the tasks of a group help each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float

Partition = tuple[tuple[int, ...], ...]
EXHAUSTIVE = 8  # tasks: 4,140 partitions; the 115,975 of ten would still be quick, those of thirteen would not

NEARLY = 0.9    # of the best promise


def partitions(tasks: int) -> Iterator[Partition]:
    """Every partition of `tasks` numbers, groups by their first task: 1, 2, 5, 15, 52, 203, 877, 4140 of them.

    Example
    -------
    >>> list(partitions(3))
    [((0, 1, 2),), ((0, 1), (2,)), ((0, 2), (1,)), ((0,), (1, 2)), ((0,), (1,), (2,))]
    """
    if not tasks:
        yield ()
        return
    last = tasks - 1
    for below in partitions(last):
        for place, group in enumerate(below):
            yield (*below[:place], (*group, last), *below[place + 1 :])
        yield (*below, (last,))


def worth(partition: Partition, helps: Float[np.ndarray, "tasks tasks"]) -> float:
    """What a partition promises: the mean over tasks of the mean help from the others of its group, nothing for a task alone.

    `helps[i, j]` is what a step for i does for j (`gradients.Affinity`). The objective of Fifty et al.
    (https://arxiv.org/abs/2109.04617), where a lone task counts next to nothing too.

    Example
    -------
    >>> round(worth(((0, 1), (2,)), np.array([[0, 0.6, -0.1], [0.3, 0, -0.2], [-0.3, 0.0, 0]])), 3)
    0.3
    """
    gains = [np.mean([helps[other, task] for other in group if other != task]) for group in partition if len(group) > 1 for task in group]
    return float(np.sum(gains)) / len(helps)


def ranked(helps: Float[np.ndarray, "tasks tasks"], *, exhaustive: int = EXHAUSTIVE) -> list[Partition]:
    """The partitions of all tasks, best promise first; of more than `exhaustive` tasks those on one path of merging alone.

    Ahead of all stands the one with the fewest groups among those that promise nearly the best: where three tasks help each
    other alike, noise must not part two of them from the third.
    """
    found = list(partitions(len(helps))) if len(helps) <= exhaustive else list(merged(helps))
    values = {one: worth(one, helps) for one in found}
    best = max(values.values())
    near = [one for one, value in values.items() if value >= NEARLY * best]
    first = min(near, key=lambda one: (len(one) if best > 0 else 0, -values[one]))
    return [first, *sorted((one for one in found if one != first), key=lambda one: (-values[one], len(one)))]


def merged(helps: Float[np.ndarray, "tasks tasks"]) -> Iterator[Partition]:
    """From every task alone to all together: at each step the two groups merge whose merging promises most."""
    now: Partition = tuple((task,) for task in range(len(helps)))
    yield now
    while len(now) > 1:
        now = max((_joined(now, pair) for pair in combinations(range(len(now)), 2)), key=lambda one: worth(one, helps))
        yield now


def named(partition: Partition, tasks: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The groups by the names of their tasks."""
    return tuple(tuple(tasks[task] for task in group) for group in partition)


def _joined(partition: Partition, pair: tuple[int, int]) -> Partition:
    both = tuple(sorted(partition[pair[0]] + partition[pair[1]]))
    return tuple(sorted([*(group for place, group in enumerate(partition) if place not in pair), both]))
