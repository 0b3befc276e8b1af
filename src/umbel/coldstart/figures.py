"""The figures of a learner: per scenario and task, and as the support grows, with intervals over users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from umbel.coldstart.answers import Answers, Asked
from umbel.evaluate.intervals import Interval, Resamples, resample
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.peruser import PerUser
from umbel.evaluate.rated import listing
from umbel.evaluate.robust import Robustness, over_seeds, quarters
from umbel.kinds import BINARY, REGRESSION
from umbel.schema import Task

Measured = Mapping[str, Interval | Undefined]
Key = TypeVar("Key")
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


def metrics_of(task: Task) -> tuple[str, ...]:
    """The metrics of a task, the one first that curves and groups go by; none of a task that is neither an event nor a regression."""
    if task.kind == BINARY:
        return OF_EVENTS
    return OF_RATINGS if task.kind == REGRESSION else ()


def cold_figures(asked: Asked, *, relevant: float, resamples: int) -> ColdFigures:
    """The figures of everything that a learner was asked."""
    groups = {} if isinstance(asked.new, Undefined) else by_groups([asked.new], asked.groups, relevant=relevant, resamples=resamples)
    scenarios, curve = (figures_of(one, relevant=relevant, resamples=resamples) for one in (asked.scenarios, asked.curve))
    return ColdFigures(scenarios, curve, groups)


def figures_of(told: Mapping[Key, Answers | Undefined], *, relevant: float, resamples: int) -> dict[Key, Told | Undefined]:
    """The figures of several sets of episodes; where nothing was said, why."""
    return {key: one if isinstance(one, Undefined) else figures(one, relevant=relevant, resamples=resamples) for key, one in told.items()}


def per_user(told: Answers, *, relevant: float) -> dict[str, dict[str, PerUser]]:
    """Every metric of every task, user by user; `relevant` is the least rating of a relevant row."""
    found = {}
    for task in told.schema.judged:
        names = metrics_of(task)
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
    seeds: Sequence[Answers], groupings: Mapping[str, Sequence[object]], *, relevant: float, resamples: int
) -> dict[str, dict[str, Robustness]]:
    """Each task's first metric by groups of users, the mean over seeds; a grouping names every user's group."""
    told = seeds[0]
    by = resample(told.users, resamples=resamples)
    own = [per_user(one, relevant=relevant) for one in seeds]
    found = {}
    for task, metrics in own[0].items():
        if metrics:
            first = [next(iter(one[task].values())) for one in own]
            spread = {"spread of labels": quarters(_spread(told, task)), **groupings}
            found[task] = {name: over_seeds(first, labels, by) for name, labels in spread.items()}
    return found


def _spread(told: Answers, task: str) -> Float[np.ndarray, "users"]:
    """How much each user's labels vary: their standard deviation, NaN without two of them."""
    labels, _, seen = told.of(task)
    count = seen.sum(1)
    mean = np.where(seen, labels, 0.0).sum(1) / np.maximum(count, 1)
    square = np.where(seen, np.square(labels - mean[:, None]), 0.0).sum(1) / np.maximum(count, 1)
    return np.where(count > 1, np.sqrt(square), np.nan).astype(np.float64)


def _interval(one: PerUser, by: Resamples) -> Interval | Undefined:
    sampled = one.sampled(by)
    return sampled if isinstance(sampled, Undefined) else sampled.interval()
