"""A table joined to a log on Spark: by key, or by key as of a time."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from umbel.data.join import Joined
from umbel.data.spark import types
from umbel.data.spark.files import ROW, Files
from umbel.data.spark.form import quoted
from umbel.errors import UserError

KEY, TIME, PLACE, BRINGS, ASKED = "umbel key", "umbel time", "umbel place", "umbel brings", "umbel asked"


def joined(log: DataFrame, join: Joined, columns: Sequence[str], *, files: Files, raw: pl.DataFrame) -> DataFrame:
    """The log with those of the table's columns beside its own, null where no row matches; as `umbel.data.join` does it.

    `raw` has the log's key and time in their types.

    :raises UserError: for keys or times that Spark compares otherwise, or a key that stands twice and no time tells its rows apart.
    """
    own = [name for name in columns if name in join.adds]
    if not own:
        return log
    on, at = join.join.on, join.join.time
    ends = [on] if at is None else [on, at]
    like = pl.DataFrame(schema={name: join.frame.collect_schema()[name] for name in [*ends, *own]})
    key = _same(types.key(raw[on].dtype), types.key(like[on].dtype), join=join, raw=raw[on], own=like[on])
    brings = F.struct(*map(quoted, own)).alias(BRINGS)
    table = files.rows(join.join.table, like).select(_cast(on, key).alias(KEY), *([_cast(at, _time(join, raw, like[at])).alias(TIME)] if at else []), ROW, brings)
    table = table.where(F.col(KEY).isNotNull())
    log = log.withColumn(KEY, _cast(on, key))
    if at is None:
        _check_once(table, join)
        return _out(log.join(table.drop(ROW), KEY, "left"), own)
    log_time = join.reads[-1]
    return _out(_as_of(log.withColumn(TIME, _cast(log_time, _time(join, raw, like[at]))), table), own)


def _as_of(log: DataFrame, table: DataFrame) -> DataFrame:
    """For each row of the log the last row of its key that is not after it; of several at one time the last of the table.

    Both stand in one order by key and time, in which each row of the log looks back for a row of the table.
    """
    own = F.struct(*(quoted(name) for name in log.columns if name not in (KEY, TIME))).alias(ASKED)
    asked = log.select(KEY, TIME, own, F.lit(None).cast("BIGINT").alias(PLACE))
    known = table.where(F.col(TIME).isNotNull()).select(KEY, TIME, BRINGS, F.col(ROW).alias(PLACE))
    both = asked.unionByName(known, allowMissingColumns=True)
    order = Window.partitionBy(KEY).orderBy(F.col(TIME).asc_nulls_first(), F.col(PLACE).asc_nulls_last())
    back = F.last(BRINGS, ignorenulls=True).over(order.rowsBetween(Window.unboundedPreceding, Window.currentRow))
    found = both.withColumn(BRINGS, F.when(F.col(KEY).isNotNull() & F.col(TIME).isNotNull(), back))
    return found.where(F.col(ASKED).isNotNull()).select(f"{quoted(ASKED)}.*", BRINGS)


def _out(log: DataFrame, own: Sequence[str]) -> DataFrame:
    kept = [quoted(name) for name in log.columns if name not in (KEY, TIME, BRINGS)]
    return log.select(*kept, *(F.col(f"{quoted(BRINGS)}.{quoted(name)}").alias(name) for name in own))


def _check_once(table: DataFrame, join: Joined) -> None:
    twice = table.groupBy(KEY).count().where("count > 1").select(F.col(KEY).cast("STRING")).first()
    if twice is not None:
        what = f"{join.join.table}: key {join.join.on} = {twice[0]} stands twice"
        raise UserError(what, mend="keep one row a key, or give the join a time column")


def _cast(name: str, kind: str) -> Column:
    column = F.col(quoted(name)).cast(kind)
    return F.nanvl(column, F.lit(None).cast(kind)) if kind == "DOUBLE" else column


def _time(join: Joined, raw: pl.DataFrame, own: pl.Series) -> str:
    log_time = raw[join.reads[-1]]
    if own.dtype != log_time.dtype and not (own.dtype.is_integer() and log_time.dtype.is_integer()):
        what = f"{join.join.table}: its time is {own.dtype}, the log's is {log_time.dtype}"
        raise UserError(what, mend="give both the same type and unit")
    return _same(types.time(log_time.dtype), types.time(own.dtype), join=join, raw=log_time, own=own)


def _same(asked: str | None, known: str | None, *, join: Joined, raw: pl.Series, own: pl.Series) -> str:
    if asked is None or asked != known:
        what = f"--spark: {join.join.table}: {own.name!r} is {own.dtype}, {raw.name!r} of the log {raw.dtype}: not joined alike by Spark"
        raise UserError(what, mend="give both the same type, integers or text for a key, or leave out --spark")
    return known
