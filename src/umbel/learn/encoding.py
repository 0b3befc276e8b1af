"""What kind of user the support tells, as one more field of every row: so the model stays a model of single rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from umbel.learn.episode import Episode
from umbel.learn.members import Members
from umbel.nn.avae import AttentionVae, Kind
from umbel.nn.recommender import Recommender

TASTE = "@taste"  # the vector field that holds z


@dataclass(frozen=True, slots=True)
class Reads:
    """Places among the schema's fields: those that say who a user is, and those that say what an item is."""

    users: tuple[int, ...]
    items: tuple[int, ...]


@final
class Encoding(nn.Module):
    """Writes z of each member into the field `TASTE` of its rows: drawn while training, the mean in evaluation.

    z of support and query rows alike is told by the support's items. If `transductive`, query rows have that of the query's items,
    as in the published code; if `noisy`, z is drawn in evaluation, too.
    """

    def __init__(self, vae: AttentionVae, reads: Reads, *, transductive: bool = False, noisy: bool = False) -> None:
        super().__init__()
        self.vae, self.reads, self.transductive, self.noisy = vae, reads, transductive, noisy

    def forward(self, model: Recommender, episode: Episode, members: Members) -> tuple[Episode, Float[Tensor, "users"]]:
        """The episode with the field, and the divergence of the user's own z from the prior."""
        support, query = _with(episode, [model.table.new_zeros(*shape, model.schema.field(TASTE).size)
                                         for shape in (episode.support_shape, episode.query_shape)]).seen()
        user = self._users(support, query, members)
        kind = self.vae(user, self._items(support), members.marks(members.support))
        drawn = self._z(kind)
        asked = drawn
        if self.transductive:
            asked = self._z(self.vae(user, self._items(query), members.marks(members.query)))
        own = [_each(z, whose.clamp(min=0)) for z, whose in ((drawn, members.support), (asked, members.query))]
        return _with(episode, own), kind.divergence()[:, 0]

    def _z(self, kind: Kind) -> Float[Tensor, "users members latent"]:
        return kind.drawn() if self.training or self.noisy else kind.mean

    def _users(self, support: Tensor, query: Tensor, members: Members) -> Float[Tensor, "users members width"]:
        """Who each member is: the mean over its rows of what never changes in them; the user itself is told by the query."""
        if not self.reads.users:
            return support.new_ones(len(support), members.count, 1)
        own = support[:, :, :, list(self.reads.users)].flatten(2)
        marks = members.marks(members.support)
        found = marks @ own / marks.sum(2, keepdim=True).clamp(min=1)
        first = query[:, :1, :, list(self.reads.users)].flatten(2)
        return torch.cat([first, found[:, 1:]], 1)

    def _items(self, seen: Tensor) -> Float[Tensor, "users rows width"]:
        return seen[:, :, :, list(self.reads.items)].flatten(2)


def _with(episode: Episode, taste: list[Float[Tensor, "users _ latent"]]) -> Episode:
    """The episode with the field in support and query rows."""
    support = episode.support._replace(fields={**episode.support.fields, TASTE: taste[0]})
    return replace(episode, support=support, query={**episode.query, TASTE: taste[1].flatten(0, 1)})


def _each(z: Float[Tensor, "users members latent"], member: Int[Tensor, "users rows"]) -> Float[Tensor, "users rows latent"]:
    """The z of each row's member."""
    return z.gather(1, member[..., None].expand(*member.shape, z.shape[2]))
