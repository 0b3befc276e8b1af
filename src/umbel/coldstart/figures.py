"""The figures of a learner: per scenario and task, and as the support grows, with intervals over users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from umbel.coldstart.answers import Answers
from umbel.evaluate.intervals import Interval, Resamples, resample
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.peruser import PerUser
from umbel.evaluate.rated import listing
from umbel.evaluate.robust import Robustness, quarters, robustness
from umbel.kinds import BINARY, REGRESSION
from umbel.schema import Task

Measured = Mapping[str, Interval | Undefined]
OF_EVENTS = ("auc", "ndcg@1", "ndcg@3", "ndcg@5", "precision@5", "recall@5")
OF_RATINGS = ("mae", "rmse", "mae_pooled", "rmse_pooled", *OF_EVENTS[1:])


@dataclass(frozen=True, slots=True)
class Told:
    """One set of episodes: how many users and query rows, and each task's metrics."""

    users: int
    rows: int
    tasks: Mapping[str, Measured]


@dataclass(frozen=True, slots=True)
class ColdFigures:
    """What a learner comes to: told by scenario (None, with the reason, where no user is in it), and by the size of the support.

    `curve` has nested supports before one fixed query, of users with enough rows for the largest. `groups` says, per task and
    grouping, for whom the task's first metric is worst.
    """

    scenarios: Mapping[str, Told | Undefined]
    curve: Mapping[int, Told | Undefined] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, Robustness]] = field(default_factory=dict)


def per_user(told: Answers, *, relevant: float) -> dict[str, dict[str, PerUser]]:
    """Every metric of every task, user by user; `relevant` is the least rating of a relevant row."""
    found = {}
    for task in told.schema.judged:
        names = _names(task)
        metrics = listing(relevant=1.0 if task.kind == BINARY else relevant)
        labels, predictions, seen = told.of(task.name)
        found[task.name] = {name: metrics[name](labels.astype(np.float64), predictions.astype(np.float64), seen) for name in names}
    return found


def figures(told: Answers, *, relevant: float, resamples: int) -> Told:
    """The figures of one set of episodes; users are drawn again for the intervals."""
    by = resample(told.users, resamples=resamples)
    tasks = {task: {name: _interval(one, by) for name, one in own.items()} for task, own in per_user(told, relevant=relevant).items()}
    return Told(len(told.users), int(told.seen.any(2).sum()), tasks)


def by_groups(
    told: Answers, groupings: Mapping[str, Sequence[object]], *, relevant: float, resamples: int
) -> dict[str, dict[str, Robustness]]:
    """Each task's first metric by groups of users; a grouping names every user's group."""
    by = resample(told.users, resamples=resamples)
    found = {}
    for task, own in per_user(told, relevant=relevant).items():
        if own:
            spread = {"spread of labels": quarters(_spread(told, task)), **groupings}
            found[task] = {name: robustness(next(iter(own.values())), labels, by) for name, labels in spread.items()}
    return found


def _spread(told: Answers, task: str) -> Float[np.ndarray, "users"]:
    """How much each user's labels vary: their standard deviation, NaN without two of them."""
    labels, _, seen = told.of(task)
    count = seen.sum(1)
    mean = np.where(seen, labels, 0.0).sum(1) / np.maximum(count, 1)
    square = np.where(seen, np.square(labels - mean[:, None]), 0.0).sum(1) / np.maximum(count, 1)
    return np.where(count > 1, np.sqrt(square), np.nan).astype(np.float64)


def _names(task: Task) -> tuple[str, ...]:
    if task.kind == BINARY:
        return OF_EVENTS
    return OF_RATINGS if task.kind == REGRESSION else ()


def _interval(one: PerUser, by: Resamples) -> Interval | Undefined:
    sampled = one.sampled(by)
    return sampled if isinstance(sampled, Undefined) else sampled.interval()
