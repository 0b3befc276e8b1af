"""Columns of joined tables counted and coded once a row of their table, against the same log with the columns in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import logs
from tests.logs import CATEGORY, ID, NUMBER, SEQUENCE, changed, contents

from umbel.data.ingest import ingest
from umbel.data.once import Once
from umbel.data.source import Join, Log, Source
from umbel.data.split import ByColumn, ByTime, Split
from umbel.errors import UserError
from umbel.schema import Field, FieldKind, Schema, Task
from umbel.statistic import Statistic

CLICK = (Task("click"),)
USERS: logs.Rows = {
    "user": [2, 1, 9, None, 77],
    "level": [10, 20, None, 30, 40],
    "city": ["Ur", None, "Ur", "Uz", "Ok"],
    "score": [0.5, float("nan"), -0.0, 2.0, 0.5],
    "born": pl.Series([2000, 1999, 2000, 2001, 2002], dtype=pl.UInt64),
    "tags": [[1, 2], [], None, [3], [4]],
    "boss": ["b", "a", None, "a", "b"],
}
SCHEMA = Schema(
    (
        Field("user", ID, min_count=1),
        Field("level", CATEGORY, min_count=1),
        Field("city", CATEGORY, min_count=2),
        Field("score", ID, min_count=1),
        Field("years", ID, column="born", min_count=1),
        Field("item", ID, min_count=1),
        Field("friend", ID, column="boss", like="item"),
    ),
    CLICK,
)


def users(folder: Path) -> Join:
    return Join(logs.write(folder, USERS, name="users"), "user")


def opened(source: Source, schema: Schema, others: Sequence[str] = ()) -> Once:
    return Once(schema, Log(source), others)


def as_one_log(source: Source, folder: Path) -> Source:
    """The same rows with the tables' columns in the log itself."""
    frame = pl.read_parquet(source.log)
    for join in source.joins:
        frame = frame.join(pl.read_parquet(join.table).drop_nulls(join.on), on=join.on, how="left", maintain_order="left")
    frame.write_parquet(folder / "whole.parquet")
    return replace(source, log=str(folder / "whole.parquet"), joins=())


def same_tables(source: Source, schema: Schema, folder: Path, split: Split = logs.SPLIT) -> None:
    """Every file but the one that says where the log is."""
    joined = ingest(source, schema, split, folder=folder / "joined")
    whole = ingest(as_one_log(source, folder), schema, split, folder=folder / "plain")
    found, expected = contents(joined.folder), contents(whole.folder)
    assert found.keys() == expected.keys()
    assert [name for name in found if name not in ("source.json", "golden.parquet") and found[name] != expected[name]] == []
    assert joined.golden().equals(whole.golden().select(joined.golden().columns))


def test_the_table_is_that_of_a_log_with_the_columns_in_it(tmp_path: Path) -> None:
    source = logs.source(tmp_path, joins=(users(tmp_path),))
    assert set(opened(source, SCHEMA).fields) == {"level", "city", "score", "years", "friend"}
    same_tables(source, SCHEMA, tmp_path)


def test_codes_by_hand(tmp_path: Path) -> None:
    """User 1 has four training rows, 2 and 3 two and one; nobody knows 3, and 2 stands first in the table."""
    schema = Schema((Field("level", CATEGORY, min_count=1), Field("city", CATEGORY, min_count=1)), CLICK)
    table = ingest(logs.source(tmp_path, joins=(users(tmp_path),)), schema, logs.SPLIT, folder=tmp_path / "table")
    assert table.encoder.vocabularies["level"].frame.to_dict(as_series=False) == {"value": [20, 10], "count": [3, 2]}
    assert table.column("level", "train").tolist() == [1, 1, 2, 2, 0, 1]
    assert table.column("level", "test").tolist() == [2, 0]
    assert table.column("city", "train").tolist() == [0, 0, 1, 1, 0, 0]


def test_what_something_else_reads_stays_in_the_batches(tmp_path: Path) -> None:
    source = logs.source(tmp_path, joins=(users(tmp_path),))
    assert "level" not in opened(source, SCHEMA, others=["level"]).fields
    assert "level" not in opened(replace(source, item="level"), SCHEMA).fields
    derived = replace(SCHEMA, fields=(*SCHEMA.fields, Field("old", CATEGORY, sql="level / 10")))
    assert {"level", "old"}.isdisjoint(opened(source, derived).fields)
    assert "years" not in opened(source, Schema(SCHEMA.fields, (Task("late", sql="born > 2000"),))).fields


@pytest.mark.parametrize("field", [Field("level", NUMBER), Field("tags", SEQUENCE, length=2), Field("city", CATEGORY, sql="LOWER(city)")])
def test_numbers_lists_and_expressions_are_read_row_by_row(field: Field, tmp_path: Path) -> None:
    source = logs.source(tmp_path, joins=(users(tmp_path),))
    schema = Schema((field, *(one for one in SCHEMA.fields if one.name != field.name)), CLICK)
    assert field.name not in opened(source, schema).fields
    same_tables(source, schema, tmp_path)


