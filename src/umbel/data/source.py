"""Where a log lies and what is joined to it: one lazy frame over Parquet or CSV."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from umbel.errors import UserError, nearest


@dataclass(frozen=True, slots=True)
class Join:
    """A table joined to the log by key `on`; with `time`, the last row not after the log row's own time."""

    table: str
    on: str
    time: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A raw log: a file or glob of Parquet or CSV, the columns that hold user, item and time, and the joined tables."""

    log: str
    user: str | None = None
    item: str | None = None
    time: str | None = None
    joins: tuple[Join, ...] = ()


def scan(source: Source) -> pl.LazyFrame:
    """The log with its joins applied, lazily; rows in the order of the file.

    :raises UserError: for a missing or unreadable file, a column both sides have, a key that is missing or not unique.
    """
    frame = open_file(source.log)
    for join in source.joins:
        frame = _join(frame, join, source)
    return frame


def open_file(path: str) -> pl.LazyFrame:
    """A lazy frame over a file or glob, by suffix; :raises UserError: where there is none."""
    if not glob.glob(path):  # noqa: PTH207  Path.glob refuses absolute patterns
        raise UserError(f"{path}: no such file", mend="check the path; it is relative to the working directory")
    if Path(path).suffix == ".parquet":
        return pl.scan_parquet(path)
    if Path(path).suffix == ".csv":
        return pl.scan_csv(path, infer_schema_length=10_000)
    raise UserError(f"{path}: neither .parquet nor .csv", mend="convert it to Parquet")


def batches(frame: pl.LazyFrame, size: int) -> Iterator[pl.DataFrame]:
    """The rows in order, exactly `size` at a time (the last may be short), so that sums do not depend on threads."""
    kept: list[pl.DataFrame] = []
    for chunk in frame.collect_batches(chunk_size=size, maintain_order=True, lazy=True):
        kept.append(chunk)
        while sum(part.height for part in kept) >= size:
            whole = pl.concat(kept)
            yield whole.head(size).rechunk()
            kept = [whole.slice(size)]
    rest = pl.concat(kept) if kept else None
    if rest is not None and rest.height:
        yield rest.rechunk()


def _join(frame: pl.LazyFrame, join: Join, source: Source) -> pl.LazyFrame:
    table = open_file(join.table)
    left, right = frame.collect_schema().names(), table.collect_schema().names()
    for names, where in ((left, source.log), (right, join.table)):
        if join.on not in names:
            raise UserError(f"{where}: no column {join.on!r} to join on", mend=nearest(join.on, names))
    both = set(left) & set(right) - {join.on}
    if both:
        raise UserError(f"{join.table}: column {min(both)!r} is also in the log", mend="rename or drop one of them")
    twice = table.select(pl.col(join.on).drop_nulls().is_duplicated().any()).collect().item()
    if twice:
        raise UserError(f"{join.table}: key {join.on!r} is not unique", mend="keep one row a key, or give the join a time column")
    return frame.join(table, on=join.on, how="left", maintain_order="left")
