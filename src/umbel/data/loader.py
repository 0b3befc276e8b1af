"""Batches of a part of a table, shuffled by epoch, startable at any step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

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
        if self.shuffle:
            order = rows.start + np.random.default_rng([self.seed, epoch]).permutation(len(rows))
        else:
            order = np.arange(rows.start, rows.stop)
        for step in range(start, self.steps):
            yield self.table.batch(order[step * self.size : (step + 1) * self.size])
