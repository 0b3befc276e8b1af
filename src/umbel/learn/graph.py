"""Attributes of users and of the items they met, made more telling by the company they keep: propagation inside a group of users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from umbel.learn.episode import Episode
from umbel.learn.members import Members
from umbel.nn.propagate import Propagation
from umbel.nn.recommender import Recommender


@dataclass(frozen=True, slots=True)
class Between:
    """The fields whose values are nodes: those of a user on one side, those of an item on the other."""

    users: tuple[str, ...]
    items: tuple[str, ...]


@final
class Graph(nn.Module):
    """Gives each group copies of the embedding rows of its values, propagated over its support, which are read in their place.

    A value of a user and one of an item are linked as often as a support row has both; unknown values have no links, and a value of
    the query that the support has not stays as it is. The `whole` episode is a group, its others included, or each member is one.
    `only_training` leaves episodes alone in evaluation, as the published code does.
    """

    def __init__(self, between: Between, propagation: Propagation, *, whole: bool, only_training: bool = False) -> None:
        super().__init__()
        self.between, self.propagation, self.whole, self.only_training = between, propagation, whole, only_training

    def forward(self, model: Recommender, episode: Episode, members: Members) -> Episode:
        """The episode with the table lengthened and places that lead there."""
        if self.only_training and not self.training:
            return episode
        support, query = episode.placed()
        users, items = (_slots(model, names) for names in (self.between.users, self.between.items))
        size = len(episode.rows["table"])
        known = _known(episode.support.fields, self.between.users), _known(episode.support.fields, self.between.items)
        keys = [self._keys(support["place"][..., slots], members.support, (members.count, size)) for slots in (users, items)]
        there = [which & (members.support >= 0)[..., None] for which in known]
        pairs, nodes = _linked(keys, there)
        if not len(nodes):
            return episode
        table = episode.rows["table"]
        table = torch.cat([table, self.propagation(table.index_select(0, nodes % size), pairs)])
        slots = torch.cat([users, items])
        turned = []
        for own, whose in ((query["place"], members.query), (support["place"], members.support)):
            asked = self._keys(own[..., slots], whose.clamp(min=0), (members.count, size))
            turned.append(_turned(own, slots, asked, nodes=nodes, size=size).flatten(0, 1))
        return replace(episode, rows={**episode.rows, "table": table, "place": torch.cat(turned)})

    def _keys(self, place: Tensor, member: Int[Tensor, "users rows"], sizes: tuple[int, int]) -> Int[Tensor, "users rows slots"]:
        """One number for a group and a place in the table, from how many members and places there are."""
        group = torch.arange(len(place), device=place.device)[:, None]
        group = group if self.whole else group * sizes[0] + member
        return group[..., None] * sizes[1] + place


def _turned(place: Tensor, slots: Tensor, keys: Tensor, *, nodes: Tensor, size: int) -> Int[Tensor, "users rows slots"]:
    """Places, those of nodes moved to the group's own rows, which begin at `size`."""
    found = torch.searchsorted(nodes, keys.contiguous()).clamp(max=len(nodes) - 1)
    own = place[..., slots]
    moved = place.clone()
    moved[..., slots] = torch.where((nodes[found] == keys) & (own >= 0), size + found, own)
    return moved


def _linked(keys: list[Tensor], there: list[Bool[Tensor, "users rows _"]]) -> tuple[Int[Tensor, "two edges"], Int[Tensor, "nodes"]]:
    """The edges, as pairs of places among the nodes, and the nodes' keys in order."""
    both = there[0].unsqueeze(3) & there[1].unsqueeze(2)
    ends = torch.stack([keys[0].unsqueeze(3).expand(both.shape)[both], keys[1].unsqueeze(2).expand(both.shape)[both]])
    nodes, pairs = torch.unique(ends, return_inverse=True)
    return pairs, nodes


def _slots(model: Recommender, names: tuple[str, ...]) -> Int[Tensor, "slots"]:
    """The columns of the places that fields read."""
    owners = [field.name for field in model.places.fields for _ in range(field.size)]
    columns = [slot for name in names for slot, owner in enumerate(owners) if owner == name]
    return torch.tensor(columns, dtype=torch.int64, device=model.table.device)


def _known(fields: Mapping[str, Tensor], names: tuple[str, ...]) -> Bool[Tensor, "users rows slots"]:
    """Where the codes of fields are values that training had."""
    columns = [fields[name] for name in names]
    return torch.cat([(one if one.ndim == 3 else one[..., None]) > 0 for one in columns], 2)
