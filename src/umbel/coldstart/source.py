"""Episodes of a table as batches: what training draws afresh every epoch, and what judging reads in one fixed order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from umbel.coldstart.prior import ItemMeans, fold
from umbel.data.batch import Batch
from umbel.data.episodes import PADDING, Drawer, Episodes, Protocol, Rows, afresh, episodes, item_field
from umbel.data.shots import Shots, episode_batch, even, gather
from umbel.data.table import Table

Marks = Bool[np.ndarray, "episodes"]


@dataclass(frozen=True, slots=True)
class Reader:
    """Turns episodes of a table into batches; `means` give every row its prior."""

    table: Table
    means: ItemMeans

    def batch(self, own: Episodes, *, new: Marks | None = None, known: Marks | None = None) -> Batch:
        """One batch of all of them; where a mark says so, the items are read as `new`, or the user as `known`."""
        mark = None if known is None else torch.from_numpy(known)
        return episode_batch(self.shots(own.support, new=new), self.shots(own.query, new=new), _places(own.query), known=mark)

    def shots(self, rows: Rows, *, new: Marks | None = None) -> Shots:
        """Padded rows with labels, weights and priors."""
        fields, labels, seen = gather(self.table, rows)
        if new is not None and new.any():
            name = item_field(self.table)
            fields[name] = torch.where(torch.from_numpy(new)[:, None], 0, fields[name])
        return Shots(fields, labels, seen, even(seen), torch.from_numpy(self._prior(rows, fields)).float())

    def _prior(self, rows: Rows, fields: dict[str, Tensor]) -> Float[np.ndarray, "users shots outputs"]:
        items = fields[item_field(self.table)].numpy().ravel()
        trained = self.table.parts["train"]
        inside = (rows.ravel() >= trained.start) & (rows.ravel() < trained.stop)
        found = self.means(items)
        if inside.any():
            found[inside] = self.means(items[inside], folds=fold(self.table.users(rows.ravel()[inside])))
        return found.reshape(*rows.shape, found.shape[1])


@dataclass(frozen=True, slots=True)
class Training:
    """Batches of training users; every epoch divides their rows anew into support and query, as `protocol` says.

    In a share `forget` of the episodes the items are new: their ids read as unknown and their priors as the mean of all, so that a
    model learns to do without (as DropoutNet does with ids, https://doi.org/10.5555/3295222.3295249). In a share `ids` of them the
    user is read by id, so that users who have stayed for long get embeddings of their own; in the others nobody knows the user.
    """

    reader: Reader
    protocol: Protocol
    size: int = 32
    seed: int = 1
    forget: float = 0.0
    ids: float = 0.0

    def __call__(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch, from a step on."""
        own = self.episodes(epoch)
        for places, new, known in self.drawn(own, epoch, start):
            yield self.reader.batch(own.of(places), new=new, known=known)

    def episodes(self, epoch: int) -> Episodes:
        """All training users, in one order, as this epoch divides their rows."""
        return episodes(self.reader.table, "train", afresh(self.protocol, epoch))

    def drawn(self, own: Episodes, epoch: int, start: int) -> Iterator[tuple[Int64[np.ndarray, "some"], Marks, Marks]]:
        """The places of each batch, which of its users meet new items, and which are read by id, from a step on."""
        for step, places in enumerate(Drawer(own.sizes, self.size, self.seed)(epoch, start), start=start):
            new, known = np.random.default_rng([self.seed, epoch, step]).random((2, len(places)))
            yield places, new < self.forget, known < self.ids


def in_order(reader: Reader, own: Episodes, size: int = 256) -> Iterator[tuple[Int64[np.ndarray, "some"], Batch]]:
    """All episodes once, those of like lengths together, with their places."""
    order = np.argsort(own.sizes, kind="stable")
    for start in range(0, len(order), size):
        places = order[start : start + size]
        yield places, reader.batch(own.of(places))


def _places(rows: Rows) -> Tensor:
    return torch.from_numpy(np.where(rows == PADDING, 0, rows).ravel())
