"""A table joined to a log on Spark: by key, or by key as of a time."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as fn

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
    on, time, known = join.join.on, join.join.time, join.frame.collect_schema()
    like = pl.DataFrame(schema={name: known[name] for name in dict.fromkeys([on, *([] if time is None else [time]), *own])})
    key = _same(types.key(raw[on]), types.key(like[on]), join=join, asked=raw[on], known=like[on])
    opened = files.rows if time is None else files.numbered
    table = opened(join.join.table, like).withColumn(BRINGS, fn.struct(*map(quoted, own))).withColumn(KEY, _cast(on, key))
    table, log = table.where(fn.col(KEY).isNotNull()), log.withColumn(KEY, _cast(on, key))
    if time is None:
        _check_once(table, join)
        return _out(log.join(table.select(KEY, BRINGS), KEY, "left"), own)
    kind = _time(join, raw[join.reads[-1]], like[time])
    return _out(_as_of(log.withColumn(TIME, _cast(join.reads[-1], kind)), table.withColumn(TIME, _cast(time, kind))), own)


def _as_of(log: DataFrame, table: DataFrame) -> DataFrame:
    """For each row of the log the last row of its key that is not after it; of several at one time the last of the table.

    Both stand in one order by key and time, in which each row of the log looks back for a row of the table.
    """
    own = fn.struct(*(quoted(name) for name in log.columns if name not in (KEY, TIME))).alias(ASKED)
    asked = log.select(KEY, TIME, own, fn.lit(None).cast("BIGINT").alias(PLACE))
    known = table.where(fn.col(TIME).isNotNull()).select(KEY, TIME, BRINGS, fn.col(ROW).alias(PLACE))
    both = asked.unionByName(known, allowMissingColumns=True)
    order = Window.partitionBy(KEY).orderBy(fn.col(TIME).asc_nulls_first(), fn.col(PLACE).asc_nulls_last())
    back = fn.last(BRINGS, ignorenulls=True).over(order.rowsBetween(Window.unboundedPreceding, Window.currentRow))
    found = both.withColumn(BRINGS, fn.when(fn.col(KEY).isNotNull() & fn.col(TIME).isNotNull(), back))
    return found.where(fn.col(ASKED).isNotNull()).select(f"{quoted(ASKED)}.*", BRINGS)


def _out(log: DataFrame, own: Sequence[str]) -> DataFrame:
    kept = [quoted(name) for name in log.columns if name not in (KEY, TIME, BRINGS)]
    return log.select(*kept, *(fn.col(f"{quoted(BRINGS)}.{quoted(name)}").alias(name) for name in own))


def _check_once(table: DataFrame, join: Joined) -> None:
    twice = table.groupBy(KEY).count().where("count > 1").select(fn.col(KEY).cast("STRING")).first()
    if twice is not None:
        what = f"{join.join.table}: key {join.join.on} = {twice[0]} stands twice"
        raise UserError(what, mend="keep one row a key, or give the join a time column")


def _cast(name: str, kind: str) -> Column:
    column = fn.col(quoted(name)).cast(kind)
    return fn.nanvl(column, fn.lit(None).cast(kind)) if kind == "DOUBLE" else column


def _time(join: Joined, asked: pl.Series, known: pl.Series) -> str:
    if known.dtype != asked.dtype and not (known.dtype.is_integer() and asked.dtype.is_integer()):
        what = f"{join.join.table}: its time is {known.dtype}, the log's is {asked.dtype}"
        raise UserError(what, mend="give both the same type and unit")
    return _same(types.time(asked), types.time(known), join=join, asked=asked, known=known)


def _same(one: str | None, other: str | None, *, join: Joined, asked: pl.Series, known: pl.Series) -> str:
    """The type in which both are compared."""
    if one is None or one != other:
        what = f"--spark: {join.join.table}: {known.name!r} is {known.dtype} there and {asked.name!r} {asked.dtype} in the log"
        raise UserError(what, mend="give both one type (whole numbers or text for a key), or leave out --spark")
    return one
