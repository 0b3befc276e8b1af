"""Training users with a similar taste: those who gave the items of a user's support the same level of rating."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64

from umbel.coldstart.benefit import Scale
from umbel.data.batch import Batch
from umbel.data.episodes import item_field
from umbel.data.shots import LABELS, SEEN, SUPPORT, WEIGHT
from umbel.data.table import Table

FRIENDS = "@friends"  # places among training users, the most agreeing first, -1 = nobody; the same in all rows of a user


@dataclass(frozen=True, slots=True)
class Friends:
    """Who gave an item a level, among training users: `raters[starts[key] : starts[key + 1]]` of `key = item * levels + level`.

    A user's friends are the `most` training users who agree on the most items of the support; the earlier one where two agree
    on as many. Nobody is a friend of oneself, and none is who agrees on nothing.
    """

    users: Int64[np.ndarray, "users"]
    starts: Int64[np.ndarray, "keys"]
    raters: Int64[np.ndarray, "rows"]
    scale: Scale
    item: str
    most: int

    @staticmethod
    def of(table: Table, most: int) -> Friends:
        """Those of a table's training rows; :raises UserError: if no task has levels."""
        scale, item = Scale.of(table), item_field(table)
        labels, seen = table.labels("train")
        users, who = np.unique(table.groups("train"), return_inverse=True)
        items = table.column(item, "train").astype(np.int64)
        keys = items * scale.levels + scale.level(torch.from_numpy(labels[:, scale.task])).numpy()
        kept = np.flatnonzero(seen[:, scale.task] & (items > 0))
        order = kept[np.argsort(keys[kept], kind="stable")]
        size = table.encoder.vocabularies[table.schema.field(item).table].size * scale.levels
        starts = np.concatenate([[0], np.cumsum(np.bincount(keys[order], minlength=size))])
        return Friends(users, starts, who[order].astype(np.int64), scale, item, most)

    def joined(self, batch: Batch, users: Int64[np.ndarray, "episodes"]) -> Batch:
        """The batch with the friends of its users; `users` are their raw ids."""
        task = self.scale.task
        items = batch.fields[f"{SUPPORT}{self.item}"].numpy().astype(np.int64)
        known = (items > 0) & (items * self.scale.levels < len(self.starts) - 1)
        told = (batch.fields[SEEN][..., task] & (batch.fields[WEIGHT] > 0)).numpy() & known
        keys = items * self.scale.levels + self.scale.level(batch.fields[LABELS][..., task]).numpy()
        place = np.searchsorted(self.users, users)
        place = np.where(self.users[np.minimum(place, len(self.users) - 1)] == users, place, -1)
        found = np.stack([self._found(own[there], who) for own, there, who in zip(keys, told, place.tolist(), strict=True)])
        friends = torch.from_numpy(found)
        support = friends[:, None].expand(-1, items.shape[1], -1)
        rows = friends.repeat_interleave(len(batch.labels) // len(friends), 0)
        return replace(batch, fields={**batch.fields, FRIENDS: rows, f"{SUPPORT}{FRIENDS}": support})

    def _found(self, keys: Int64[np.ndarray, "shots"], own: int) -> Int64[np.ndarray, "most"]:
        """The friends of one user."""
        met = [self.raters[self.starts[key] : self.starts[key + 1]] for key in keys]
        agreed = np.bincount(np.concatenate(met), minlength=len(self.users)) if met else np.zeros(len(self.users), np.int64)
        if own >= 0:
            agreed[own] = 0
        best = np.argsort(-agreed, kind="stable")[: self.most]
        found = np.full(self.most, -1, np.int64)
        found[: len(best)] = np.where(agreed[best] > 0, best, -1)
        return found
