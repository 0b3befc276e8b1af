"""The first pass over a log: sizes of the parts, label checks, and counts and moments of the training rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from jaxtyping import Int8

from umbel.data.derive import field_values
from umbel.data.frequency import COUNT, VALUE, Frequencies, in_order
from umbel.data.keys import Key, canonical, common, key_of
from umbel.data.labels import contradictions, events
from umbel.data.split import PARTS
from umbel.data.values import as_lists, plain_numbers
from umbel.data.vocab import Encoder, Scale, Vocabulary
from umbel.errors import UserError
from umbel.schema import Field, FieldKind, Schema

LIMIT = 0.001  # share of rows whose label may contradict what it is given


class Tally:
    """What the first pass gathers, batch by batch."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self.sizes = [0] * len(PARTS)
        self.rows = 0
        self._values: dict[str, Frequencies] = {field.name: Frequencies() for field in schema.fields if field.coded}
        self._moments: dict[str, _Moments] = {field.name: _Moments() for field in schema.fields if field.kind is FieldKind.NUMBER}
        shape = (len(PARTS), len(schema.tasks))
        self._seen, self._low, self._high = np.zeros(shape, np.int64), np.full(shape, np.inf), np.full(shape, -np.inf)
        self._against = np.zeros(len(schema.tasks), np.int64)

    def add(self, frame: pl.DataFrame, parts: Int8[np.ndarray, "rows"]) -> None:
        """Take a batch of raw rows and their parts (-1 = dropped)."""
        self.rows += frame.height
        labels = events(frame, self._schema)
        self._against += contradictions(labels[parts >= 0], self._schema)
        for part in range(len(PARTS)):
            mine = labels[parts == part]
            self.sizes[part] += len(mine)
            self._seen[part] += (~np.isnan(mine)).sum(axis=0)
            self._low[part] = np.fmin(self._low[part], np.fmin.reduce(mine, axis=0, initial=np.inf))
            self._high[part] = np.fmax(self._high[part], np.fmax.reduce(mine, axis=0, initial=-np.inf))
        training = field_values(frame.filter(pl.Series(parts == 0)), self._schema.fields)
        for name, values in self._values.items():
            values.add(_flat(training[name], self._schema.field(name)))
        for name, moments in self._moments.items():
            moments.add(plain_numbers(training[name], self._schema.field(name)))

    @property
    def dropped(self) -> int:
        """Rows that belong to no part."""
        return self.rows - sum(self.sizes)

    def check(self) -> None:
        """:raises UserError: for an empty part, a task without labels or with one class in a part, or labels against their `given`."""
        for part, size in zip(PARTS, self.sizes, strict=True):
            if size == 0:
                raise UserError(f"split: no row falls into {part} (of {self.rows})", mend="move the split's borders")
        for column, task in enumerate(self._schema.tasks):
            for place, part in enumerate(PARTS):
                if self._seen[place, column] == 0:
                    raise UserError(f"tasks.{task.name}: no label is seen in {part}", mend="check the label column, or move the split")
                if task.kind.whole and self._low[place, column] == self._high[place, column]:
                    what = f"tasks.{task.name}: every label in {part} is {self._low[place, column]:g}"
                    raise UserError(what, mend="check the label column, or move the split")
            against = int(self._against[column])
            if against > LIMIT * sum(self.sizes):
                raise UserError(
                    f"tasks.{task.name}: {against} of {sum(self.sizes)} rows hold it although {task.given!r} does not hold",
                    mend=f"drop given = {task.given!r}: it is no sample space of this task",
                )

    @property
    def against(self) -> dict[str, int]:
        """By task, the rows that contradict its `given`."""
        return {task.name: int(count) for task, count in zip(self._schema.tasks, self._against, strict=True)}

    def encoder(self) -> Encoder:
        """The encoder that these counts and moments make."""
        vocabularies = {table: self._vocabulary(table) for table in self._schema.tables}
        return Encoder(self._schema, vocabularies, {name: moments.scale() for name, moments in self._moments.items()})

    def _vocabulary(self, table: str) -> Vocabulary:
        sharing = [field.name for field in self._schema.fields if field.coded and field.table == table]
        counted = {name: self._values.pop(name).counted() for name in sharing}
        key = common([key_of(frame[VALUE]) for frame in counted.values()])
        merged = _merged(counted, key).with_columns(pl.sum_horizontal(sharing).alias(COUNT))
        kept = merged.filter(pl.col(COUNT) >= self._schema.field(table).min_count).select(VALUE, COUNT, *sharing)
        return Vocabulary(in_order(kept).rechunk())


def _merged(counted: Mapping[str, pl.DataFrame], key: Key) -> pl.DataFrame:
    """The values of all fields that share a table, with one count column a field."""
    frames = [frame.select(canonical(frame[VALUE], key), pl.col(COUNT).alias(name)) for name, frame in counted.items()]
    merged = frames[0]
    for frame in frames[1:]:
        merged = merged.join(frame, on=VALUE, how="full", coalesce=True, maintain_order="left_right")
    return merged.with_columns(pl.col(list(counted)).fill_null(0))


class _Moments:
    """Count, mean and sum of squared deviations, merged batch by batch (Chan, Golub, LeVeque 1979)."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        known = values[~np.isnan(values)]
        if not len(known):
            return
        mean = float(known.mean())
        total, shift = self._count + len(known), mean - self._mean
        self._squares += float(((known - mean) ** 2).sum()) + shift**2 * self._count * len(known) / total
        self._mean += shift * len(known) / total
        self._count = total

    def scale(self) -> Scale:
        sd = (self._squares / self._count) ** 0.5 if self._count else 0.0
        return Scale(self._mean, sd if sd > 0 else 1.0)


def _flat(raw: pl.Series, field: Field) -> pl.Series:
    return as_lists(raw, field).explode(empty_as_null=False, keep_nulls=False) if field.many else raw
