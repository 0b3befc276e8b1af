"""What is asked of a search for a fusion, and what it starts at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from umbel.bundle import Bundle
from umbel.errors import UserError, nearest
from umbel.fuse.goal import Aim, Goal, goal, read_bounds
from umbel.fuse.ranked import METRICS, Metric, Top
from umbel.fuse.samplers import METHODS
from umbel.fuse.search import Judge, Tried, best, search
from umbel.fuse.space import Space
from umbel.fusion import Fusion, equal
from umbel.fusion import read as read_policy

Watch = Callable[[int, int], None]  # told how many policies of how many were judged


def unwatched(_done: int, _of: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A search as it is asked for: `bounds` as TASK=FIGURE; `policy` is the file to start at (None: the bundle's), `family` another one
    that starts in equal shares; `method`, `trials` and `seed` its budget.

    Of a search by labels: the `metric`, how many stand on `top`, and the column `by` whose values are ordered inside (None: users).
    `join` puts other tables in the place of joined ones: KEY=TABLE, several apart by commas.

    :raises UserError: for a metric or method that is none, or a count under 1.
    """

    primary: str | None = None
    bounds: tuple[str, ...] = ()
    policy: str | None = None
    family: str | None = None
    method: str = "cma"
    trials: int = 300
    seed: int = 0
    metric: str = Top.name
    top: int = 5
    by: str | None = None
    join: str | None = None

    def __post_init__(self) -> None:
        for key, given, among in (("metric", self.metric, METRICS), ("method", self.method, METHODS)):
            if given not in among:
                raise UserError(f"{key} {given!r}: unknown", mend=nearest(given, among))
        for key, count, least in (("trials", self.trials, 1), ("top", self.top, 1), ("seed", self.seed, 0)):
            if count < least:
                raise UserError(f"{key} = {count}", mend=f"give {least} or more")
        read_bounds(self.bounds)

    @property
    def joins(self) -> tuple[str, ...]:
        """Each join."""
        return () if self.join is None else tuple(self.join.split(","))

    def judge(self) -> Metric:
        """The metric that orders are judged by."""
        return METRICS[self.metric](self.top)


def opened(bundle: Path, asked: Asked) -> tuple[Bundle, Fusion]:
    """The bundle and the policy to start at; :raises UserError: if there is none, or it reads what the bundle does not predict."""
    made = Bundle.load(bundle)
    start = made.fusion if asked.policy is None else read_policy(Path(asked.policy))
    if start is None:
        raise UserError(f"{bundle}: has no fusion to start at", mend="give one with --set policy=FILE")
    start.places(made.columns)
    if len(start.terms) < 2:
        raise UserError(f"fusion {start.name!r}: orders by {start.tasks[0]} alone", mend="give one of several tasks, --set policy=FILE")
    return made, start


def started(start: Fusion, asked: Asked, predictions: Mapping[str, Float[np.ndarray, "rows"]]) -> Fusion:
    """The start, or one of the family that is asked for, in which every task has an equal say on these rows."""
    if asked.family is None:
        return start
    unwanted = [term.task for term in start.terms if term.direction < 0]
    return equal(asked.family, predictions, unwanted=unwanted)


def searched(judge: Judge, space: Space, aims: Sequence[Aim], *, asked: Asked, watch: Watch) -> tuple[Goal, list[Tried], Tried]:
    """The goal, with limits from the start's figures, all policies that were tried, and the best of those that keep the limits.

    :raises UserError: for a goal that is none, too few trials, or limits that nothing keeps.
    """
    first = judge(space.start)
    if first.values is None:
        raise UserError(f"the start cannot be judged: {first.reason}", mend="give a longer log")
    aim = goal(aims, primary=asked.primary, bounds=read_bounds(asked.bounds), start=first.values)
    tried = []
    for one in search(space, judge, aim, trials=asked.trials, method=asked.method, seed=asked.seed):
        tried.append(one)
        watch(len(tried), asked.trials)
    chosen = best(tried, aim)
    if chosen is None:
        raise UserError(f"--bound: none of {len(tried)} policies keeps every limit", mend=f"loosen one; {_nearest(tried, aim)}")
    return aim, tried, chosen


def _nearest(tried: Sequence[Tried], aim: Goal) -> str:
    """The figures of the policy that misses limits least."""
    near = min(tried, key=lambda one: (one.loss, one.number))
    if near.judged.values is None:
        return near.judged.reason
    figures = zip(aim.aims, near.judged.values, strict=True)
    return "the nearest has " + ", ".join(f"{one.task} {value:.4g}" for one, value in figures if one.task in aim.limits)