def test_what_a_statistic_is_by_is_read_row_by_row(tmp_path: Path) -> None:
    source = logs.source(tmp_path, joins=(users(tmp_path),))
    past = Field("past", FieldKind.STATISTIC, statistic=Statistic(("level", "born"), ("click",)))
    schema = Schema((*SCHEMA.fields, past), CLICK)
    assert set(opened(source, schema).fields) == {"city", "score", "friend"}
    same_tables(source, schema, tmp_path)


def test_two_fields_of_one_column(tmp_path: Path) -> None:
    schema = Schema((*SCHEMA.fields, Field("town", CATEGORY, column="city", min_count=1)), CLICK)
    source = logs.source(tmp_path, joins=(users(tmp_path),))
    assert opened(source, schema).columns(["click", "city", "level"]) == ["click", opened(source, schema).fields["city"]]
    same_tables(source, schema, tmp_path)


def test_tables_joined_by_a_column_of_another(tmp_path: Path) -> None:
    bosses = Join(logs.write(tmp_path, {"boss": ["a", "b"], "rank": [7, 7]}, name="bosses"), "boss")
    source = logs.source(tmp_path, joins=(users(tmp_path), bosses))
    schema = Schema((*SCHEMA.fields, Field("rank", CATEGORY, min_count=1)), CLICK)
    assert {"friend", "rank"} <= set(opened(source, schema).fields)
    same_tables(source, schema, tmp_path)


def test_a_table_joined_by_time_is_read_row_by_row(tmp_path: Path) -> None:
    past: logs.Rows = {"user": [1, 1, 2], "since": [0, 4, 3], "level": [1, 2, 3]}
    source = logs.source(tmp_path, joins=(Join(logs.write(tmp_path, past, name="past"), "user", time="since"),))
    schema = Schema((Field("level", CATEGORY, min_count=1),), CLICK)
    assert opened(source, schema).fields == {}
    table = ingest(source, schema, logs.SPLIT, folder=tmp_path / "table")
    assert table.encoder.vocabularies["level"].frame["value"].to_list() == [1, 2, 3]


def test_a_split_by_a_joined_column(tmp_path: Path) -> None:
    parts: logs.Rows = {"item": ["a", "b", "c", "z"], "part": ["train", "valid", "test", "none"], "hue": [5, 6, 5, 6]}
    rows = changed(item=["a", "a", "b", "b", "c", "c", "z", "a", "b", "c"], click=[0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    source = logs.source(tmp_path, rows, joins=(Join(logs.write(tmp_path, parts, name="parts"), "item"),))
    schema = Schema((Field("hue", CATEGORY, min_count=1), Field("part", CATEGORY, min_count=1)), CLICK)
    same_tables(source, schema, tmp_path, ByColumn("part", "valid", "test"))


def test_a_list_that_should_be_one_value_is_said_as_ever(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fields\.tags: category of a column of List"):
        ingest(logs.source(tmp_path, joins=(users(tmp_path),)), logs.one_field(Field("tags", CATEGORY)), logs.SPLIT, folder=tmp_path / "t")


def test_nobody_is_met(tmp_path: Path) -> None:
    nobody = Join(logs.write(tmp_path, {"user": [100], "level": [1]}, name="nobody"), "user")
    same_tables(logs.source(tmp_path, joins=(nobody,)), Schema((Field("level", CATEGORY, min_count=1),), CLICK), tmp_path)


KEYS = st.none() | st.integers(0, 6)
VALUES = st.lists(st.none() | st.sampled_from(["a", "é", "", "b"]), min_size=7, max_size=7)


@settings(deadline=None, max_examples=15)
@given(keys=st.lists(KEYS, min_size=30, max_size=30), values=VALUES, order=st.permutations(range(7)), gaps=st.sets(st.integers(0, 6)))
def test_any_table_gives_what_its_columns_in_the_log_give(
    keys: list[int | None], values: list[str | None], order: list[int], gaps: set[int], tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    known = [key for key in order if key not in gaps]
    joined: logs.Rows = {"key": pl.Series(known, dtype=pl.Int64), "name": pl.Series([values[key] for key in known], dtype=pl.String),
              "number": pl.Series([key // 2 for key in known], dtype=pl.Int8)}
    rows: logs.Rows = {"key": pl.Series(keys, dtype=pl.Int64), "user": range(30), "click": [0, 1] * 15, "time": range(30),
                       "item": ["a"] * 30}
    source = logs.source(folder, rows, joins=(Join(logs.write(folder, joined, name="any"), "key"),))
    fields = (Field("name", CATEGORY, min_count=1), Field("number", ID, min_count=2), Field("item", ID, like="name"))
    same_tables(source, Schema(fields, CLICK), folder, ByTime(20, 25))
