"""A log laid out by Spark: read, joined and computed there, left as Parquet in the order of its rows."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as fn

from umbel.data.derive import needed
from umbel.data.laid import Laid
from umbel.data.source import Log, Source
from umbel.data.spark.files import ROW, Files
from umbel.data.spark.form import quoted
from umbel.data.spark.join import joined
from umbel.data.spark.plan import Plan, plan
from umbel.data.spark.session import MEANING, spoken
from umbel.data.split import Split
from umbel.errors import UserError
from umbel.schema import Schema

SLICE = 1 << 18  # rows of a file that Spark leaves: what one task sorts
PART, GOLDEN = "umbel_part", "umbel golden"


@dataclass(frozen=True, slots=True)
class Spark:
    """Lays logs out on the session that `open` opens, keeping so many first raw rows.

    Log, tables and folder lie where all of its machines see them under the same path.
    """

    open: Callable[[], AbstractContextManager[SparkSession]]
    kept: int

    def __call__(self, source: Source, schema: Schema, split: Split, *, folder: Path) -> Laid:
        """The rows in files of `SLICE` each; :raises UserError: for what the local path refuses, or Spark does not do alike."""
        log = Log(source)
        left = plan(log, schema, split)
        with self.open() as session, spoken("--spark", mend="see Spark's own log, or leave out --spark"):
            for key, value in MEANING.items():
                session.conf.set(key, value)
            files = Files(session, folder / "csv")
            self._write(_joined(log, left, files), left, folder / "spark")
        found = _in_order(folder / "spark", folder, rows=files.heights[source.log])
        place = replace(source, log=f"{glob.escape(str(folder))}/*.parquet", joins=())
        asked = log.typed(needed(schema, source, log.names, labels=True))
        return Laid(place, left.schema, left.like, asked=asked, golden=_golden(found[0], left))

    def _write(self, rows: DataFrame, left: Plan, folder: Path) -> None:
        """Rows that stand together go to one task, which sorts them into one file."""
        part = fn.expr(f"{quoted(ROW)} div {SLICE}").alias(PART)
        first = fn.when(fn.col(ROW) < self.kept, fn.struct(*map(quoted, left.golden))).alias(GOLDEN)
        try:
            made = [fn.expr(one.form).alias(name) for name, one in left.made.items()]
            laid = rows.select(*map(quoted, left.carried), *made, first, ROW, part)
            ordered = laid.repartition(PART).sortWithinPartitions(PART, ROW).drop(ROW)
            ordered.write.partitionBy(PART).parquet(f"file:{folder.absolute()}")
        except PySparkException:
            for one in left.made.values():
                with spoken(one.where, mend="correct the expression, CAST what it reads, or leave out --spark"):
                    rows.select(fn.expr(one.form)).write.format("noop").mode("overwrite").save()
            raise


def _joined(log: Log, left: Plan, files: Files) -> DataFrame:
    """The log's rows with the wanted columns of its tables."""
    wanted = log.wanted(left.needed)
    raw = log.empty(wanted)
    rows = files.numbered(log.source.log, raw.select(name for name in wanted if name in log.own))
    for join in log.joins:
        if join.wanted(wanted):
            if join.join.time is not None:
                join.check_clock(log.first(join.reads[-1]))
            rows = joined(rows, join, wanted, files=files, raw=raw)
    return rows


def _in_order(left: Path, folder: Path, *, rows: int) -> list[Path]:
    """Spark's files, moved to names that sort as their rows; :raises UserError: if not all rows are there."""
    found: list[Path] = []
    for part in sorted(left.glob(f"{PART}=*"), key=lambda part: int(part.name.partition("=")[2])):
        found += [file.rename(folder / f"{len(found):09d}.parquet") for file in part.glob("*.parquet")]  # of each one, if it came here
    there = sum(pq.read_metadata(file).num_rows for file in found)
    if there != rows:
        what = f"--spark: {there:,} of {rows:,} rows came to {folder.parent.parent}"
        raise UserError(what, mend="put log, tables and -o where every machine of Spark sees them under the same path")
    if not rows:
        raise UserError("split: no row falls into train (of 0)", mend="give a log that has some rows")
    shutil.rmtree(left)
    return found


def _golden(file: Path, left: Plan) -> pl.DataFrame:
    """The first raw rows, in the types of the log."""
    first = pl.read_parquet(file, columns=[GOLDEN], glob=False, hive_partitioning=False).drop_nulls().to_series()
    return first.struct.unnest().select(pl.col(name).cast(left.like[name].dtype) for name in left.golden)
