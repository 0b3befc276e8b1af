"""Columns of joined tables that are counted and coded once a row of their table, instead of once a row of the log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np
import polars as pl
from jaxtyping import Int32

from umbel.data.count import Tally
from umbel.data.derive import field_values, label_value
from umbel.data.join import fetched
from umbel.data.source import Log
from umbel.data.vocab import Encoder, Ready
from umbel.schema import Schema


class Once:
    """The coded fields that are plain columns of tables joined by key, and that nothing else reads.

    A batch of the log then holds, in place of their columns, one column a table with the number of its row (`Log.places`):
    how often a row is met says how often its values are, and the codes of its values are looked up by its number.
    `others` are columns that something reads besides schema, user, item and time.
    """

    def __init__(self, schema: Schema, log: Log, others: Collection[str]) -> None:
        self._log, self._places = log, log.places
        plain = {field.name: field.column or field.name for field in schema.fields
                 if field.coded and not field.many and field.sql is None and (field.column or field.name) in self._places}
        rest = [field for field in schema.fields if field.name not in plain]
        values = [*(one for field in rest for one in field_values(schema, field)), *map(label_value, schema.tasks)]
        ends = {log.source.user, log.source.item, log.source.time, log.source.request}
        read = {name for value in values for name in value.reads} | ends | set(others)
        self._tables: dict[str, dict[str, str]] = defaultdict(dict)
        for name, column in plain.items():
            if column not in read:
                self._tables[self._places[column]][name] = column
        self.fields = {name: place for place, columns in self._tables.items() for name in columns}

    def columns(self, wanted: Sequence[str]) -> list[str]:
        """What is to be read of the log for those columns: of these fields, the places alone."""
        late = {column: place for place, columns in self._tables.items() for column in columns.values()}
        return list(dict.fromkeys(late.get(name, name) for name in wanted))

    def settle(self, tally: Tally) -> None:
        """Count these fields by the rows of their tables that the tally has met."""
        for place, columns in self._tables.items():
            rows, counts = tally.met(place)
            table = self._table(place)[rows]
            for name, column in columns.items():
                tally.count(name, table[column], counts)

    def ready(self, encoder: Encoder) -> dict[str, Ready]:
        """The codes of these fields, by the places of a batch."""
        return {name: _Codes(place, encoder.code(name, table[column]))
                for place, columns in self._tables.items() for table in [self._table(place)] for name, column in columns.items()}

    def whole(self, frame: pl.DataFrame) -> pl.DataFrame:
        """A batch with the columns themselves."""
        return frame.hstack([column for place in self._tables for column in fetched(self._table(place), frame[place].to_numpy())])

    def _table(self, place: str) -> pl.DataFrame:
        return self._log.table(place, list(dict.fromkeys(self._tables[place].values())))


class _Codes:
    """The code of each row of a table, and 0 for no row."""

    def __init__(self, place: str, codes: Int32[np.ndarray, "all"]) -> None:
        self._place, self._codes = place, np.append(codes, np.int32(0))  # -1 is the last

    def __call__(self, frame: pl.DataFrame) -> Int32[np.ndarray, "rows"]:
        return self._codes.take(frame[self._place].to_numpy())
