"""The first pass over a log: counts and moments of the training rows, and the encoder that they make."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import polars as pl
from jaxtyping import Float64, Int8, Int64

from umbel.data.derive import by_values, evaluate, field_value
from umbel.data.frequency import COUNT, VALUE, Frequencies, in_order
from umbel.data.keys import Key, canonical, common, key_of
from umbel.data.totals import Totals
from umbel.data.values import as_lists, no_infinities, numbers, single
from umbel.data.vocab import Each, Encoder, Scale, Vocabulary
from umbel.schema import Field, FieldKind, Schema


class Tally:
    """What the training rows say about the fields, gathered batch by batch.

    A vocabulary counts the values of every field that shares it, sequences cut to their length; whether a value is kept (`min_count`
    of the field that owns the vocabulary) and its place follow from the sum. Of the fields in `once`, batches hold no value but, in the
    column named there, the row of a table that has it: these rows are counted, and `count` takes the values when all is read.
    """

    def __init__(self, schema: Schema, once: Mapping[str, str] = MappingProxyType({})) -> None:
        self._schema, self._once = schema, once
        self._statistics = [field for field in schema.fields if field.statistic is not None]
        self._derived = [field_value(field) for field in schema.fields if field.statistic is None and field.name not in once]
        self._kinds: dict[str, list[Key]] = {}
        self._values = {field.name: Frequencies() for field in schema.fields if field.coded}
        self._places = {place: Frequencies() for place in once.values()}
        self._moments = {field.name: _Moments() for field in schema.fields if field.kind is FieldKind.NUMBER}

    def add(self, frame: pl.DataFrame, parts: Int8[np.ndarray, "rows"], *, each: Each = map) -> None:
        """Take a batch of raw rows and their parts (-1 = dropped); `each` goes through the fields, as in `Encoder.encode`."""
        raw = evaluate(frame, self._derived)
        if not self._kinds:  # the types of what statistics are by are those of the first batch
            first = {field.name: evaluate(frame.head(1), by_values(self._schema, field)) for field in self._statistics}
            self._kinds = {name: [key_of(one) for one in values] for name, values in first.items()}
        training = parts == 0
        for name, moments in self._moments.items():
            moments.add(numbers(raw[name], self._schema.field(name)), training)
        mine = raw if training.all() or not raw.width else raw.filter(pl.Series(training))
        own = [name for name in self._values if name not in self._once]
        deque(each(lambda name: self._values[name].add(_flat(mine[name], self._schema.field(name))), own), maxlen=0)
        deque(each(lambda place: self._places[place].add(frame[place].filter(pl.Series(training))), self._places), maxlen=0)

    def met(self, place: str) -> tuple[pl.Series, Int64[np.ndarray, "met"]]:
        """The rows of a table that the training rows met, and how often."""
        counted = self._places[place].counted().filter(pl.col(VALUE) >= 0)
        return counted[VALUE], counted[COUNT].to_numpy()

    def count(self, name: str, values: pl.Series, times: Int64[np.ndarray, "values"]) -> None:
        """Take values of a field that each occur so many times."""
        self._values[name].add(_flat(values, self._schema.field(name)), times)

    def encoder(self, *, each: Each = map) -> Encoder:
        """The encoder that these counts and moments make, `each` going through the tables; :raises UserError: for infinite numbers."""
        scales = {name: moments.scale(self._schema.field(name)) for name, moments in self._moments.items()}
        made: dict[str, Vocabulary] = {}
        deque(each(lambda table: made.update({table: self._vocabulary(table)}), self._schema.tables), maxlen=0)
        vocabularies = {table: made[table] for table in self._schema.tables}  # in their order, whichever was made first
        statistics = {field.name: Totals.none(self._schema, field, self._kinds.get(field.name, ())) for field in self._statistics}
        return Encoder(self._schema, vocabularies, scales, statistics=statistics)

    def _vocabulary(self, table: str) -> Vocabulary:
        sharing = [field.name for field in self._schema.fields if field.coded and field.table == table]
        counted = {name: self._values.pop(name).counted() for name in sharing}
        key = common([key_of(frame[VALUE]) for frame in counted.values()])
        merged = _merged(counted, key) if len(counted) > 1 else counted[table]
        kept = merged.filter(pl.col(COUNT) >= self._schema.field(table).min_count)
        return Vocabulary(in_order(kept).rechunk())


def _merged(counted: Mapping[str, pl.DataFrame], key: Key) -> pl.DataFrame:
    """The values of all fields that share a table, with their sum and one count column a field."""
    own = [f"{COUNT}:{name}" for name in counted]
    first, *others = (
        frame.select(canonical(frame[VALUE], key), pl.col(COUNT).alias(name)) for name, frame in zip(own, counted.values(), strict=True)
    )
    merged = first
    for frame in others:
        merged = merged.join(frame, on=VALUE, how="full", coalesce=True, maintain_order="left_right")
    known = merged.with_columns(pl.col(own).fill_null(0))
    return known.select(VALUE, pl.sum_horizontal(own).alias(COUNT), *own)


class _Moments:
    """Count, mean and sum of squared deviations of training rows, merged batch by batch (Chan, Golub, LeVeque 1979)."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0
        self._low, self._high = np.inf, -np.inf
        self._infinite = 0

    def add(self, values: Float64[np.ndarray, "rows"], training: np.ndarray) -> None:
        self._infinite += int(np.isinf(values).sum())
        known = values[training & np.isfinite(values)]
        if not len(known):
            return
        self._low, self._high = min(self._low, float(known.min())), max(self._high, float(known.max()))
        mean = float(known.mean())
        total, shift = self._count + len(known), mean - self._mean
        with np.errstate(over="ignore"):
            self._squares += float(((known - mean) ** 2).sum()) + float(np.square(shift)) * self._count * len(known) / total
        self._mean += shift * len(known) / total
        self._count = total

    def scale(self, field: Field) -> Scale:
        no_infinities(self._infinite, field)
        if self._low >= self._high:  # one value, or none: the rounded mean would leave it a spread of its own
            return Scale(self._low if self._count else 0.0, 1.0)
        sd = (self._squares / self._count) ** 0.5
        no_infinities(0 if np.isfinite(sd) else self._count, field)
        return Scale(self._mean, sd)


def _flat(raw: pl.Series, field: Field) -> pl.Series:
    return as_lists(raw, field).explode(empty_as_null=False, keep_nulls=False) if field.many else single(raw, field)
