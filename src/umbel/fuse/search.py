"""The search for a fusion: so many policies are judged, the best that keeps its limits is chosen, and those that none beats are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from umbel.errors import UserError
from umbel.fuse.goal import Goal
from umbel.fuse.samplers import METHODS, Point
from umbel.fuse.space import Space
from umbel.fusion import Fusion

WORST = 1e9  # the loss of what cannot be judged; of what misses a limit, half of that and more


@dataclass(frozen=True, slots=True)
class Judged:
    """The figures of a policy's tasks; `caution` is taken off the primary's when policies are compared; or why there are none.

    `lacking` says how far a policy that cannot be judged is from being one that can.
    """

    values: Float[np.ndarray, "tasks"] | None
    caution: float = 0.0
    reason: str = ""
    lacking: float = 0.0


Judge = Callable[[Fusion], Judged]


@dataclass(frozen=True, slots=True)
class Tried:
    """A policy that was judged: its number, what it is where it is no point of the search, how far it misses limits, what it is worth."""

    number: int
    policy: Fusion
    judged: Judged
    note: str = ""
    short: float = np.inf
    gain: float = -np.inf

    @property
    def loss(self) -> float:
        """Lower is better: those that keep all limits by what they are worth, then by what they miss, then those not judged."""
        if self.judged.values is None:
            return WORST + self.judged.lacking
        return -self.gain if not self.short else WORST / 2 + min(self.short, WORST / 4)


def references(start: Fusion) -> list[tuple[str, Fusion]]:
    """What every search judges first: the start, and each task alone."""
    alone = [(f"{term.task} alone", replace(start, terms=(term,))) for term in start.terms]
    return [("start", start), *(alone if len(alone) > 1 else [])]


def search(space: Space, judge: Judge, goal: Goal, *, trials: int, method: str, seed: int) -> Iterator[Tried]:
    """Exactly `trials` policies: first the `references`, then points of the space; the same again for a seed. One is the start alone.

    :raises UserError: for fewer trials than there are references, but for one.
    """
    first = references(space.start)[:1] if trials == 1 else references(space.start)
    if trials < len(first):
        mend = f"give {len(first)} or more: the start and each task alone are among them; or 1, which judges the start alone"
        raise UserError(f"trials = {trials}: too few", mend=mend)
    for number, (note, policy) in enumerate(first):
        yield _tried(number, policy, judge(policy), goal=goal, note=note)
    number = len(first)
    sampler = METHODS[method](space.size, seed) if space.size else None
    while sampler is not None and number < trials:
        points: list[Point] = sampler.ask()[: trials - number]
        losses = []
        for point in points:
            policy = space.policy(point)
            one = _tried(number, policy, judge(policy), goal=goal)
            losses.append(one.loss)
            number += 1
            yield one
        sampler.tell(points, losses)


def best(tried: Sequence[Tried], goal: Goal) -> Tried | None:
    """The best of those that keep all limits, of equals one that none of them beats in another task; None where none keeps them."""
    kept = [one for one in tried if one.judged.values is not None and not one.short]
    least = min((one.loss for one in kept), default=0.0)
    return next(iter(front([one for one in kept if one.loss == least], goal)), None)


def front(tried: Sequence[Tried], goal: Goal) -> list[Tried]:
    """The policies that no other beats in one task without losing in another, of equals the first; the best in the primary first."""
    known = [(one, one.judged.values) for one in tried if one.judged.values is not None and not np.isnan(one.judged.values).any()]
    distinct = list({tuple(values.tolist()): (one, values) for one, values in reversed(known)}.values())
    left = [one for one, values in distinct if not any(goal.better(other, values) for _, other in distinct)]
    return sorted(left, key=lambda one: (-one.gain, one.number))


def _tried(number: int, policy: Fusion, judged: Judged, *, goal: Goal, note: str = "") -> Tried:
    if judged.values is None:
        return Tried(number, policy, judged, note)
    return Tried(number, policy, judged, note, goal.short(judged.values), goal.gain(judged.values) - judged.caution)
