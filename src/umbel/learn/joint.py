"""Gradient steps that a user and its collaborators take together, on profiles that the group has enriched: CCML's inner loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from umbel.learn.adapt import Steps
from umbel.learn.encoding import Encoding
from umbel.learn.episode import Adapter, Episode
from umbel.learn.graph import Graph
from umbel.learn.members import Members
from umbel.learn.offset import offsets
from umbel.nn.contrast import contrast
from umbel.nn.recommender import Recommender


@dataclass(frozen=True, slots=True)
class Price:
    """What a user's representation costs beside the losses: `kl` times its divergence, `contrast` times InfoNCE at `temperature`."""

    kl: float = 0.0
    contrast: float = 0.0
    temperature: float = 0.2

    @property
    def free(self) -> bool:
        """Whether nothing is to be paid."""
        return not (self.kl or self.contrast)


class Read(NamedTuple):
    """An episode ready for gradient steps, and what each user costs (none where nothing does)."""

    episode: Episode
    cost: Float[Tensor, "users"] | None


class Enriched(NamedTuple):
    """What makes an episode tell more before the steps."""

    graph: Graph | None = None
    encoding: Encoding | None = None


@final
class Joint(Adapter):
    """Propagation, then the encoding, then `Steps` over the support, in which collaborators' rows stand beside the user's own.

    With `shrink` every member's offset is put under its rows, as `umbel.learn.offset.Centred` does it for one user. Collaborators of
    training users are kept here, chosen at the start of a round, so that a checkpoint holds them: `who` by place among training
    users (-1: nobody) and `share`.
    """

    who: Tensor
    share: Tensor

    def __init__(
        self, steps: Steps, chosen: tuple[int, int], *, enriched: Enriched, price: Price, shrink: float | None = None,
    ) -> None:
        super().__init__()
        self.steps, self.graph, self.encoding, self.price, self.shrink = steps, enriched.graph, enriched.encoding, price, shrink
        self.costs = not price.free
        self.register_buffer("who", torch.full(chosen, -1))
        self.register_buffer("share", torch.zeros(chosen))

    @property
    def plain(self) -> Steps | None:
        """The steps, where nothing is done to an episode before them: what a bundle can take for a user alone."""
        return self.steps if self.graph is None and self.encoding is None and self.shrink is None else None

    @property
    def kept(self) -> float:
        """How many collaborators a training user has, on average."""
        return float((self.who >= 0).sum() / max(len(self.who), 1))

    def forward(self, model: Recommender, episode: Episode) -> Float[Tensor, "users shots outputs"]:
        """Logits of the query, prior included; then what each user costs."""
        read = self.read(model, episode)
        logits: Tensor = self.steps(model, read.episode)
        if read.cost is None:
            return logits
        return torch.cat([logits, read.cost[:, None, None].expand(*logits.shape[:2], 1)], 2)

    def read(self, model: Recommender, episode: Episode) -> Read:
        """The episode centred, propagated and encoded."""
        members = Members.of(episode)
        cost = episode.support.weight.new_zeros(len(episode.support.weight))
        if self.shrink is not None:
            episode = _centred(episode, members, self.shrink)
        if self.graph is not None:
            episode = self.graph(model, episode, members)
        if self.encoding is not None:
            episode, divergence = self.encoding(model, episode, members)
            cost = cost + self.price.kl * divergence
        if self.price.contrast:
            cost = cost + self.price.contrast * _unlike(episode, members, self.price.temperature)
        return Read(episode, None if self.price.free else cost)


def _centred(episode: Episode, members: Members, shrink: float) -> Episode:
    """Priors raised by the offset of the member that a row belongs to: in the support by what its other rows say, in the query by all."""
    support, prior, query = episode.support, episode.support.prior, episode.query_prior
    marks = members.marks(members.support)
    for member in range(members.count):
        mark = marks[:, member]
        weight = mark / mark.sum(1, keepdim=True).clamp(min=1)
        found = offsets(episode.model.schema, support._replace(weight=weight), shrink=shrink)
        prior = prior + mark[..., None] * found.others
        query = query + (members.query == member)[..., None] * found.whole
    return replace(episode, support=support._replace(prior=prior), query_prior=query)


def _unlike(episode: Episode, members: Members, temperature: float) -> Float[Tensor, "users"]:
    """InfoNCE of each user with its collaborators, each told by the mean of what the views see of its rows."""
    support, _ = episode.seen()
    marks = members.marks(members.support)
    there = marks.sum(2)
    found = marks @ support.flatten(2) / there.clamp(min=1)[..., None]
    return contrast(found[:, 0], found[:, 1:], there[:, 1:] > 0, temperature=temperature)
