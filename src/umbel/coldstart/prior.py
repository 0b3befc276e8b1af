"""What is known of an item before anyone is asked: its shrunk mean label among training rows, as an offset of the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Float, Int, Int64

from umbel.data.episodes import item_field
from umbel.data.split import uniform
from umbel.data.table import Table
from umbel.kinds import BINARY, REGRESSION
from umbel.schema import Task

SHRINK = 10.0
FOLDS = 5


@final
@dataclass(frozen=True)  # without slots, so that the mean of all is summed once
class ItemMeans:
    """Sums and counts of every task's labels by item and by fold of training users, and the means of all.

    `m_i = (sum of labels + SHRINK * mean of all) / (count + SHRINK)`. A training row is told by the other folds' users alone,
    so that no row knows its own label; any other row by all. An unknown item has the mean of all. A regression's offset is `m_i`,
    an event's is its logit, any other task's is 0.
    """

    tasks: tuple[Task, ...]
    sums: Float[np.ndarray, "folds items tasks"]
    counts: Float[np.ndarray, "folds items tasks"]
    shrink: float = SHRINK

    @staticmethod
    def of(table: Table, *, items: bool = True, shrink: float = SHRINK) -> ItemMeans:
        """Those of a table's training rows; without `items` every item has the mean of all.

        :raises UserError: if no id field reads the log's item column.
        """
        name = item_field(table)
        codes = table.column(name, "train") if items else np.zeros(len(table.parts["train"]), np.int64)
        size = table.encoder.vocabularies[table.schema.field(name).table].size
        labels, seen = table.labels("train")
        place = fold(table.groups("train")) * size + codes
        shape = (FOLDS, size, len(table.schema.tasks))
        sums, counts = (np.stack([np.bincount(place, one[:, task], FOLDS * size) for task in range(shape[2])], 1).reshape(shape)
                        for one in (np.where(seen, labels, 0.0), seen.astype(float)))
        return ItemMeans(table.schema.tasks, sums, counts, shrink)

    def __call__(
        self, items: Int[np.ndarray, "rows"], *, folds: Int64[np.ndarray, "rows"] | None = None
    ) -> Float[np.ndarray, "rows outputs"]:
        """The offsets of rows of these item codes; `folds` leaves out what a row's own fold of users said."""
        sums, counts = self.sums[:, items].sum(0), self.counts[:, items].sum(0)
        if folds is not None:
            sums, counts = sums - self.sums[folds, items], counts - self.counts[folds, items]
        known = (items > 0)[:, None]
        whole = self.overall
        means = (np.where(known, sums, 0.0) + self.shrink * whole) / (np.where(known, counts, 0.0) + self.shrink)
        return np.concatenate([_offset(task, means[:, place]) for place, task in enumerate(self.tasks)], axis=1)

    @cached_property
    def overall(self) -> Float[np.ndarray, "tasks"]:
        """The mean label of every task."""
        total: Float[np.ndarray, "tasks"] = self.sums.sum((0, 1)) / np.maximum(self.counts.sum((0, 1)), 1.0)
        return total


def fold(users: Int64[np.ndarray, "rows"]) -> Int64[np.ndarray, "rows"]:
    """The fold of each raw user, the same on every machine."""
    return (uniform(users, FOLDS) * FOLDS).astype(np.int64)


def _offset(task: Task, means: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows outputs"]:
    found = np.zeros((len(means), task.kind.outputs))
    if task.kind == REGRESSION:
        found[:, 0] = means
    elif task.kind == BINARY:
        held = np.clip(means, 1e-6, 1 - 1e-6)
        found[:, 0] = np.log(held) - np.log1p(-held)
    return found
