"""A chosen fusion on the other half of the users, once: beside the start and each task alone, and what may be said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from umbel.evaluate.intervals import Interval, Sampled
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import paired
from umbel.fuse.goal import Goal
from umbel.fuse.search import references
from umbel.fusion import Fusion

Figure = Interval | Undefined
Drawn = Sampled | Undefined


@dataclass(frozen=True, slots=True)
class Standing:
    """A policy on the test half: the figure of each task, and by how much it differs from the base's (none for the base itself)."""

    name: str
    tasks: Mapping[str, Figure]
    gains: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Base:
    """What others are compared with, by name: its draws, task by task."""

    name: str
    drawn: Sequence[Drawn]


def standings(
    judge: Callable[[Fusion], Sequence[Drawn]], goal: Goal, policies: Sequence[tuple[str, Fusion]], *, base: Base
) -> tuple[Standing, ...]:
    """Policies, then the base, on the same resamples of users."""
    found = [_standing(name, judge(policy), goal, base=base.drawn) for name, policy in policies]
    return (*found, _standing(base.name, base.drawn, goal))


def contenders(chosen: Fusion, start: Fusion) -> list[tuple[str, Fusion]]:
    """The chosen policy, and each task alone."""
    return [("chosen", chosen), *(one for one in references(start) if one[1] is not start)]


def better(one: Standing, goal: Goal) -> bool:
    """Whether the primary is better than the base's by more than chance."""
    gain = one.gains.get(goal.primary)
    if not isinstance(gain, Interval) or gain.low is None or gain.high is None:
        return False
    return gain.low > 0 if goal.aims[goal.place].direction > 0 else gain.high < 0


def missed(one: Standing, goal: Goal) -> list[str]:
    """The tasks whose figure misses its limit on the test, in words."""
    found = []
    for aim in goal.aims:
        figure, limit = one.tasks[aim.task], goal.limits.get(aim.task)
        if limit is not None and isinstance(figure, Interval) and aim.direction * (figure.value - limit) < 0:
            found.append(f"{aim.task} {figure.value:.4g} misses its limit {limit:.4g}")
    return found


def verdict(one: Standing, goal: Goal, *, than: str) -> str:
    """What may be said of the choice beside the base, in a sentence."""
    gain = one.gains[goal.primary]
    if isinstance(gain, Undefined):
        said = f"{goal.primary} cannot be compared with {than} ({gain.reason})"
    else:
        sure = f"better than {than}" if better(one, goal) else f"not shown to be better than {than}"
        bounds = gain.reason if gain.low is None or gain.high is None else f"{gain.low:+.4g} to {gain.high:+.4g}"
        said = f"{sure} in {goal.primary}: {gain.value:+.4g} ({bounds})"
    return "; ".join([f"on test users {said}", *missed(one, goal)])


def _standing(name: str, drawn: Sequence[Drawn], goal: Goal, *, base: Sequence[Drawn] = ()) -> Standing:
    names = [aim.task for aim in goal.aims]
    figures = {task: one if isinstance(one, Undefined) else one.interval() for task, one in zip(names, drawn, strict=True)}
    return Standing(name, figures, {task: _gain(*pair) for task, *pair in zip(names, drawn, base, strict=True)} if base else {})


def _gain(one: Drawn, start: Drawn) -> Figure:
    if isinstance(one, Undefined):
        return one
    return start if isinstance(start, Undefined) else paired([one], [start]).mean
