"""Adapters that give a new user an embedding of its own, where the model would read that of an unknown id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import grad

from umbel.data.shots import Shots, divided
from umbel.learn.adapt import CLIP, Known, cost
from umbel.learn.episode import Adapter, Episode, Untouched
from umbel.nn.offset import raised
from umbel.nn.recommender import Recommender

Seen = Float[Tensor, "users shots views fields dim"]
Home = Float[Tensor, "users views dim"]
HIDDEN = 32


@dataclass(frozen=True, slots=True)
class Spots:
    """Places among the schema's fields: the user's id, what else tells who a user is, and the item's id."""

    user: int
    traits: tuple[int, ...]
    item: int

    def housed(self, seen: Seen, home: Home) -> Seen:
        """The rows with that embedding as their user's."""
        own = home[:, None, :, None].expand(*seen.shape[:3], 1, seen.shape[4])
        return torch.cat([seen[..., : self.user, :], own, seen[..., self.user + 1 :, :]], 3)

    def who(self, query: Seen) -> Float[Tensor, "users width"]:
        """The user's traits, which are the same in every row; a 1 where there are none."""
        if not self.traits:
            return query.new_ones(len(query), 1)
        return query[:, 0, :, list(self.traits)].flatten(1)

    def width(self, model: Recommender) -> int:
        """How many numbers `who` gives."""
        return len(self.traits) * model.views.views * model.views.dim or 1


@final
class MeanUser(Adapter):
    """A new user is the mean of those that the model was trained on, by id; in training everyone is read as the batch says."""

    def __init__(self, spots: Spots) -> None:
        super().__init__()
        self.spots, self.plain = spots, Untouched()

    def forward(self, model: Recommender, episode: Episode) -> Float[Tensor, "users shots outputs"]:
        """The model's logits, with that mean for every user unless it trains."""
        if self.training:
            found: Tensor = self.plain(model, episode)
            return found
        query = episode.asked()
        slots = [field.name for field in model.places.fields for _ in range(field.size)]
        slot = slots.index(model.schema.fields[self.spots.user].name)
        start, size = int(model.places.offsets[slot]), int(model.places.ends[slot])
        known = model.table[start + min(1, size - 1) : start + size]
        home = known.mean(0).view(1, model.views.views, -1).expand(len(query), -1, -1)
        return _answered(model, self.spots.housed(query, home), episode.query_prior)


@final
class Generated(Adapter):
    """An embedding from the user's traits, then one gradient step on that embedding alone: Meta-Embedding.

    `e_0 = G(traits)`, `e_1 = e_0 - rate * grad L(support; e_0)` (clipped), the query under e_1. The cost `share / (1 - share) * L(support;
    e_0)` stands beside the query's loss: together `share * cold + (1 - share) * warm`, but for a factor that Adam does not see.
    """

    def __init__(self, model: Recommender, spots: Spots, *, rate: float, share: float, second: bool) -> None:
        super().__init__()
        self.spots, self.rate, self.share, self.second = spots, rate, share, second
        self.costs = share > 0
        self.generate = _mlp(spots.width(model), model.views.views * model.views.dim)

    def forward(self, model: Recommender, episode: Episode) -> Float[Tensor, "users shots outputs"]:
        """Logits under e_1, and what e_0 costs."""
        support, query = episode.seen()
        home = self.generate(self.spots.who(query)).view(len(query), model.views.views, -1)
        cold = self._cold(home, model, support, shots=episode.support) / len(query)
        logits = _answered(model, self.spots.housed(query, self._stepped(home, model, support, shots=episode.support)), episode.query_prior)
        price = (self.share / (1 - self.share) * cold).expand(*logits.shape[:2], 1)
        return torch.cat([logits, price], 2) if self.costs else logits

    def _cold(self, home: Home, model: Recommender, support: Seen, *, shots: Shots) -> Float[Tensor, ""]:
        """The sum over users of their losses on the support."""
        if not support.shape[1]:
            return home.sum() * 0.0
        told = (self.spots.housed(support, home), shots.labels, shots.seen, shots.weight, shots.prior)
        return cost(model, {}, Known(*(one.flatten(0, 1) for one in told)))

    def _stepped(self, home: Home, model: Recommender, support: Seen, *, shots: Shots) -> Home:
        slope: Tensor = grad(self._cold)(home, model, support, shots=shots)
        slope = slope if self.second else slope.detach()
        square = slope.square().sum((1, 2), keepdim=True)
        scale = (CLIP / square.clamp(min=1e-24).sqrt()).clamp(max=1.0)
        return home - self.rate * torch.where(square.isfinite(), slope * scale, 0.0)


@final
class Warmed(Adapter):
    """The unknown id's embedding, scaled by the user's traits and shifted by the items of the support: Meta Warm Up.

    `e = e_unknown * (1 + scale(traits)) + shift(mean of the items' embeddings)`; without support the mean is 0. No label is read.
    """

    def __init__(self, model: Recommender, spots: Spots) -> None:
        super().__init__()
        self.spots = spots
        own = model.views.views * model.views.dim
        self.scale, self.shift = _mlp(spots.width(model), own), _mlp(own, own)

    def forward(self, model: Recommender, episode: Episode) -> Float[Tensor, "users shots outputs"]:
        """Logits under the warmed embedding."""
        support, query = episode.seen()
        there = (episode.support.weight > 0).to(query.dtype)[..., None]
        items = (support[:, :, :, self.spots.item].flatten(2) * there).sum(1) / there.sum(1).clamp(min=1)
        plain = query[:, 0, :, self.spots.user].flatten(1)
        home = plain * (1 + self.scale(self.spots.who(query))) + self.shift(items)
        return _answered(model, self.spots.housed(query, home.view(len(query), model.views.views, -1)), episode.query_prior)


def _mlp(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, out))


def _answered(model: Recommender, query: Seen, prior: Float[Tensor, "users shots outputs"]) -> Float[Tensor, "users shots outputs"]:
    return raised(divided(model.beyond(query.flatten(0, 1)), (query.shape[0], query.shape[1])), prior)
