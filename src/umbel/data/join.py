"""A table joined to batches of a log: by key, or by key as of a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from jaxtyping import Int32, Int64

from umbel.data.columns import Types, types
from umbel.data.files import open_file, reading
from umbel.data.keys import Finder, canonical, key_of
from umbel.data.units import Clock, check_same
from umbel.errors import UserError


@dataclass(frozen=True, slots=True)
class Join:
    """A table joined to the log by key `on`; with `time`, the last row of the key that is not after the log row's time.

    Where the size of times says that the table's are seconds and the log's milliseconds, they are refused: each row would be the last.
    A log row without a match has missing values in the table's columns. `types` are those of the columns that were read of it
    at training (key and time too; none if it was not needed), None before.
    """

    table: str
    on: str
    time: str | None = None
    types: Types | None = field(default=None, compare=False)


class _ByKey:
    """Which row of a table has the key of each row of a batch; -1 for none."""

    def __init__(self, keys: pl.Series, on: str) -> None:
        self._on, self._finder = on, Finder(keys)

    def find(self, frame: pl.DataFrame) -> Int32[np.ndarray, "rows"]:
        return self._finder.find(frame[self._on])


class _AsOf:
    """Which row of a table was the last of its key at the time of each row of a batch; -1 for none."""

    def __init__(self, keys: pl.Series, times: pl.Series, on: str, *, path: str, log_time: str) -> None:
        self._on, self._path, self._log_time = on, path, log_time
        self._finder = Finder(keys.unique(maintain_order=True))
        rows = {"key": self._finder.find(keys), "time": _integers(times), "place": np.arange(len(keys))}
        self._table = pl.DataFrame(rows).drop_nulls("time").sort("time", maintain_order=True)
        self._clock = Clock.of(_integers(times))

    def find(self, frame: pl.DataFrame) -> Int64[np.ndarray, "rows"]:
        times = _integers(frame[self._log_time])
        if times.dtype != self._table["time"].dtype:
            what = f"{self._path}: its time is {self._table['time'].dtype}, the log's is {times.dtype}"
            raise UserError(what, mend="give both the same type and unit")
        check_same(self._path, self._clock, Clock.of(times))
        asked = pl.DataFrame({"key": self._finder.find(frame[self._on]), "time": times, "row": np.arange(frame.height)})
        asked = asked.filter(pl.col("time").is_not_null()).sort("time", maintain_order=True)
        # Polars cannot check the order within keys, and warns unless told not to try.
        met = asked.join_asof(self._table, on="time", by="key", strategy="backward", check_sortedness=False)
        places = np.full(frame.height, -1, np.int64)
        places[met["row"].to_numpy()] = met["place"].fill_null(-1).to_numpy()
        return places


_Rows = _ByKey | _AsOf


class Held:
    """The columns of a table in memory, joined to one batch after another; `place` names a column for the row of the table itself."""

    def __init__(self, table: pl.DataFrame, rows: _Rows, *, place: str | None = None) -> None:
        # Rows are fetched from all over the table: numbers as narrow as they go are twice as often in the cache.
        narrow = [column.shrink_dtype() if column.dtype.is_integer() else column for column in table]
        self._table, self._rows, self._types, self._place = pl.DataFrame(narrow), rows, table.schema, place

    def to(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The batch with the table's columns beside its own; null where no row matches (of places: -1)."""
        if self._table.width == 0 and self._place is None:
            return frame
        places = self._rows.find(frame)
        whole = frame if self._place is None else frame.with_columns(pl.Series(self._place, places))
        return whole.hstack(fetched(self._table, places).cast(self._types)) if self._table.width else whole


def fetched(table: pl.DataFrame, places: Int32[np.ndarray, "rows"] | Int64[np.ndarray, "rows"]) -> pl.DataFrame:
    """The rows of a table at those places; null where the place is -1."""
    known = places >= 0
    rows = pl.Series(places.astype(np.uint32))
    return table[rows] if known.all() else table.select(pl.all().gather(rows.set(pl.Series(~known), None)))


class Joined:
    """A join, opened: `frame` is its table, `adds` are the columns that it brings, `reads` those of the log that it needs.

    One by key alone brings, where it is asked for, `place` too: for each row of the log the row of the table (of those with a key), or -1.

    :raises UserError: for a missing or unreadable file, or a column that is not there.
    """

    def __init__(self, join: Join, log_time: str | None) -> None:
        self.join, self._path, self._on, self._time, self._log_time = join, join.table, join.on, join.time, log_time
        self.frame = open_file(join.table, join.types)
        with reading(join.table):
            names = self.frame.collect_schema().names()
        for name in (join.on, join.time):
            if name is not None and name not in names:
                raise UserError(f"{join.table}: no column {name!r} to join on", mend=f"it has {', '.join(names)}")
        if join.time is not None and log_time is None:
            raise UserError(f"{join.table}: joined by time, but [data] names no time column", mend="add time = 'COLUMN' under [data]")
        self.adds = [name for name in names if name not in (join.on, join.time)]
        self.reads = [join.on] if join.time is None or log_time is None else [join.on, log_time]
        self.place = f"{join.table}\n{join.on}" if join.time is None else None  # no column is called so

    def wanted(self, columns: Collection[str]) -> bool:
        """Whether it brings any of those columns."""
        return self.place in columns or not set(self.adds).isdisjoint(columns)

    def table(self, columns: Sequence[str]) -> pl.DataFrame:
        """Those of the table's columns, of its rows that have a key (and a time); keys are in the type in which they are compared."""
        ends = [self._on] if self._time is None else [self._on, self._time]
        with reading(self._path):
            table = self.frame.select(list(dict.fromkeys([*ends, *columns]))).collect()
        keys = table[self._on]
        if keys.dtype.is_nested():
            raise UserError(f"{self._path}: key {self._on!r} holds {keys.dtype}", mend="join on a column of numbers or text")
        return table.with_columns(canonical(keys, key_of(keys))).drop_nulls(ends)

    def check_clock(self, asked: pl.Series) -> None:
        """Compare its times with some of the log's; :raises UserError: where they count other things, by their size."""
        assert self._time is not None
        with reading(self._path):
            known = self.frame.select(self._time).collect().to_series()
        check_same(self._path, Clock.of(_integers(known)), Clock.of(_integers(asked)))

    def typed(self, columns: Sequence[str]) -> Join:
        """The join with the types of what is read of it for those columns."""
        own = [name for name in columns if name in self.adds]
        ends = [name for name in (self._on, self._time) if name is not None] if own else []
        return replace(self.join, types=types(self.frame, [*ends, *own]))

    def held(self, columns: Sequence[str]) -> Held:
        """The wanted ones of its columns, in memory; :raises UserError: if a key stands twice and no time tells its rows apart."""
        own = [name for name in columns if name in self.adds]
        table = self.table(own)
        keys = table[self._on]
        if self._time is not None and self._log_time is not None:
            return Held(table.select(own), _AsOf(keys, table[self._time], self._on, path=self._path, log_time=self._log_time))
        if keys.n_unique() < len(keys):
            twice = keys.filter(keys.is_duplicated())[0]
            what = f"{self._path}: key {self._on} = {twice!r} stands twice"
            raise UserError(what, mend="keep one row a key, or give the join a time column")
        return Held(table.select(own), _ByKey(keys, self._on), place=self.place if self.place in columns else None)


def _integers(times: pl.Series) -> pl.Series:
    """Integers of any width as Int64, so that they compare; other types as they are, NaN as missing."""
    if times.dtype.is_float():
        return times.fill_nan(None)
    return times.cast(pl.Int64) if times.dtype.is_integer() else times
