"""A ladder chosen on validation users: from how many rows each rung is better than those below it, at every larger number too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Int64

from umbel.coldstart.answers import Read, answers, scores
from umbel.data.batch import Batch
from umbel.data.episodes import Episodes
from umbel.data.shots import KNOWN
from umbel.learn.adapt import Steps
from umbel.learn.episode import Adapter, Learner, Untouched
from umbel.learn.joint import Joint
from umbel.learn.ladder import Ladder, Rung
from umbel.learn.newcomer import MeanUser
from umbel.learn.ridge import Leaning, closed
from umbel.learn.scope import SCOPES

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
TRAINED = (10, 20, 50, 100, 200, 500, 1000)  # training rows of a user, from which the id may answer
FEWEST = 30  # users to say so by


@dataclass(frozen=True, slots=True)
class Climb:
    """A ladder, and what it was chosen by: each rung's mean validation score by the size of the support.

    `apart` says that the learner makes something of a user's rows that is no rung; `no_id` why no id answers, where none does.
    """

    ladder: Ladder
    scores: Mapping[str, Mapping[int, float]]
    apart: bool = False
    no_id: str = ""


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
    adapter = learner.adapter.plain if isinstance(learner.adapter, Joint) else learner.adapter
    steps = adapter if isinstance(adapter, Steps) and not adapter.inner.scope.table else None
    if steps is not None:
        told[Rung.STEPS] = _scores(learner, steps, curve, read=read)
    ladder = Ladder(_from(told, Rung.HEAD, (Rung.CONTENT,)), user=learner.user, strength=strength)
    if steps is not None:
        name = next(name for name, one in SCOPES.items() if one == steps.inner.scope)
        rates = {name: one.detach().clone() for name, one in steps.rates().items()}
        up = _from(told, Rung.STEPS, (Rung.CONTENT, Rung.HEAD))
        ladder = replace(ladder, steps_from=up, scope=name, steps=steps.inner.steps, rates=rates)
    return Climb(ladder, told, apart=steps is None and not isinstance(learner.adapter, Untouched | MeanUser))


def known_from(
    learner: Learner, ladder: Ladder, own: Episodes, *, read: Read, trained: Int64[np.ndarray, "episodes"],
) -> int | None:
    """From how many training rows on the id of a user answers better than the ladder from the support; None if it nowhere does.

    `own` are validation episodes of users who were `trained` on, by so many rows each; it has to be better from every larger
    number on, too, as far as there are `FEWEST` users to say so.
    """
    found = None
    for least in reversed(TRAINED):
        some = own.of(np.flatnonzero(trained >= least))
        if len(some) >= FEWEST:
            by_ladder = _score(serving(learner, ladder, int(np.median(some.lengths))), some, read)
            if _score(Learner(learner.model, Untouched(), user=learner.user), some, partial(_by_id, read)) <= by_ladder:
                break
            found = least
    return found


def serving(learner: Learner, ladder: Ladder, shots: int) -> Learner:
    """What answers for a new user of so many rows: the rung's adapter on the learner's model."""
    rung = ladder.rung(shots)
    adapters: dict[Rung, Adapter] = {Rung.STEPS: learner.adapter, Rung.HEAD: Leaning(ladder.strength)}
    return Learner(learner.model, adapters.get(rung, Untouched()), user=learner.user)


def _scores(learner: Learner, adapter: Adapter, curve: Mapping[int, Episodes], *, read: Read) -> dict[int, float]:
    """The mean over tasks of the validation score, by the size of the support."""
    other = Learner(learner.model, adapter, user=learner.user)
    return {shots: _score(other, own, read) for shots, own in curve.items()}


def _score(learner: Learner, own: Episodes, read: Read) -> float:
    known = [one for one in scores(answers(learner, own, read)).values() if one is not None]
    return float(np.mean(known)) if known else float("-inf")


def _by_id(read: Read, own: Episodes) -> Batch:
    """What a method reads of episodes, the users known."""
    batch = read(own)
    return replace(batch, fields={**batch.fields, KNOWN: torch.ones(len(own), dtype=torch.bool)})


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
