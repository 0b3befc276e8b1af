"""Where a log lies and what is joined to it; opened, its rows in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from umbel.data.columns import Types, types
from umbel.data.files import open_file, reading
from umbel.data.join import Join, Joined
from umbel.data.slices import slices
from umbel.errors import UserError, nearest

__all__ = ["Join", "Log", "Source"]


@dataclass(frozen=True, slots=True)
class Source:
    """A raw log: a file or glob of Parquet or CSV, the columns that hold user, item, time and request, and the joined tables.

    `beside` are columns that figures are told by, though no field reads them. `types` are those of the log's columns at training,
    None before.
    """

    log: str
    user: str | None = None
    item: str | None = None
    time: str | None = None
    request: str | None = None
    joins: tuple[Join, ...] = ()
    beside: tuple[str, ...] = ()
    types: Types | None = field(default=None, compare=False)

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> Source:
        """What `dataclasses.asdict` made of one."""
        joins = tuple(Join(**join) for join in saved["joins"])
        return Source(**{**saved, "joins": joins, "beside": tuple(saved.get("beside", ()))})


class Log:
    """A source, opened: `names` are all its columns, its `own` first, and `read` gives its rows.

    The log itself is streamed; of joined tables, the columns that are read are held in memory. Columns come in the types that
    they have in `like`, if that is given.

    :raises UserError: for a missing or unreadable file, a column that two files have, a key that is missing or not unique.
    """

    def __init__(self, source: Source, like: pl.DataFrame | None = None) -> None:
        self.source = source
        self._like = like
        self._frame = open_file(source.log, source.types)
        with reading(source.log):
            self.own = self._frame.collect_schema().names()
        self.names = list(self.own)
        self._joins: list[Joined] = []
        for join in source.joins:
            self._add(join)

    def read(self, columns: Sequence[str], size: int) -> Iterator[pl.DataFrame]:
        """Those columns of all rows, in the order of the log, exactly `size` rows at a time (the last may be fewer).

        Among the columns may be places, as `places` names them.
        """
        wanted = self.wanted(columns)
        held = [join.held(wanted) for join in self._joins if join.wanted(wanted)]
        own = [name for name in wanted if name in self.own]
        for frame in _batches(slices(self.source.log, self._frame, own), size, path=self.source.log):
            whole = frame
            for table in held:
                whole = table.to(whole)
            yield self._cast(whole.select(list(dict.fromkeys(columns))))

    @property
    def joins(self) -> tuple[Joined, ...]:
        """The joined tables, in order."""
        return tuple(self._joins)

    def empty(self, columns: Sequence[str]) -> pl.DataFrame:
        """Those columns without rows, in their types; no row is looked at."""
        frames = [self._frame, *(join.frame for join in self._joins)]
        types = {name: kind for frame in reversed(frames) for name, kind in frame.collect_schema().items()}
        return pl.DataFrame(schema={name: types[name] for name in columns})

    @property
    def places(self) -> dict[str, str]:
        """For every column of a table joined by key alone, the column that says in which row of the table it stands (-1: in none)."""
        return {name: join.place for join in self._joins if join.place is not None for name in join.adds}

    def table(self, place: str, columns: Sequence[str]) -> pl.DataFrame:
        """Columns of the joined table whose rows `place` numbers."""
        (join,) = (join for join in self._joins if join.place == place)
        return join.table(columns).select(columns)

    def first(self, name: str) -> pl.Series:
        """The first known value of a column, as a series of its type (empty where there is none)."""
        if name not in self.names:
            raise UserError(f"{self.source.log}: no column {name!r}", mend=nearest(name, self.names))
        known = pl.Series()
        for frame in self.read([name], 1 << 16):
            column = frame[name].drop_nulls()
            known = (column.drop_nans() if column.dtype.is_float() else column).head(1)
            if len(known):
                break
        return known

    def typed(self, columns: Sequence[str]) -> Source:
        """The source with the types of what is read of each file for those columns, for another log to be read alike."""
        wanted = self.wanted(columns)
        joins = tuple(join.typed(wanted) for join in self._joins)
        return replace(self.source, joins=joins, types=types(self._frame, [name for name in wanted if name in self.own]))

    def wanted(self, columns: Sequence[str]) -> list[str]:
        """Those columns, and what the tables that bring some of them are joined by."""
        wanted = dict.fromkeys(columns)
        for join in reversed(self._joins):  # a later table may be joined by a column of an earlier one
            if join.wanted(wanted):
                wanted |= dict.fromkeys(join.reads)
        return list(wanted)

    def _cast(self, frame: pl.DataFrame) -> pl.DataFrame:
        if self._like is None:
            return frame
        with reading(self.source.log):
            return frame.cast({name: self._like[name].dtype for name in frame.columns})

    def _add(self, join: Join) -> None:
        if join.on not in self.names:
            raise UserError(f"{self.source.log}: no column {join.on!r} to join on", mend=nearest(join.on, self.names))
        joined = Joined(join, self.source.time)
        both = sorted(set(joined.adds) & set(self.names))
        if both:
            raise UserError(f"{join.table}: column {both[0]!r} is also in the log or in another table", mend="rename or drop one of them")
        self.names += joined.adds
        self._joins.append(joined)


def _batches(chunks: Iterator[pl.DataFrame], size: int, *, path: str) -> Iterator[pl.DataFrame]:
    """The rows in order, exactly `size` at a time, so that sums over them do not depend on threads."""
    kept: list[pl.DataFrame] = []
    held = 0
    with reading(path):
        for chunk in chunks:
            kept.append(chunk)
            held += chunk.height
            while held >= size:
                whole = pl.concat(kept)
                yield whole.head(size).rechunk()
                kept, held = [whole.slice(size)], held - size
    if held:
        yield pl.concat(kept).rechunk()
