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
    """A policy on the test half: the figure of each task, and by how much it differs from the start's (none for the start itself)."""

    name: str
    tasks: Mapping[str, Figure]
    gains: Mapping[str, Figure]


def standings(judge: Callable[[Fusion], Sequence[Drawn]], goal: Goal, *, start: Fusion, chosen: Fusion) -> tuple[Standing, ...]:
    """The chosen policy, then the start and each task alone, on the same resamples of users."""
    names = [aim.task for aim in goal.aims]
    first = judge(start)
    found = []
    for name, policy in [("chosen", chosen), *references(start)]:
        drawn = first if policy is start else judge(policy)
        figures = {task: one if isinstance(one, Undefined) else one.interval() for task, one in zip(names, drawn, strict=True)}
        gains = {} if policy is start else {task: _gain(*pair) for task, *pair in zip(names, drawn, first, strict=True)}
        found.append(Standing(name, figures, gains))
    return tuple(found)


def better(one: Standing, goal: Goal) -> bool:
    """Whether the primary is better than the start's by more than chance."""
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


def verdict(one: Standing, goal: Goal) -> str:
    """What may be said of the choice, in a sentence."""
    gain = one.gains.get(goal.primary)
    if gain is None:
        said = "the start is the best that was found"
    elif isinstance(gain, Undefined):
        said = f"{goal.primary} cannot be compared with the start's ({gain.reason})"
    else:
        sure = "better than the start" if better(one, goal) else "not shown to be better than the start"
        bounds = gain.reason if gain.low is None or gain.high is None else f"{gain.low:+.4g} to {gain.high:+.4g}"
        said = f"{sure} in {goal.primary}: {gain.value:+.4g} ({bounds})"
    return "; ".join([f"on test users {said}", *missed(one, goal)])


def _gain(one: Drawn, start: Drawn) -> Figure:
    if isinstance(one, Undefined):
        return one
    return start if isinstance(start, Undefined) else paired([one], [start]).mean
