"""By how much a user's labels differ from what is expected of their items: one shrunk number an output."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.data.shots import Shots
from umbel.kinds import BINARY, REGRESSION, TaskKind
from umbel.learn.episode import Adapter, Episode
from umbel.nn.recommender import Recommender
from umbel.schema import Schema

SHRINK = 5.0
EVEN = 0.25  # variance of an event at even odds: what one row of the shrinkage weighs


class Offsets(NamedTuple):
    """What a user's rows say of the user: all of them (`whole`), and for each row all the others (`others`)."""

    whole: Float[Tensor, "users 1 outputs"]
    others: Float[Tensor, "users shots outputs"]


def offsets(schema: Schema, shots: Shots, *, shrink: float = SHRINK) -> Offsets:
    """The shrunk mean residual of every user: `b = sum_r (y_r - p_r) / (sum_r v_r + shrink * v)`, p_r what the prior expects.

    Of a regression v_r and v are 1: b is the user's offset of a user+item bias model. Of an event b is one Newton step on the
    log-odds from the prior, v_r = p_r (1 - p_r) and v that of even odds. Rows count by their weights, `others` leaves a row's
    own label out, and a user without rows has 0, as has every output of another kind.
    """
    counts = (shots.weight * (shots.weight > 0).sum(1, keepdim=True))[..., None] * shots.seen
    whole, others = shots.prior.new_zeros(len(counts), 1, shots.prior.shape[2]), torch.zeros_like(shots.prior)
    for place, task in enumerate(schema.tasks):
        output = schema.outputs[place].start
        expected, spread = _expected(task.kind, shots.prior[..., output])
        if expected is None:
            continue
        slope = counts[..., place] * torch.where(shots.seen[..., place], shots.labels[..., place] - expected, 0.0)
        curve = counts[..., place] * spread
        base = shrink * (1.0 if task.kind == REGRESSION else EVEN)
        up, down = slope.sum(1, keepdim=True), curve.sum(1, keepdim=True) + base
        whole[..., output] = _ratio(up, down)
        others[..., output] = _ratio(up - slope, down - curve)
    return Offsets(whole, others)


def residuals(schema: Schema, shots: Shots) -> Float[Tensor, "users shots tasks"]:
    """Labels less what their priors expect; labels as they are where a prior means nothing, and 0 where nothing was seen."""
    found = []
    for place, task in enumerate(schema.tasks):
        expected, _ = _expected(task.kind, shots.prior[..., schema.outputs[place].start])
        found.append(shots.labels[..., place] - (0.0 if expected is None else expected))
    return torch.where(shots.seen, torch.stack(found, 2), 0.0)


@final
class Centred(Adapter):
    """An adapter on top of the user's offset: what is left to it is what user and item alone do not explain.

    The support's priors rise by what the other rows of the user say, so that no row is told its own label before a step; the
    query's by what all say.
    """

    def __init__(self, inner: Adapter, *, shrink: float = SHRINK) -> None:
        super().__init__()
        self.inner, self.shrink, self.costs = inner, shrink, inner.costs

    def forward(self, model: Recommender, episode: Episode) -> Float[Tensor, "users shots outputs"]:
        """The inner adapter's answer over raised priors."""
        found = offsets(model.schema, episode.support, shrink=self.shrink)
        support = episode.support._replace(prior=episode.support.prior + found.others)
        logits: Tensor = self.inner(model, replace(episode, support=support, query_prior=episode.query_prior + found.whole))
        return logits


@final
class PriorAlone(Adapter):
    """No model: the prior is the answer, raised as a trained model's would be (`Schema.raised`)."""

    def forward(self, model: Recommender, episode: Episode) -> Float[Tensor, "users shots outputs"]:
        """The query's prior; a head's auxiliary outputs are 0."""
        raised = torch.as_tensor(model.schema.raised, dtype=episode.query_prior.dtype, device=episode.query_prior.device)
        return nn.functional.pad(episode.query_prior + raised, (0, len(model.head.auxiliary)))


def _expected(kind: TaskKind, prior: Float[Tensor, "users shots"]) -> tuple[Float[Tensor, "users shots"] | None, Tensor]:
    """The label that a prior expects, and by how much that moves with the prior; None where a prior means nothing."""
    if kind == REGRESSION:
        return prior, torch.ones_like(prior)
    chance = prior.sigmoid()
    return (chance if kind == BINARY else None), chance * (1 - chance)


def _ratio(up: Tensor, down: Tensor) -> Tensor:
    return torch.where(down > 0, up / torch.where(down > 0, down, 1.0), 0.0)
