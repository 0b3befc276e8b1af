"""A source used again on another log: its tables replaced, or left out where the log has their columns itself."""

from __future__ import annotations

import glob
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from umbel.data.source import Join, Source
from umbel.errors import UserError, nearest


def rejoined(source: Source, columns: Sequence[str], *, own: Collection[str], tables: Mapping[str, str]) -> Source:
    """The source with the joins that reading those columns takes, of a log that has its `own`.

    `tables` replaces tables: the path of another by what says which, the key of a join or, where several have it, the name of
    its table. Any other join is left out where nothing is read of it, or only columns that the log has itself.

    :raises UserError: for a name that says no join or several, or a table that is needed and not there.

    Example
    -------
    >>> users = Join("users.parquet", "user", types={"user": "Int64", "city": "String"})
    >>> source = Source("new.parquet", joins=(users,))
    >>> rejoined(source, ["user", "city"], own=["user"], tables={"user": "new-users.csv"}).joins[0].table
    'new-users.csv'
    >>> rejoined(source, ["user", "city"], own=["user", "city"], tables={}).joins
    ()
    """
    chosen = dict.fromkeys(source.joins, "")
    for which, table in tables.items():
        join = _named(which, source.joins)
        if chosen[join]:
            raise UserError(f"--join {which}: {join.table} is replaced twice", mend="give one of them")
        chosen[join] = table
    wanted = set(columns)
    joins: list[Join] = []
    for join, table in reversed(chosen.items()):  # a later table may be joined by a column of an earlier one
        ends = {name for name in (join.on, join.time) if name is not None}
        adds = None if join.types is None else wanted & (join.types.keys() - ends)
        if table or adds is None or not adds <= set(own):
            joins.insert(0, replace(join, table=table) if table else _there(join, adds))
            wanted |= {join.on}
    return replace(source, joins=tuple(joins))


def _named(which: str, joins: Sequence[Join]) -> Join:
    """The join that a key, or the name of its table with or without suffix and folders, says."""
    found = [join for join in joins if which in _names(join)]
    if not found:
        known = [name for join in joins for name in _names(join)]
        raise UserError(f"--join {which}: the bundle joins no such table", mend=nearest(which, known))
    if len(found) > 1:
        raise UserError(f"--join {which}: says {len(found)} tables", mend=f"write {' or '.join(join.table for join in found)}")
    return found[0]


def _names(join: Join) -> tuple[str, ...]:
    return (join.on, join.table, Path(join.table).name, Path(join.table).stem)


def _there(join: Join, adds: set[str] | None) -> Join:
    """The join, if its table is where it was."""
    if not Path(join.table).is_file() and not glob.glob(join.table):  # noqa: PTH207  (Path.glob refuses absolute patterns)
        columns = ", ".join(sorted(adds or {"its columns"}))
        mend = f"name another with --join {Path(join.table).stem}=TABLE, or give a log that has {columns}"
        raise UserError(f"{join.table}: no such file (joined on {join.on!r})", mend=mend)
    return join
