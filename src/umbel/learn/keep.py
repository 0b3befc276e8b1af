"""Which epoch of a training is kept: rules that read every task's validation score after every epoch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from umbel.errors import UserError
from umbel.learn.history import IMPROVEMENT, Scores, frontier, furthest, number, peak, series_of, tasks_of


class Keep(ABC):
    """A rule: the scores of all epochs so far in, the epoch whose weights are kept out. Epochs are counted from 0.

    What it says depends on the scores alone, not on the order of the tasks. A score of None is worse than any number, and a
    task that never has one takes no part.

    Example
    -------
    >>> seen = [{"click": 0.70, "like": 0.60}, {"click": 0.72, "like": 0.55}, {"click": 0.71, "like": 0.595}]
    >>> [rule.best(seen) for rule in (Mean(), Primary("click"), Primary("click", {"like": 0.01}), Pareto())]
    [2, 1, 2, 2]
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def tasks(self) -> tuple[str, ...]:
        """The tasks it names; all of them must be judged."""

    @abstractmethod
    def score(self, scores: Scores) -> float:
        """One number for one epoch, which schedules and comparisons of runs go by; NaN where it cannot be had."""

    @abstractmethod
    def best(self, history: Sequence[Scores]) -> int:
        """The epoch to keep, of at least one."""

    @abstractmethod
    def contenders(self, history: Sequence[Scores]) -> tuple[int, ...]:
        """The epochs that may be `best` now or once more epochs are judged; their weights are held until then."""

    @abstractmethod
    def holds(self, judged: int) -> int:
        """Of how many epochs the weights are likely to be held at once, where so many tasks are judged: each one's best is a contender."""

    @abstractmethod
    def watched(self, history: Sequence[Scores]) -> tuple[tuple[float, ...], ...]:
        """Series of one number an epoch: while any of them rises, training goes on (see `stale`)."""

    @abstractmethod
    def why(self, history: Sequence[Scores]) -> str:
        """What the kept epoch has over the others, in words."""


@final
@dataclass(frozen=True, slots=True)
class Mean(Keep):
    """The epoch with the greatest mean over the tasks that have a score, `sum_t w_t s_t / sum_t w_t`.

    A task that `weights` does not name weighs 1. An epoch must exceed the best before it by more than 1e-6.
    """

    name: ClassVar[str] = "mean"
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _refuse(self.weights, lambda weight: weight > 0 and math.isfinite(weight), what="weights", mend="a weight is above 0")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Those with a weight."""
        return tuple(self.weights)

    def score(self, scores: Scores) -> float:
        """The weighted mean."""
        known = {task: value for task, value in scores.items() if value is not None}
        if not known:
            return math.nan
        weights = [self.weights.get(task, 1.0) for task in known] if self.weights else None
        return float(np.average(list(known.values()), weights=weights))

    def best(self, history: Sequence[Scores]) -> int:
        """The first that exceeded every best before it."""
        return peak([self.score(scores) for scores in history])

    def contenders(self, history: Sequence[Scores]) -> tuple[int, ...]:
        """The best alone: a later epoch replaces it, or does not."""
        return (self.best(history),)

    def holds(self, judged: int) -> int:
        """The best alone."""
        return 1

    def watched(self, history: Sequence[Scores]) -> tuple[tuple[float, ...], ...]:
        """The mean."""
        return (tuple(self.score(scores) for scores in history),)

    def why(self, history: Sequence[Scores]) -> str:
        """The mean."""
        return f"the highest {'weighted ' if self.weights else ''}mean validation score"


@final
@dataclass(frozen=True, slots=True)
class Primary(Keep):
    """The epoch with the greatest score of `task` among those that hold every guard.

    A guard `{like: 0.01}` holds in epoch e if `max_f s_like(f) - s_like(e) <= 0.01` (and 1e-6), the maximum being over all epochs
    of the training, later ones too. Where no epoch holds all, those stand that fall short the least, by
    `max_t (max_f s_t(f) - s_t(e) - guard_t)`. Of equals the first is kept.
    """

    name: ClassVar[str] = "primary"
    task: str
    guards: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _refuse(self.guards, lambda bound: bound >= 0, what="guards", mend="a guard is at least 0")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task, then those guarded."""
        return tuple(dict.fromkeys((self.task, *self.guards)))

    def score(self, scores: Scores) -> float:
        """The task's."""
        value = scores.get(self.task)
        return math.nan if value is None else value

    def best(self, history: Sequence[Scores]) -> int:
        """See above."""
        short = self._short(history)
        return max(self.contenders(history), key=lambda epoch: (-short[epoch], number(history[epoch], self.task)))

    def contenders(self, history: Sequence[Scores]) -> tuple[int, ...]:
        """Those that no other beats on the tasks named."""
        return frontier(history, self.tasks)

    def holds(self, judged: int) -> int:
        """One for each task named."""
        return len(self.tasks)

    def watched(self, history: Sequence[Scores]) -> tuple[tuple[float, ...], ...]:
        """The task, and each guarded one."""
        return series_of(history, self.tasks)

    def why(self, history: Sequence[Scores]) -> str:
        """Whether the guards hold, and by how much they do not."""
        guards = ", ".join(f"{task} within {bound:g} of its best" for task, bound in self.guards.items())
        short = self._short(history)[self.best(history)]
        if short > 0:
            return f"no epoch has {guards}; it falls short the least, by {short:.4f}"
        return f"the highest validation score of {self.task}{f' with {guards}' if guards else ''}"

    def _short(self, history: Sequence[Scores]) -> list[float]:
        """By how much each epoch breaks the guard that it breaks the most; 0 where all hold."""
        bounds = {task: bound + IMPROVEMENT for task, bound in self.guards.items()}
        return furthest(history, bounds)


