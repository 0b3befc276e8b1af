"""An adapter whose start is the user's own before any step: layers whose units open and close by what friends are like."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import vmap

from umbel.data.shots import divided
from umbel.learn.adapt import Inner, Known, answer
from umbel.learn.episode import Adapter, Episode
from umbel.nn.offset import raised
from umbel.nn.recommender import Recommender

HIDDEN = 16  # numbers of a taste
NOBODY = -1e9  # a finite score, for the softmax over nobody has no derivative otherwise


@final
class Gated(Adapter):
    """`theta_u = theta * 2 sigmoid(W [traits; sum_j a_j f_j])` unit by unit, `a = softmax_j(f_j . V traits / sqrt(hidden))`, then steps.

    `f_j` is the learned taste of friend j, a training user; without friends the sum is 0. `friends` is the field that names them, and
    `traits` the places of the fields that tell who a user is.
    """

    lost: Tensor

    def __init__(
        self, model: Recommender, inner: Inner, *, friends: str, users: int, traits: tuple[int, ...], rate: float,
    ) -> None:
        super().__init__()
        self.inner, self.friends, self.traits, self.rate = inner, friends, traits, rate
        width = len(traits) * model.views.views * model.views.dim or 1
        self.shapes = {name: _units(one) for name, one in inner.scope.chosen(model).items()}
        self.taste = nn.Embedding(users, HIDDEN)
        self.ask = nn.Linear(width, HIDDEN)
        self.gate = nn.Linear(width + HIDDEN, sum(map(math.prod, self.shapes.values())))
        nn.init.normal_(self.gate.weight, std=0.01)
        nn.init.zeros_(self.gate.bias)
        self.register_buffer("lost", torch.zeros((), dtype=torch.int64))

    def forward(self, model: Recommender, episode: Episode) -> Float[Tensor, "users shots outputs"]:
        """Each user's logits of the query, prior included."""
        support, query = episode.seen()
        friends = divided(episode.query[self.friends], episode.query_shape)[:, 0]
        friends = torch.where(episode.support.weight.sum(1, keepdim=True) > 0, friends, -1)
        who = query[:, 0, :, list(self.traits)].flatten(1) if self.traits else query.new_ones(len(query), 1)
        opened = 2 * self.gate(torch.cat([who, self._social(who, friends)], 1)).sigmoid()
        shots = episode.support
        known = Known(support, shots.labels, shots.seen, shots.weight, shots.prior)
        logits, lost = vmap(self._one(model), randomness="different")(known, query, opened)
        self.lost += lost.sum()
        return raised(logits, episode.query_prior)

    def _one(self, model: Recommender) -> Any:  # noqa: ANN401
        shared = self.inner.scope.chosen(model)
        rates = dict.fromkeys(shared, model.table.new_tensor(self.rate))

        def one(known: Known, query: Tensor, opened: Tensor) -> tuple[Tensor, Tensor]:
            parts = torch.split(opened, [math.prod(shape) for shape in self.shapes.values()])
            lost = opened.new_zeros((), dtype=torch.int64)
            own = {name: shared[name] * part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
            if len(known.labels) and self.inner.steps:
                own, numbers = self.inner.descend(model, own, known, rates=rates)
                lost = (~numbers).sum()
            return answer(model, own, query), lost

        return one

    def _social(self, who: Float[Tensor, "users width"], friends: Int[Tensor, "users most"]) -> Float[Tensor, "users hidden"]:
        """What the user's friends are like, as attention reads them."""
        there = friends >= 0
        taste = self.taste(friends.clamp(min=0))
        score = (taste @ self.ask(who)[:, :, None])[..., 0] / math.sqrt(taste.shape[2])
        share = torch.where(there, score, NOBODY).softmax(1)
        social: Tensor = (torch.where(there, share, 0.0)[..., None] * taste).sum(1)
        return social


def _units(parameter: Tensor) -> tuple[int, ...]:
    """The shape of a number for each output of a map: of `out`, `out in`, or `members in out`."""
    return (len(parameter), *[1] * (parameter.ndim - 1)) if parameter.ndim < 3 else (len(parameter), 1, parameter.shape[2])
