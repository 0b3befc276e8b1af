"""Batches of a part of a table, shuffled by epoch, startable at any step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from umbel.data.batch import Batch
from umbel.data.table import Table


@dataclass(frozen=True, slots=True)
class Loader:
    """The batches of one part: every row once an epoch, in an order that `seed` and the epoch alone decide.

    Starting an epoch at step s gives exactly the batches that a whole epoch gives from s on. The last batch may be short.
    """

    table: Table
    part: str
    size: int
    seed: int = 0
    shuffle: bool = True

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return -(-len(self.table.parts[self.part]) // self.size)

    def __call__(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from a step on."""
        rows = self.table.parts[self.part]
        order = self._order(epoch, len(rows)) if self.shuffle else torch.arange(len(rows))
        for step in range(start, self.steps):
            yield self.table.batch(order[step * self.size : (step + 1) * self.size].long() + rows.start)

    def _order(self, epoch: int, rows: int) -> Int[Tensor, "rows"]:
        """A permutation; of 32-bit numbers where they suffice, which halves its memory and a third of its time."""
        generator = torch.Generator()
        generator.manual_seed(int(np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1)))
        return torch.randperm(rows, generator=generator, dtype=torch.int32 if rows < 2**31 else torch.int64)
