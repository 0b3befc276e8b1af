"""A log ingested on Spark leaves the table that it leaves here, byte for byte: joins, expressions, types, files and splits of all kinds."""

from __future__ import annotations

import datetime as dt
import math
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import logs
from tests.laws.test_expression_model import COLUMNS, FRAME, TERMS, Term, Truth, truths
from tests.logs import BAG, CATEGORY, ID, NUMBER, SEQUENCE, VECTOR
from tests.sparks import both, spark

from umbel.data import simulate
from umbel.data.derive import evaluate, field_value
from umbel.data.simulate import Planted
from umbel.data.source import Join, Source
from umbel.data.split import ByColumn, ByTime, ByUser, Split
from umbel.schema import BINARY, REGRESSION, Field, FieldKind, Schema, Task
from umbel.statistic import Statistic

T = TypeVar("T")
ROWS = 700
DAY = dt.date(2024, 3, 1)


@pytest.fixture(autouse=True, scope="module")
def session() -> None:
    spark()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many files of few rows."""
    monkeypatch.setattr("umbel.data.spark.lay.SLICE", 100)


def holed(draw: np.random.Generator, values: Sequence[T]) -> list[T | None]:
    """One value in nine is missing."""
    return [None if hole else value for value, hole in zip(values, draw.random(len(values)) < 1 / 9, strict=True)]


def frame(seed: int = 5) -> pl.DataFrame:
    """Columns of every type that Spark carries, in no order of time."""
    draw = np.random.Generator(np.random.PCG64(seed))
    some = draw.integers
    days = some(0, 10, ROWS)
    whole = [int(one) for one in some(0, 250, ROWS)]
    spans = [dt.timedelta(days=int(day), milliseconds=int(more)) for day, more in zip(days, some(0, 10**7, ROWS), strict=True)]
    moments = [dt.datetime(2024, 3, 1) + span for span in spans]
    tags = [[None if one == 3 else one for one in some(0, 6, some(0, 4)).tolist()] for _ in whole]
    columns: dict[str, pl.Series] = {
        "user": pl.Series(holed(draw, some(0, 40, ROWS).tolist()), dtype=pl.Int32),
        "item": pl.Series(holed(draw, [f"é{one}" for one in some(0, 30, ROWS)]), dtype=pl.Categorical),
        "small": pl.Series(holed(draw, whole), dtype=pl.UInt8),
        "other": pl.Series(holed(draw, some(0, 250, ROWS).tolist()), dtype=pl.UInt8),
        "hash": pl.Series(holed(draw, [2**63 + one % 7 for one in whole]), dtype=pl.UInt64),
        "short": pl.Series(holed(draw, some(-90, 90, ROWS).tolist()), dtype=pl.Int16),
        "ratio": pl.Series(holed(draw, [math.nan if one < 9 else one / 7 - 9 for one in whole]), dtype=pl.Float32),
        "score": pl.Series(holed(draw, [math.nan if one < 9 else -0.0 if one < 20 else one / 7 for one in whole])),
        "price": pl.Series(holed(draw, [one / 100 for one in whole]), dtype=pl.Decimal(8, 2)),
        "flag": pl.Series(holed(draw, (some(0, 2, ROWS) == 1).tolist()), dtype=pl.Boolean),
        "day": pl.Series([DAY + dt.timedelta(days=int(day)) for day in days]),
        "at": pl.Series(moments, dtype=pl.Datetime("ms")),
        "at_ns": pl.Series(moments, dtype=pl.Datetime("ns")),
        "at_zone": pl.Series(moments, dtype=pl.Datetime("us")).dt.replace_time_zone("Asia/Shanghai"),
        "tags": pl.Series(holed(draw, tags), dtype=pl.List(pl.Int16)),
        "words": pl.Series(holed(draw, [" ".join(f"w{one}" for one in some(0, 9, some(0, 4))) for _ in whole]), dtype=pl.String),
        "vector": pl.Series(holed(draw, draw.random((ROWS, 3)).tolist()), dtype=pl.Array(pl.Float32, 3)),
        "part": pl.Series([("train", "train", "valid", "test", "none")[one % 5] for one in whole]),
        "click": pl.Series(holed(draw, some(0, 2, ROWS).tolist()), dtype=pl.Int8),
        "watched": pl.Series(holed(draw, some(0, 100, ROWS).tolist()), dtype=pl.UInt32),
    }
    return pl.DataFrame(columns)


FIELDS = (
    Field("user", ID, min_count=1),
    Field("item", ID, min_count=2),
    Field("hash", CATEGORY, min_count=1),
    Field("day", CATEGORY, min_count=1),
    Field("at_zone", CATEGORY, min_count=1),
    Field("at_ns", CATEGORY, min_count=1),
    Field("price", CATEGORY, min_count=2),
    Field("ratio", NUMBER),
    Field("score", NUMBER, bins=4),
    Field("flag", CATEGORY, min_count=1),
    Field("tags", BAG, length=3, min_count=1),
    Field("words", SEQUENCE, length=2, min_count=1),
    Field("vector", VECTOR, width=3),
)
COMPUTED = (
    Field("gap", NUMBER, sql="small - other"),
    Field("gap_bin", CATEGORY, sql="FLOOR((small - other) / 25)", min_count=1),
    Field("rate", NUMBER, sql="watched / NULLIF(short, 0) * 1.5"),
    Field("rest", CATEGORY, sql="short % 7", min_count=1),
    Field("third", CATEGORY, sql="CEIL(ratio / 3.0)", min_count=1),
    Field("high", CATEGORY, sql="CASE WHEN score > 20 THEN 2 WHEN score > 5 THEN 1 ELSE 0 END", min_count=1),
    Field("known", CATEGORY, sql="score IS NOT NULL AND NOT flag", min_count=1),
    Field("cut", ID, sql="TRY_CAST(score AS BIGINT)", min_count=1),
    Field("root", NUMBER, sql="SQRT(ABS(COALESCE(ratio, 0.25)))"),
    # These are left to Polars.
    Field("logged", NUMBER, sql="LN(watched + 1)"),
    Field("loud", CATEGORY, sql="UPPER(words)", min_count=1),
    Field("is_w1", CATEGORY, sql="words = 'w1'", min_count=1),
    Field("modulo", CATEGORY, sql="hash % 3", min_count=1),
    Field("day_known", CATEGORY, sql="day IS NOT NULL", min_count=1),
)
STATISTICS = (
    Field("of_item", FieldKind.STATISTIC, statistic=Statistic(("item", "gap_bin"), ("click",), window=3600.0)),
    Field("of_user", FieldKind.STATISTIC, statistic=Statistic(("user",), ("click", "long"), mode="folds", folds=3)),
)
TASKS = (
    Task("click"),
    Task("long", BINARY, given="click", sql="click * CAST(watched > 50 AS BIGINT)"),
    Task("watched", REGRESSION, sql="LN(watched + 1)"),
)
TIMED = ByTime(dt.date(2024, 3, 7), dt.date(2024, 3, 9))
SPLITS: dict[str, Split] = {"time": TIMED, "user": ByUser(0.2, 0.3, seed=4), "column": ByColumn("part", valid="valid", test="test")}


def log(folder: Path, rows: pl.DataFrame) -> Source:
    rows.write_parquet(folder / "log.parquet", row_group_size=37)
    return Source(str(folder / "log.parquet"), user="user", item="item", time="at")


def test_the_simulated_log(tmp_path: Path) -> None:
    planted = Planted(users=60, items=30, rows=1_500, days=6, conflict=0.5, strength=4.0, unobserved=0.1, seed=3)
    simulate.simulate(planted, tmp_path)
    both(simulate.source(tmp_path), simulate.schema(), simulate.split(planted), folder=tmp_path)


def test_lists_numbers_and_missing_values(tmp_path: Path) -> None:
    both(logs.source(tmp_path), logs.SCHEMA, logs.SPLIT, folder=tmp_path)


@pytest.mark.parametrize("split", SPLITS)
def test_columns_of_every_type_and_expressions(tmp_path: Path, split: str) -> None:
    both(log(tmp_path, frame()), Schema((*FIELDS, *COMPUTED, *STATISTICS), TASKS), SPLITS[split], folder=tmp_path)


def test_expressions_that_read_no_other_way(tmp_path: Path) -> None:
    """Without the plain fields, what the expressions read is not carried, but stands in the golden rows."""
    source = replace(log(tmp_path, frame()), user=None, item=None)
    both(source, Schema(COMPUTED, TASKS), TIMED, folder=tmp_path)


def joined(folder: Path) -> Source:
    """By number, by text of a table that was joined before, and as of times that repeat, are missing and lie in no order."""
    draw = np.random.Generator(np.random.PCG64(6))
    towns = holed(draw, [f"c{one % 5}" for one in range(47)])
    users = pl.DataFrame({"user": [3, None, *range(5, 50)], "city": towns, "born": pl.Series(range(47), dtype=pl.UInt16)})
    cities = pl.DataFrame({"city": ["c3", "c0", "c1", None], "people": [10.5, None, math.nan, 1.0], "names": [["a", "b"], None, [], ["c"]]})
    moments = [dt.datetime(2024, 3, 1) + dt.timedelta(days=int(one) / 2) for one in draw.integers(0, 20, 300)]
    prices = pl.DataFrame(
        {
            "item": holed(draw, [f"é{one}" for one in draw.integers(0, 32, 300)]),
            "since": pl.Series(holed(draw, moments), dtype=pl.Datetime("ms")),
            "cost": range(300),
            "seller": [f"s{one % 9}" for one in range(300)],
        },
        schema_overrides={"item": pl.String},
    )
    for name, table in (("users", users), ("cities", cities), ("prices", prices)):
        table.write_parquet(folder / f"{name}.parquet", row_group_size=20)
    joins = (
        Join(str(folder / "users.parquet"), "user"),
        Join(str(folder / "cities.parquet"), "city"),
        Join(str(folder / "prices.parquet"), "item", time="since"),
    )
    return replace(log(folder, frame()), joins=joins)


JOINED = (
    Field("user", ID, min_count=1),
    Field("city", CATEGORY, min_count=1),
    Field("born", CATEGORY, min_count=1),
    Field("people", NUMBER),
    Field("names", BAG, length=2, min_count=1),
    Field("cost", NUMBER),
    Field("seller", CATEGORY, min_count=1),
    Field("margin", NUMBER, sql="cost - small + born * 0.5"),
)


def test_joins(tmp_path: Path) -> None:
    both(joined(tmp_path), Schema(JOINED, TASKS), TIMED, folder=tmp_path)


def test_a_join_that_nothing_reads_is_not_needed(tmp_path: Path) -> None:
    both(joined(tmp_path), Schema(FIELDS[:3], TASKS[:1]), TIMED, folder=tmp_path)


@pytest.mark.parametrize("unit", ["int", "float", "date", "text"])
def test_joins_as_of_times_of_any_type(tmp_path: Path, unit: str) -> None:
    def times(numbers: Sequence[int | None]) -> pl.Series:
        days = pl.Series([None if number is None else DAY + dt.timedelta(days=number) for number in numbers], dtype=pl.Date)
        plain = pl.Series(numbers, dtype=pl.Float64).set(pl.Series(numbers, dtype=pl.Float64) == 2, math.nan)
        return {"int": pl.Series(numbers, dtype=pl.Int16), "float": plain, "date": days, "text": days.cast(pl.String)}[unit]

    draw = np.random.Generator(np.random.PCG64(8))
    items, since = [f"é{one}" for one in draw.integers(0, 30, 200)], times(holed(draw, draw.integers(0, 9, 200).tolist()))
    path = logs.write(tmp_path, {"item": items, "on": since, "cost": range(200)}, name="costs")
    rows = frame().with_columns(times(holed(draw, draw.integers(0, 9, ROWS).tolist())).alias("moment"))
    source = replace(log(tmp_path, rows), time="moment", joins=(Join(path, "item", time="on"),))
    both(source, Schema((Field("cost", CATEGORY, min_count=1),), TASKS[:1]), ByColumn("part", valid="valid", test="test"), folder=tmp_path)


def test_files_of_a_glob_keep_their_order(tmp_path: Path) -> None:
    """Whatever their sizes and names: blanks, brackets, per cent signs; one has no rows."""
    rows = frame()
    (tmp_path / "some [logs]").mkdir()
    for name, start, count in (("a b%20", 0, 5), ("a=b{c}", 5, 400), ("b", 405, 0), ("c+é", 405, 295)):
        rows.slice(start, count).write_parquet(tmp_path / "some [logs]" / f"{name}.parquet", row_group_size=50)
    source = Source(str(tmp_path / "some [[]logs]" / "*.parquet"), user="user", time="at")
    both(source, Schema((*FIELDS, *COMPUTED), TASKS), TIMED, folder=tmp_path)


CSV = "user,text,number,flag,time,click"


def test_csv_means_what_it_means_here(tmp_path: Path) -> None:
    """Quotes, line ends inside them, empty text beside no value, blanks, and numbers of every form."""
    draw = np.random.Generator(np.random.PCG64(9))
    texts = ['""', "", " x ", '"a ""b"""', '"two\nlines"', "NULL", "nan", "'", "\\", "\"é,\""]
    numbers = ["1", "-2.5", "1e3", "", "NaN", "7", ".5"]
    drawn = zip(draw.choice(texts, 200), draw.choice(numbers, 200), draw.choice(["true", "false"], 200), strict=True)
    lines = [f"{one % 5},{text},{number},{flag},{one},{one % 2}" for one, (text, number, flag) in enumerate(drawn)]
    (tmp_path / "a.csv").write_text(CSV + "\n" + "\n".join(lines[:90]) + "\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text(CSV + "\r\n" + "\r\n".join(lines[90:]) + "\r\n", encoding="utf-8", newline="")
    (tmp_path / "users.csv").write_text('user,name\n0,x\n1,\n2,""\n7,y\n')
    joins = (Join(str(tmp_path / "users.csv"), "user"),)
    source = Source(str(tmp_path / "[ab].csv"), user="user", time="time", joins=joins, beside=("name", "text"))
    plain = [Field(name, CATEGORY, min_count=1) for name in ("text", "flag")]
    fields = (*plain, Field("number", NUMBER), Field("twice", NUMBER, sql="number * 2 + `user`"))
    both(source, Schema(fields, (Task("click"),)), ByTime(120, 160), folder=tmp_path)


# expressions


def bits(values: list[object]) -> list[object]:
    """Values that equal themselves: doubles by their bits, all NaN as one."""
    return [one if not isinstance(one, float) else "nan" if math.isnan(one) else struct.pack("d", one) for one in values]


def on_spark(texts: list[str], columns: pl.DataFrame, folder: Path) -> list[pl.Series]:
    """Each expression in Spark's form, over the rows of a frame, in the type in which Polars has it."""
    from umbel.data.spark.form import form

    columns.with_row_index("row at last").write_parquet(folder / "frame.parquet")
    rows = spark().read.parquet(str(folder / "frame.parquet")).orderBy("`row at last`")
    found = rows.selectExpr(*(f"{form(text, columns)} AS `{place}`" for place, text in enumerate(texts))).collect()
    kinds = [evaluate(columns.clear(), [field_value(Field("f", NUMBER, sql=text))]).to_series().dtype for text in texts]
    return [pl.Series([row[place] for row in found], strict=False).cast(kind) for place, kind in enumerate(kinds)]


@settings(deadline=None, max_examples=4)
@given(terms=st.lists(TERMS | truths(COLUMNS), min_size=20, max_size=30))
def test_any_numbers_are_the_same_to_the_last_bit(terms: list[Term | Truth]) -> None:
    with tempfile.TemporaryDirectory() as name:
        spark()
        from umbel.data.spark.form import alike

        texts = [term.text for term in terms if alike(term.text, FRAME)]
        for text, found in zip(texts, on_spark(texts, FRAME, Path(name)) if texts else [], strict=True):
            here = evaluate(FRAME, [field_value(Field("f", NUMBER, sql=text))]).to_series()
            assert bits(found.to_list()) == bits(here.to_list()), text
