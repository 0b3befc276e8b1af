"""The scores of a training, epoch by epoch: where a series peaks, which epochs no other beats, who lies how far below the best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

IMPROVEMENT = 1e-6  # a score must exceed the best by more than this to count
Scores = Mapping[str, float | None]  # of one epoch: a score a task, the higher the better; None where it cannot be had


def peak(series: Sequence[float]) -> int:
    """The first place that exceeds every peak before it by more than 1e-6.

    Example
    -------
    >>> peak([0.7, 0.8, 0.8000005])
    1
    """
    best = 0
    for place, value in enumerate(series):
        if value > series[best] + IMPROVEMENT:
            best = place
    return best


def frontier(history: Sequence[Scores], tasks: Iterable[str]) -> tuple[int, ...]:
    """The epochs that no other beats on these tasks; of equals the first.

    Example
    -------
    >>> frontier([{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}, {"a": 0.0, "b": 0.5}, {"a": 1.0, "b": 0.0}], "ab")
    (0, 1)
    """
    points = list(zip(*series_of(history, tasks), strict=True)) or [()] * len(history)
    return tuple(at for at, point in enumerate(points) if not any(_beats(points, other, at) for other in range(len(points))))


def _beats(points: Sequence[tuple[float, ...]], one: int, other: int) -> bool:
    if points[one] == points[other]:
        return one < other
    return all(ours >= theirs for ours, theirs in zip(points[one], points[other], strict=True))


def furthest(history: Sequence[Scores], allowed: Mapping[str, float]) -> list[float]:
    """Of each epoch, how much more than allowed it lies below a task's best, for the task where that is most; at least 0."""
    best = {task: max(series) for task, series in zip(allowed, series_of(history, allowed), strict=True)}
    known = [task for task in allowed if best[task] > -math.inf]
    return [max((0.0, *(best[task] - number(scores, task) - allowed[task] for task in known))) for scores in history]


def series_of(history: Sequence[Scores], tasks: Iterable[str]) -> tuple[tuple[float, ...], ...]:
    """Each task's scores, epoch by epoch; what cannot be had is minus infinity."""
    return tuple(tuple(number(scores, task) for scores in history) for task in tasks)


def number(scores: Scores, task: str) -> float:
    """A task's score; minus infinity where it cannot be had."""
    value = scores.get(task)
    return -math.inf if value is None or math.isnan(value) else value


def tasks_of(history: Sequence[Scores]) -> tuple[str, ...]:
    """Every task that was judged."""
    return tuple(dict.fromkeys(task for scores in history for task in scores))