@final
@dataclass(frozen=True, slots=True)
class Pareto(Keep):
    """Of the epochs that no other beats, the one whose greatest regret is the least: `min_e max_t (max_f s_t(f) - s_t(e))`.

    An epoch beats another if it is at least as good on every task and better on one; of equal regrets the first is kept. The
    weights of all unbeaten epochs are held while training goes on.
    """

    name: ClassVar[str] = "pareto"

    @property
    def tasks(self) -> tuple[str, ...]:
        """None: it takes every task alike."""
        return ()

    def score(self, scores: Scores) -> float:
        """The mean of the tasks, for those who need one number."""
        return Mean().score(scores)

    def best(self, history: Sequence[Scores]) -> int:
        """See above."""
        regret = self._regret(history)
        return min(self.contenders(history), key=lambda epoch: regret[epoch])

    def contenders(self, history: Sequence[Scores]) -> tuple[int, ...]:
        """Those that no other beats."""
        return frontier(history, tasks_of(history))

    def holds(self, judged: int) -> int:
        """One for each task."""
        return max(1, judged)

    def watched(self, history: Sequence[Scores]) -> tuple[tuple[float, ...], ...]:
        """Every task."""
        return series_of(history, tasks_of(history))

    def why(self, history: Sequence[Scores]) -> str:
        """The regret, and among how many."""
        among, regret = len(self.contenders(history)), self._regret(history)[self.best(history)]
        return f"of {among} that no other beats on every task, the nearest to each task's own best (at most {regret:.4f} below)"

    def _regret(self, history: Sequence[Scores]) -> list[float]:
        return furthest(history, dict.fromkeys(tasks_of(history), 0.0))


KEEPS: Mapping[str, type[Keep]] = {rule.name: rule for rule in (Mean, Primary, Pareto)}


def stale(rule: Keep, history: Sequence[Scores]) -> int:
    """How many epochs ago one of the series that the rule watches was last better than ever by more than 1e-6.

    Example
    -------
    >>> stale(Pareto(), [{"click": 0.6, "like": 0.5}, {"click": 0.5, "like": 0.7}, {"click": 0.5, "like": 0.6}])
    1
    """
    return min((len(series) - 1 - peak(series) for series in rule.watched(history)), default=0)


def _refuse(numbers: Mapping[str, float], fits: Callable[[float], bool], *, what: str, mend: str) -> None:
    for task, given in numbers.items():
        if not fits(given):
            raise UserError(f"{what}.{task} = {given:g}", mend=mend)
