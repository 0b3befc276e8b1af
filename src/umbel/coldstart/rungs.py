"""A ladder chosen on validation users: from how many rows each rung is better than those below it, at every larger number too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from umbel.coldstart.answers import Read, answers, scores
from umbel.data.episodes import Episodes
from umbel.learn.adapt import Steps
from umbel.learn.episode import Adapter, Learner, Untouched
from umbel.learn.ladder import Ladder, Rung
from umbel.learn.ridge import Leaning, closed
from umbel.learn.scope import SCOPES

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True, slots=True)
class Climb:
    """A ladder, and what it was chosen by: each rung's mean validation score by the size of the support."""

    ladder: Ladder
    scores: Mapping[str, Mapping[int, float]]


def climb(learner: Learner, curve: Mapping[int, Episodes], read: Read) -> Climb:
    """The ladder of a trained learner; `curve` are validation episodes by the size of the support, 0 left out.

    The ridge's strength is the best over all sizes. A rung that is never better is not on the ladder.
    """
    told: dict[str, dict[int, float]] = {Rung.CONTENT: _scores(learner, Untouched(), curve, read=read)}
    strength = 1.0
    if closed(learner.model):
        tried = {one: _scores(learner, Leaning(one), curve, read=read) for one in STRENGTHS}
        strength = max(tried, key=lambda one: sum(tried[one].values()))
        told[Rung.HEAD] = tried[strength]
    steps = learner.adapter if isinstance(learner.adapter, Steps) and not learner.adapter.inner.scope.table else None
    if steps is not None:
        told[Rung.STEPS] = _scores(learner, steps, curve, read=read)
    ladder = Ladder(_from(told, Rung.HEAD, (Rung.CONTENT,)), user=learner.user, strength=strength)
    if steps is not None:
        name = next(name for name, one in SCOPES.items() if one == steps.inner.scope)
        rates = {name: one.detach().clone() for name, one in steps.rates().items()}
        up = _from(told, Rung.STEPS, (Rung.CONTENT, Rung.HEAD))
        ladder = replace(ladder, steps_from=up, scope=name, steps=steps.inner.steps, rates=rates)
    return Climb(ladder, told)


def serving(learner: Learner, ladder: Ladder, shots: int) -> Learner:
    """What answers for a new user of so many rows: the rung's adapter on the learner's model."""
    rung = ladder.rung(shots)
    adapters: dict[Rung, Adapter] = {Rung.STEPS: learner.adapter, Rung.HEAD: Leaning(ladder.strength)}
    return Learner(learner.model, adapters.get(rung, Untouched()), user=learner.user)


def _scores(learner: Learner, adapter: Adapter, curve: Mapping[int, Episodes], *, read: Read) -> dict[int, float]:
    """The mean over tasks of the validation score, by the size of the support."""
    other = Learner(learner.model, adapter, user=learner.user)
    found = {}
    for shots, own in curve.items():
        known = [one for one in scores(answers(other, own, read)).values() if one is not None]
        found[shots] = float(np.mean(known)) if known else float("-inf")
    return found


def _from(told: Mapping[str, Mapping[int, float]], rung: Rung, below: tuple[Rung, ...]) -> int | None:
    """The least size from which on a rung is better than all below it; None if it is not even at the largest."""
    if rung not in told:
        return None
    better = [(shots, all(score > told[one][shots] for one in below if one in told)) for shots, score in sorted(told[rung].items())]
    found = None
    for shots, wins in reversed(better):
        if not wins:
            break
        found = shots
    return found
