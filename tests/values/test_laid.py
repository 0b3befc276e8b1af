"""A log that another engine lays out, by an engine of Polars that changes types on the way: the table is the one made of the log itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from tests import logs
from tests.logs import CATEGORY, NUMBER, ROWS, SCHEMA, SPLIT, contents

from umbel.data.derive import needed
from umbel.data.ingest import KEPT, ingest
from umbel.data.laid import Elsewhere, Laid
from umbel.data.source import Join, Log, Source
from umbel.data.split import Split
from umbel.errors import UserError
from umbel.schema import Field, Schema, Task

CITIES: logs.Rows = {"user": [1, 2, 3], "city": ["x", None, "y"], "size": pl.Series([1, 2, 250], dtype=pl.UInt8)}
FIELDS = (*SCHEMA.fields, Field("city", CATEGORY, min_count=1), Field("size", NUMBER), Field("older", NUMBER, sql="size - 200"))
JOINED = Schema(FIELDS, (Task("click", sql="click * 1"), *SCHEMA.tasks[1:]))


def lay(source: Source, schema: Schema, split: Split, *, folder: Path) -> Laid:
    """All columns in one file, joined, whole numbers at full width, the SQL of fields computed."""
    log = Log(source)
    raw = pl.concat(log.read(log.names, 4))
    folder.mkdir()
    wide = raw.with_columns(pl.col(pl.UInt8).cast(pl.Int64))
    wide.with_columns((pl.col("size") - 200).alias("sql")).write_parquet(folder / "0.parquet")
    fields = tuple(replace(one, sql=None, column="sql") if one.sql else one for one in schema.fields)
    like = raw.clear().with_columns(pl.lit(None, pl.Int64).alias("sql"))
    asked, golden = (needed(schema, source, log.names, labels=labels) for labels in (True, False))
    place = replace(source, log=str(folder / "*.parquet"), joins=())
    return Laid(place, Schema(fields, schema.tasks), like, asked=log.typed(asked), golden=raw.head(KEPT).select(golden))


def joined(folder: Path) -> Source:
    return logs.source(folder, joins=(Join(logs.write(folder, CITIES, name="cities"), "user"),))


def test_the_table_is_that_of_the_log(tmp_path: Path) -> None:
    here = ingest(joined(tmp_path), JOINED, SPLIT, folder=tmp_path / "here")
    there = ingest(Elsewhere(joined(tmp_path), lay), JOINED, SPLIT, folder=tmp_path / "there")
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert there.source == here.source
    assert there.schema == JOINED
    assert there.golden().schema["size"] == pl.UInt8


def test_a_bad_row_is_told_of_the_log_itself(tmp_path: Path) -> None:
    rows = {**ROWS, "click": [0, 1, 1, 0, 3, 0, 1, 0, 1, 0]}
    path = logs.write(tmp_path, CITIES, name="cities")
    given = logs.source(tmp_path, rows, joins=(Join(path, "user"),))
    with pytest.raises(UserError, match=f"label 3 in row 5 of the log, its sql of {given.log}"):
        ingest(Elsewhere(given, lay), JOINED, SPLIT, folder=tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir() if "there" in path.name and path.is_dir()] == []


def test_values_that_do_not_fit_their_type_are_one_line(tmp_path: Path) -> None:
    path = logs.write(tmp_path, {"a": [1, 300]})
    with pytest.raises(UserError, match="cannot be read"):
        list(Log(Source(path), pl.DataFrame(schema={"a": pl.UInt8})).read(["a"], 10))


def test_columns_without_rows_are_those_of_log_and_tables(tmp_path: Path) -> None:
    log = Log(joined(tmp_path))
    assert log.empty(["size", "user", "city"]).schema == {"size": pl.UInt8, "user": pl.Int64, "city": pl.String}
    assert log.own == list(ROWS)
    assert [join.adds for join in log.joins] == [["city", "size"]]
