"""What the training rows say of each value of a statistic's columns: kept with the encoder, and looked up by the rows that come later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Float64, Int64

from umbel.data.groups import MISSING, stable
from umbel.data.keys import Key, bits, canonical
from umbel.data.lookup import lookup, mixed
from umbel.kinds import BINARY
from umbel.schema import Field, Schema
from umbel.statistic import Statistic

KEY, ROWS = "key", "rows"


@dataclass(frozen=True, slots=True)
class Counted:
    """Of several sets of rows: how many rows, and by task how many labels were seen and their sum."""

    rows: Int64[np.ndarray, "sets"]
    seen: Int64[np.ndarray, "sets tasks"]
    sums: Float64[np.ndarray, "sets tasks"]

    def at(self, places: Int64[np.ndarray, "rows"]) -> Counted:
        """The sets of those places."""
        return Counted(self.rows[places], self.seen[places], self.sums[places])

    def but(self, gone: Bool[np.ndarray, "sets"]) -> Counted:
        """The same sets, those that are gone without rows."""
        stay = ~gone
        return Counted(self.rows * stay, self.seen * stay[:, None], self.sums * stay[:, None])

    def and_none(self) -> Counted:
        """One set more, without rows, at the end: where place -1 leads."""
        return Counted(np.pad(self.rows, (0, 1)), *(np.pad(one, ((0, 1), (0, 0))) for one in (self.seen, self.sums)))


@dataclass(frozen=True, slots=True)
class Rule:
    """How counts become numbers: the prior, and which tasks are binary."""

    prior: float
    binary: Bool[np.ndarray, "tasks"]

    @staticmethod
    def of(schema: Schema, statistic: Statistic) -> Rule:
        """The rule of a statistic."""
        return Rule(statistic.prior, np.array([schema.task(name).kind == BINARY for name in statistic.tasks]))

    def figures(self, own: Counted, whole: Counted) -> Float64[np.ndarray, "rows width"]:
        """The statistic of rows before it is standardised, from their own sets and the whole that each is compared with.

        The mean of a binary task is that of one row more, half an event: it is never 0 or 1. A set without rows gives 0.
        """
        half = np.where(self.binary, 0.5, 0.0)
        mean = (whole.sums + half) / np.maximum(whole.seen + 2 * half, 1)
        held, lost = own.sums + self.prior * mean, own.seen - own.sums + self.prior * (1 - mean)
        with np.errstate(divide="ignore", invalid="ignore"):
            odds = np.log(held / lost) - np.log(mean / (1 - mean))
        found = np.where(self.binary, odds, (own.sums - own.seen * mean) / (own.seen + self.prior))
        return np.concatenate([np.where(own.seen > 0, found, 0.0), np.log1p(own.rows)[:, None]], axis=1)


@dataclass(frozen=True, slots=True)
class Standard:
    """What is taken from each number of a statistic, and what the rest is divided by.

    A task's number is divided by its root mean square over the training rows that see any label, so that a pair which few rows have
    does not tower; the mean of all stays 0. The count loses its mean and is divided by its deviation, at least log 2: the step of one row.
    """

    mean: Float64[np.ndarray, "width"]
    sd: Float64[np.ndarray, "width"]

    @staticmethod
    def of(figures: Float64[np.ndarray, "rows width"], own: Counted) -> Standard:
        """Of the training rows and what they see."""
        tasks, count = figures[:, :-1], figures[:, -1]
        squares = np.square(tasks).sum(axis=0) / np.maximum((own.seen > 0).sum(axis=0), 1)
        scale = np.where(squares > 1e-12, np.sqrt(squares), 1.0)
        mean = np.append(np.zeros(len(scale)), count.mean())
        return Standard(mean, np.append(scale, max(count.std(), np.log(2.0))))

    def __call__(self, figures: Float64[np.ndarray, "rows width"]) -> Float32[np.ndarray, "rows width"]:
        """Standardised."""
        found: Float32[np.ndarray, "rows width"] = ((figures - self.mean) / self.sd).astype(np.float32)
        return found


class Totals:
    """All training rows by key, and what a row that comes later reads of them: the same in service as in evaluation.

    `kinds` are the types in which the columns are compared, `keys` the distinct keys in order.
    """

    def __init__(
        self,
        rule: Rule,
        kinds: Sequence[Key],
        *,
        keys: Int64[np.ndarray, "keys"],
        counted: Counted,
        whole: Counted,
        standard: Standard,
    ) -> None:
        self.rule, self.kinds, self.keys, self.counted = rule, tuple(kinds), keys, counted
        self.whole, self.standard = whole, standard
        self._sets = counted.and_none()
        self._lookup = lookup(keys)

    @staticmethod
    def none(schema: Schema, field: Field, kinds: Sequence[Key]) -> Totals:
        """Before anything is counted."""
        statistic = _statistic(field)
        tasks = len(statistic.tasks)
        empty, one = (Counted(np.zeros(n, np.int64), np.zeros((n, tasks), np.int64), np.zeros((n, tasks))) for n in (0, 1))
        standard = Standard(np.zeros(tasks + 1), np.ones(tasks + 1))
        return Totals(Rule.of(schema, statistic), kinds, keys=np.zeros(0, np.int64), counted=empty, whole=one, standard=standard)

    def find(self, values: pl.DataFrame) -> Int64[np.ndarray, "rows"]:
        """The key of each row, from the values of the statistic's columns."""
        return keys_of(values, self.kinds)

    def read(self, keys: Int64[np.ndarray, "rows"]) -> Float32[np.ndarray, "rows width"]:
        """The standardised statistic of rows that come after training."""
        places = np.where(keys == MISSING, -1, self._lookup.find(keys)).astype(np.int64)
        return self.standard(self.rule.figures(self._sets.at(places), self.whole))

    def save(self, path: Path) -> None:
        """Write the file that `load` reads, a row a key."""
        tasks = self.counted.seen.shape[1]
        frame = pl.DataFrame({KEY: self.keys, ROWS: self.counted.rows})
        seen = [pl.Series(f"seen:{task}", self.counted.seen[:, task]) for task in range(tasks)]
        sums = [pl.Series(f"sum:{task}", self.counted.sums[:, task]) for task in range(tasks)]
        frame.with_columns(*seen, *sums).write_parquet(path)

    def beside(self) -> dict[str, object]:
        """What stands beside the file, as plain JSON values."""
        whole = [self.whole.rows.tolist(), self.whole.seen.tolist(), self.whole.sums.tolist()]
        standard = [self.standard.mean.tolist(), self.standard.sd.tolist()]
        return {"kinds": [str(kind) for kind in self.kinds], "whole": whole, "standard": standard}

    @staticmethod
    def load(schema: Schema, field: Field, path: Path, *, beside: dict[str, object]) -> Totals:
        """What `save` and `beside` gave."""
        statistic = _statistic(field)
        frame = pl.read_parquet(path, glob=False)
        tasks = range(len(statistic.tasks))
        seen, sums = (np.stack([frame[f"{what}:{task}"].to_numpy() for task in tasks], axis=1) for what in ("seen", "sum"))
        rows, all_seen, all_sums = cast("list[list[float]]", beside["whole"])
        return Totals(
            Rule.of(schema, statistic),
            [Key(kind) for kind in cast("list[str]", beside["kinds"])],
            keys=frame[KEY].to_numpy(),
            counted=Counted(frame[ROWS].to_numpy(), seen, sums),
            whole=Counted(np.array(rows, np.int64), np.array(all_seen, np.int64), np.array(all_sums, np.float64)),
            standard=Standard(*(np.array(one, np.float64) for one in cast("list[list[float]]", beside["standard"]))),
        )


def keys_of(values: pl.DataFrame, kinds: Sequence[Key]) -> Int64[np.ndarray, "rows"]:
    """One number for the values of each row, MISSING where one of them is: the integer itself where there is one column of them.

    Text and several columns are hashed to 64 bits: that two of n distinct ones fall together anywhere has a chance of n^2 / 2^65.
    """
    known = [canonical(column, kind) for column, kind in zip(values, kinds, strict=True)]
    gone = np.any([column.is_null().to_numpy() for column in known], axis=0)
    first, *others = (stable(one) if kind is Key.TEXT else bits(one.fill_null(0)) for one, kind in zip(known, kinds, strict=True))
    for other in others:
        first = mixed((mixed(first, 1) ^ other.view(np.uint64)).view(np.int64), 0).view(np.int64)
    return np.where(gone, np.int64(MISSING), first)


def _statistic(field: Field) -> Statistic:
    assert field.statistic is not None, field.name
    return field.statistic
