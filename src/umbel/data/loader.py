"""Batches of a part of a table, shuffled by epoch, startable at any step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int, Int64
from torch import Tensor

from umbel.data import shuffle
from umbel.data.batch import Batch
from umbel.data.table import Table


@dataclass(frozen=True, slots=True)
class Replay:
    """Rows of a part that a model has seen already (`old`): of these a `share` is drawn anew for each epoch, of the others all."""

    old: Bool[np.ndarray, "rows"]
    share: float

    @property
    def count(self) -> int:
        """Rows an epoch."""
        return int((~self.old).sum()) + round(self.share * int(self.old.sum()))

    def rows(self, generator: torch.Generator) -> Int[Tensor, "some"]:
        """The places of an epoch's rows, in order."""
        old = torch.from_numpy(np.flatnonzero(self.old))
        drawn = old[torch.randperm(len(old), generator=generator)[: round(self.share * len(old))]]
        return torch.cat([torch.from_numpy(np.flatnonzero(~self.old)), drawn]).sort().values


@dataclass(frozen=True, slots=True)
class Loader:
    """The batches of one part: every row once an epoch, in an order that `seed` and the epoch alone decide.

    With a `replay`, of the rows that were seen before only a share. A `window` of rows, for a table that memory does not hold, is
    shuffled by itself and lies in a few long pieces (`umbel.data.shuffle.windows`), and the next one is read while a window is
    trained on; 0 shuffles the whole part. `together` keeps the rows of a request (of a user, where requests
    are not known) one after the other, so that a batch has whole lists, but for those at its borders. Starting an epoch at step s gives
    exactly the batches that a whole epoch gives from s on. The last batch may be short.
    """

    table: Table
    part: str
    size: int
    seed: int = 0
    shuffle: bool = True
    replay: Replay | None = None
    together: bool = False
    window: int = 0

    @property
    def rows(self) -> int:
        """Rows an epoch."""
        return len(self.table.parts[self.part]) if self.replay is None else self.replay.count

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return -(-self.rows // self.size)

    def __call__(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from a step on."""
        first = self.table.parts[self.part].start
        generator = torch.Generator()
        generator.manual_seed(int(np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1)))
        order = self._order(generator) if self.shuffle else torch.arange(self.rows)
        places = None if self.replay is None else self.replay.rows(generator)
        if self.together:
            order = _together(order, self.table.lists(self.part)[... if places is None else places.numpy()])
        for step in range(start, self.steps):
            for some in self._soon(step, start):
                self.table.expect(_at(order[some], places, first).numpy())
            yield self.table.batch(_at(order[step * self.size : (step + 1) * self.size], places, first))

    def _order(self, generator: torch.Generator) -> Int[Tensor, "rows"]:
        if self.window:
            return shuffle.windows(self.rows, generator, window=self.window, batch=self.size)
        return shuffle.whole(self.rows, generator)

    def _soon(self, step: int, start: int) -> Iterator[slice]:
        """The parts of the order to be read from the disk by now: at each step that enters a window, the next one."""
        if not self.window:
            return
        now = step * self.size // self.window
        if step == start:
            yield slice(now * self.window, (now + 1) * self.window)
        if step == start or now > (step - 1) * self.size // self.window:
            yield slice((now + 1) * self.window, (now + 2) * self.window)


def _at(order: Int[Tensor, "some"], places: Int[Tensor, "rows"] | None, first: int) -> Int64[Tensor, "some"]:
    """Row numbers in the table."""
    return (order.long() if places is None else places[order.long()]) + first


def _together(order: Int[Tensor, "rows"], lists: Int64[np.ndarray, "rows"]) -> Int[Tensor, "rows"]:
    """The same rows, each list where the first of its rows in the log stood: a long list comes no earlier than a short one."""
    _, first, code = np.unique(lists, return_index=True, return_inverse=True)
    place = np.empty(len(order), np.int64)
    place[order.numpy()] = np.arange(len(order))
    return torch.from_numpy(np.argsort(place[first][code], kind="stable"))
