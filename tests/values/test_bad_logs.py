"""What is wrong with a log, a schema or a place to write to ends in one line, and earlier outputs stay as they were."""

from __future__ import annotations

import datetime as dt
import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests import logs
from tests.logs import BAG, CATEGORY, ID, NUMBER, SCHEMA, SEQUENCE, SPLIT, VECTOR, changed, one_field

from umbel import machine
from umbel.data import files, storage
from umbel.data.ingest import ingest
from umbel.data.labels import conditional, contradictions
from umbel.data.raw import rows as raw_rows
from umbel.data.source import Join, Source
from umbel.data.split import ByColumn, ByTime, Split
from umbel.data.storage import schema_from_json, schema_to_json
from umbel.data.table import Table
from umbel.data.vocab import Encoder
from umbel.errors import UserError
from umbel.evaluate.intervals import Interval
from umbel.evaluate.judge import Predictions, evaluate
from umbel.evaluate.metrics import Undefined
from umbel.kinds import LogNormal, MultiClass, Ordinal, Poisson, TaskKind, Tweedie, ZeroInflated
from umbel.schema import REGRESSION, Field, Schema, Task

INF = float("inf")


def refuses(source: Source, schema: Schema = SCHEMA, split: Split = SPLIT, *, folder: Path, says: str) -> str:
    """Ingesting fails with one line that holds `says`, and leaves nothing behind."""
    before = logs.contents(folder.parent)
    with pytest.raises(UserError) as caught:
        ingest(source, schema, split, folder=folder)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert "; " in message  # the mend
    assert logs.contents(folder.parent) == before
    return message


def bad_rows(folder: Path, rows: logs.Rows, schema: Schema = SCHEMA, *, says: str) -> None:
    """These rows cannot be ingested."""
    refuses(logs.source(folder, rows), schema, folder=folder / "table", says=says)


# files


@pytest.mark.parametrize(
    ("path", "says"),
    [("none.parquet", "none.parquet: no such file"), ("*.csv", "*.csv: no such file"), ("log.txt", "log.txt: neither .parquet nor .csv")],
)
def test_a_missing_file(tmp_path: Path, path: str, says: str) -> None:
    (tmp_path / "log.txt").write_text("x")
    refuses(Source(str(tmp_path / path)), folder=tmp_path / "table", says=says)


def test_a_missing_joined_file(tmp_path: Path) -> None:
    refuses(logs.source(tmp_path, joins=(Join(str(tmp_path / "no.csv"), "user"),)), folder=tmp_path / "table", says="no.csv: no such file")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"garbage " * 100])
def test_a_file_that_is_no_parquet(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "log.parquet").write_bytes(content)
    refuses(Source(str(tmp_path / "log.parquet")), folder=tmp_path / "table", says="log.parquet: cannot be read")


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.99])
def test_a_parquet_that_was_cut_short(tmp_path: Path, keep: float) -> None:
    path = Path(logs.write(tmp_path))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    refuses(Source(str(path), user="user", time="time"), folder=tmp_path / "table", says="log.parquet: cannot be read")


def test_a_parquet_with_a_damaged_page(tmp_path: Path) -> None:
    rows = {name: list(column) * 500 for name, column in logs.ROWS.items()}
    path = Path(logs.write(tmp_path, rows))
    content = bytearray(path.read_bytes())
    content[200:600] = os.urandom(400)
    path.write_bytes(bytes(content))
    refuses(Source(str(path), user="user", time="time"), folder=tmp_path / "table", says="log.parquet: cannot be read")


def test_a_parquet_with_a_column_twice(tmp_path: Path) -> None:
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["user", "user"]), tmp_path / "log.parquet")
    message = refuses(Source(str(tmp_path / "log.parquet")), folder=tmp_path / "table", says="log.parquet: cannot be read")
    assert "user" in message


def test_a_csv_with_a_column_twice(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,click,user\n1,1,2\n")
    refuses(Source(str(tmp_path / "log.csv")), folder=tmp_path / "table", says="column 'user' stands twice")


def test_a_csv_that_is_empty(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("")
    refuses(Source(str(tmp_path / "log.csv")), folder=tmp_path / "table", says="log.csv: cannot be read")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_log_without_rows(tmp_path: Path, kind: str) -> None:
    frame = pl.DataFrame(logs.ROWS).drop("watched", "age").clear()
    path = tmp_path / f"log.{kind}"
    frame.write_csv(path) if kind == "csv" else frame.write_parquet(path)
    refuses(Source(str(path), time="time"), one_field(Field("user", ID)), folder=tmp_path / "table", says="holds no time")


def test_a_log_without_rows_split_by_a_column(tmp_path: Path) -> None:
    path = logs.write(tmp_path, {"user": [], "click": [], "part": []})
    split = ByColumn("part", "valid", "test")
    refuses(Source(path), one_field(Field("user", ID)), split, folder=tmp_path / "table", says="no row falls into train (of 0)")


# columns


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (one_field(Field("usr", ID)), "fields.usr: no column 'usr' in"),
        (one_field(Field("u", ID, column="usr")), "fields.u: no column 'usr' in"),
        (one_field(Field("u", ID, sql="FLOOR(usr / 2)")), "fields.u: no column 'usr' in"),
        (Schema((Field("user", ID),), (Task("clik"),)), "tasks.clik: no column 'clik'"),
        (Schema((Field("user", ID),), (Task("c", label="clik"),)), "tasks.c: no column 'clik'"),
        (Schema((Field("user", ID),), (Task("c", sql="clik > 0"),)), "tasks.c: no column 'clik'"),
        (one_field(Field("u", ID, sql="SUM(user)")), "fields.u: 'SUM' at character 1"),
    ],
)
def test_an_unknown_column(tmp_path: Path, schema: Schema, says: str) -> None:
    refuses(logs.source(tmp_path), schema, folder=tmp_path / "table", says=says)


def test_the_nearest_column_is_named(tmp_path: Path) -> None:
    refuses(logs.source(tmp_path), one_field(Field("usr", ID)), folder=tmp_path / "table", says="did you mean 'user'?")


@pytest.mark.parametrize("end", ["user", "item", "time"])
def test_an_unknown_user_item_or_time(tmp_path: Path, end: str) -> None:
    source = Source(logs.write(tmp_path), **{"time": "time", end: "nope"})  # type: ignore[arg-type]
    refuses(source, folder=tmp_path / "table", says=f"data.{end}: no column 'nope'")


def test_a_column_in_two_files(tmp_path: Path) -> None:
    users = logs.write(tmp_path, {"user": [1], "age": [5]}, name="users")
    refuses(logs.source(tmp_path, joins=(Join(users, "user"),)), folder=tmp_path / "table", says="column 'age' is also in the log")


def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    users = logs.write(tmp_path, {"uid": [1], "city": [5]}, name="users")
    refuses(logs.source(tmp_path, joins=(Join(users, "user"),)), folder=tmp_path / "a", says="users.parquet: no column 'user' to join on")
    refuses(logs.source(tmp_path, joins=(Join(users, "uid"),)), folder=tmp_path / "b", says="log.parquet: no column 'uid' to join on")


def test_a_key_that_stands_twice(tmp_path: Path) -> None:
    users = logs.write(tmp_path, {"user": [1, 2, 2], "city": [5, 6, 7]}, name="users")
    source = logs.source(tmp_path, joins=(Join(users, "user"),))
    refuses(source, one_field(Field("city", ID)), folder=tmp_path / "table", says="users.parquet: key user = 2 stands twice")


def test_times_of_two_types(tmp_path: Path) -> None:
    prices = logs.write(tmp_path, {"item": ["a"], "at": ["2022-01-01"], "price": [1]}, name="prices")
    source = logs.source(tmp_path, joins=(Join(prices, "item", time="at"),))
    refuses(source, one_field(Field("price", NUMBER)), folder=tmp_path / "table", says="its time is String, the log's is Int64")


def test_a_join_by_time_needs_a_time(tmp_path: Path) -> None:
    prices = logs.write(tmp_path, {"item": ["a"], "at": [1], "price": [1]}, name="prices")
    refuses(Source(logs.write(tmp_path), joins=(Join(prices, "item", time="at"),)), folder=tmp_path / "table", says="names no time column")
    refuses(logs.source(tmp_path, joins=(Join(prices, "item", time="when"),)), folder=tmp_path / "table", says="no column 'when'")


# values


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ([0, 1, 2, 0, 1, 0, 1, 0, 1, 0], "tasks.click: label 2 in row 3 of the log"),
        ([0, 1, 0, 0, 1, 0, 1, 0, 1, -1], "tasks.click: label -1 in row 10 of the log"),
        ([0, 0.5, 0, 0, 1, 0, 1, 0, 1, 0], "tasks.click: label 0.5 in row 2"),
        ([0, INF, 0, 0, 1, 0, 1, 0, 1, 0], "tasks.click: label inf in row 2"),
        (["yes"] * 10, "tasks.click: 'yes' is no number"),
        ([[1]] * 10, "tasks.click: no number can be read from List"),
        ([0, 1, 0, 0, 1, 0, 0, 0, 1, 0], "tasks.click: every label in valid is 0"),
        ([1, 1, 1, 1, 1, 1, 1, 0, 1, 0], "tasks.click: every label in train is 1"),
        ([0, 1, 0, 0, 1, 0, 1, 0, None, None], "tasks.click: no label is seen in test"),
        ([None] * 10, "tasks.click: no label is seen in train"),
    ],
)
def test_a_bad_label(tmp_path: Path, column: list[object], says: str) -> None:
    bad_rows(tmp_path, changed(click=column), one_field(Field("user", ID)), says=says)


@pytest.mark.parametrize(
    ("buy", "says"),
    [
        ([0, 1, 1, 0, 1, 0, 1, 0, 1, 0], "tasks.buy: every label in train where 'click' holds is 1; check the label columns"),
        ([1, 0, 0, 0, 0, 0, 1, 0, 1, 0], "tasks.buy: every label in train where 'click' holds is 0"),
        ([0, None, None, 1, None, 0, 1, 0, 1, 0], "tasks.buy: no label is seen in train where 'click' holds"),
    ],
)
def test_a_task_that_its_sample_space_teaches_nothing(tmp_path: Path, buy: list[object], says: str) -> None:
    bad_rows(tmp_path, changed(buy=buy), says=says)


def test_what_is_learned_from_is_seen_and_all_above_it_holds() -> None:
    tasks = (Task("keep", given="buy"), Task("click"), Task("buy", given="click"))
    labels = np.array([[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0], [1, np.nan, 1], [np.nan, 1, 1]], np.float32)
    nan = np.nan
    learned = [[1, 1, 1], [0, 1, 1], [nan, 0, nan], [nan, 1, 0], [nan, nan, nan], [nan, 1, 1]]
    np.testing.assert_array_equal(conditional(labels, Schema((Field("user", ID),), tasks)), learned)
    assert contradictions(labels, Schema((Field("user", ID),), tasks)) == [1, 0, 1]


@pytest.mark.parametrize(("kind", "count"), [
    (REGRESSION, 0), (ZeroInflated(), 2), (Poisson(), 2), (Tweedie(), 2), (LogNormal(), 0), (Ordinal(4), 0), (MultiClass(4), 0),
])
def test_an_amount_contradicts_its_sample_space_where_it_is_above_0(kind: TaskKind, count: int) -> None:
    """Other numbers, grades and classes do not: their 0, if they have one, is not that nothing happened."""
    schema = Schema((Field("user", ID),), (Task("click"), Task("spent", kind, given="click")))
    rows = [[0, 1], [0, 3], [0, 0], [0, np.nan], [1, 1], [np.nan, 1]]
    assert contradictions(np.array(rows, np.float32), schema) == [0, count]


def test_amounts_against_their_sample_space_are_refused_as_events_are(tmp_path: Path) -> None:
    schema = Schema((Field("user", ID),), (Task("click"), Task("spent", ZeroInflated(), given="click")))
    bad_rows(tmp_path, changed(spent=[50.0, *logs.ROWS["spent"][1:]]), schema, says="rows hold it although 'click' does not hold")


def test_a_regression_may_be_constant_in_its_sample_space_but_is_seen_there(tmp_path: Path) -> None:
    schema = Schema((Field("user", ID),), (Task("click"), Task("spent", REGRESSION, given="click")))
    logs.table(tmp_path, changed(spent=[0.5, 2.0, 2.0, 1.0, 2.0, 3.0, 1.5, 0.0, None, 4.0]), schema)
    rows = changed(spent=[0.5, None, None, 1.0, None, 3.0, 1.5, 0.0, None, 4.0])
    bad_rows(tmp_path / "none", rows, schema, says="tasks.spent: no label is seen in train where 'click' holds")


def test_a_chain_s_sample_space_is_where_all_of_it_holds(tmp_path: Path) -> None:
    tasks = (Task("keep", given="buy"), Task("click"), Task("buy", given="click"))
    schema = Schema((Field("user", ID),), tasks)
    buy = [0, 1, 1, 0, 0, 0, 1, 0, 1, 0]
    logs.table(tmp_path, changed(buy=buy, keep=[0, 1, 0, 0, 0, 0, 1, 0, 1, 0]), schema)
    rows = changed(buy=buy, keep=[0, 0, 0, 0, 1, 0, 1, 0, 1, 0])
    bad_rows(tmp_path / "bad", rows, schema, says="tasks.keep: every label in train where 'buy' holds is 0")


def test_a_sample_space_of_one_class_later_has_its_figures_as_far_as_there_are_any(tmp_path: Path) -> None:
    """In validation and test: the figures that need two classes say why they are missing; the log is not refused."""
    table = logs.table(tmp_path)
    labels, seen = table.labels("test")
    assert labels[seen[:, 1], 1].tolist() == [1.0]
    scored = Predictions(table.schema, np.zeros((2, 3)), *table.events("test"), table.groups("test"))
    buy = evaluate(scored, np.full((2, 3), 0.5))[1]
    assert buy.figures.metrics["auc"] == Undefined("no negative row")
    assert isinstance(buy.figures.metrics["logloss"], Interval)


def test_the_row_of_a_bad_label_is_counted_over_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umbel.data.ingest.CHUNK", 4)
    bad_rows(tmp_path, changed(click=[0, 1, 0, 0, 1, 0, 1, 0, 1, 3]), one_field(Field("user", ID)), says="in row 10 of the log")


def test_a_regression_label_is_finite(tmp_path: Path) -> None:
    schema = Schema((Field("user", ID),), (Task("spent", REGRESSION),))
    bad_rows(tmp_path, changed(spent=[1.0] * 9 + [-INF]), schema, says="tasks.spent: label -inf in row 10")


def test_text_labels_that_are_numbers_pass(tmp_path: Path) -> None:
    rows = changed(click=[str(one) for one in logs.ROWS["click"]])
    assert logs.table(tmp_path, rows).labels("test")[0][:, 0].tolist() == [1, 0]


def test_labels_against_their_sample_space(tmp_path: Path) -> None:
    rows = changed(buy=[1, 1, 0, 0, 0, 0, 1, 0, 1, 0])
    bad_rows(tmp_path, rows, says="tasks.buy: 1 of 10 rows hold it although 'click' does not hold; drop given = 'click'")


def test_few_contradictions_pass_more_do_not(tmp_path: Path) -> None:
    rows = {name: list(column) * 200 for name, column in logs.ROWS.items()}
    rows["buy"][0], rows["buy"][10] = 1, 1  # 2 of 2,000 rows: exactly 0.1 %
    logs.table(tmp_path, rows)
    rows["buy"][20] = 1
    bad_rows(tmp_path / "more", rows, says="3 of 2000 rows")


@pytest.mark.parametrize(
    ("field", "column", "says"),
    [
        (Field("f", NUMBER), [1.0, INF, -INF, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, INF], "fields.f: infinite in 3 rows"),
        (Field("f", NUMBER), [1.0] * 9 + [-INF], "fields.f: infinite in 1 rows"),
        (Field("f", NUMBER), ["low"] * 10, "fields.f: 'low' is no number"),
        (Field("f", NUMBER), [[1.0]] * 10, "fields.f: no number can be read from List"),
        (Field("f", ID), [[1]] * 10, "fields.f: id of a column of List"),
        (Field("f", CATEGORY), [{"a": 1}] * 10, "fields.f: category of a column of Struct"),
        (Field("f", SEQUENCE), [1] * 10, "fields.f: a sequence cannot be read from Int64"),
        (Field("f", BAG), [[[1]]] * 10, "fields.f: a bag cannot be read from List"),
        (Field("f", VECTOR, width=2), [[1.0, 2.0]] * 9 + [[1.0]], "fields.f: 1 vectors are not 2 wide; set width = 1"),
        (Field("f", VECTOR, width=1), [[1.0]] * 9 + [[INF]], "fields.f: infinite in 1 rows"),
        (Field("f", VECTOR, width=1), [1.0] * 10, "fields.f: a vector cannot be read from Float64"),
        (Field("f2", NUMBER, sql="CAST(f AS BIGINT)"), ["x"] * 10, "fields.f2: "),
    ],
)
def test_a_bad_value(tmp_path: Path, field: Field, column: list[object], says: str) -> None:
    bad_rows(tmp_path, changed(f=column), one_field(field), says=says)


def test_text_that_is_all_numbers_is_a_number(tmp_path: Path) -> None:
    rows = changed(f=["1", "2.5", None, "4", "1e1", "3", "0", "-1", "2", "3"])
    table = logs.table(tmp_path, rows, one_field(Field("f", NUMBER)))
    assert table.encoder.scales["f"].mean == pytest.approx((1 + 2.5 + 4 + 10 + 3) / 5)


def test_nan_in_a_category_is_missing(tmp_path: Path) -> None:
    table = logs.table(tmp_path, changed(f=[1.0, float("nan")] * 5), one_field(Field("f", CATEGORY)))
    assert table.column("f", "train").tolist() == [1, 0] * 3


@pytest.mark.parametrize("length", [0, -1])
def test_a_sequence_of_length_zero(length: int) -> None:
    with pytest.raises(UserError, match="length and min_count are at least 1"):
        one_field(Field("watched", SEQUENCE, length=length))


HUGE = 10**11


@pytest.mark.parametrize(("field", "mend"), [
    (Field("watched", SEQUENCE, length=HUGE), "lower its length"), (Field("watched", BAG, length=HUGE), "lower its length"),
    (Field("f", VECTOR, width=HUGE), "lower its width"),
])  # fmt: skip
def test_rows_wider_than_there_is_memory_for(tmp_path: Path, field: Field, mend: str) -> None:
    """Nothing is read: of whole batches it would be a MemoryError, or the end of the process."""
    says = f"fields.{field.name}: 100,000,000,000 values a row; 8,192 rows at a time take 9.8 PB and this machine has "
    message = refuses(logs.source(tmp_path, changed(f=[[1.0]] * 10)), one_field(field), folder=tmp_path / "table", says=says)
    assert message.endswith(f"; {mend}")


@pytest.mark.parametrize(("length", "rows"), [(2, 131_072), (31, 131_072), (32, 127_100), (99, 41_943), (1000, 8192)])
def test_there_is_room_or_there_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, rows: int) -> None:
    """Twelve bytes of each value of so many rows, with a user a row: as it is read, encoded, and written."""
    schema = Schema((Field("user", ID), Field("watched", SEQUENCE, length=length)), (Task("click"),))
    needs = 12 * rows * (length + 1)
    monkeypatch.setattr(machine, "memory", lambda: needs)
    assert len(logs.table(tmp_path, schema=schema).parts["train"]) == 6
    monkeypatch.setattr(machine, "memory", lambda: needs - 1)
    says = f"fields.watched: {length:,} values a row; {rows:,} rows at a time take {machine.said(needs)} and this machine has "
    refuses(logs.source(tmp_path), schema, folder=tmp_path / "other", says=says)


def test_of_wide_fields_the_widest_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory", lambda: 1)
    fields = (Field("user", ID), Field("watched", SEQUENCE, length=3), Field("f", VECTOR, width=4), Field("age", NUMBER))
    rows = changed(f=[[1.0, 2.0, 3.0, 4.0]] * 10)
    bad_rows(tmp_path, rows, Schema(fields, (Task("click"),)), says="fields.f: 4 values a row; ")


def test_sequences_that_are_all_empty(tmp_path: Path) -> None:
    rows = changed(none=pl.Series([[]] * 10, dtype=pl.List(pl.Int64)), missing=[None] * 10)
    schema = Schema((Field("none", SEQUENCE, length=3), Field("missing", BAG, length=2)), (Task("click"),))
    batch = logs.table(tmp_path, rows, schema).batch(np.arange(10))
    assert (batch.fields["none"] == -1).all()
    assert (batch.fields["missing"] == -1).all()


# splits


@pytest.mark.parametrize(
    ("split", "says"),
    [
        (ByTime(0, 5), "no row falls into train (of 10)"),
        (ByTime(5, 50), "no row falls into test (of 10)"),
        (ByTime(20, 50), "no row falls into valid (of 10)"),
        (ByTime(8, 6), "valid = 8 is not before test = 6; swap them"),
        (ByColumn("item", "b", "z", train="a"), "no label is seen"),
    ],
)
def test_a_bad_split(tmp_path: Path, split: Split, says: str) -> None:
    schema = one_field(Field("user", ID))
    rows = changed(click=[0, 1, 1, 0, 1, 0, 1, None, 0, 0])
    refuses(logs.source(tmp_path, rows), schema, split, folder=tmp_path / "table", says=says)


DAYS = ByTime(dt.date(2022, 5, 6), dt.date(2022, 5, 8))
LONG_AGO = 1_651_363_200_000  # 2022-05-01 in milliseconds
MOVE = "move the split's borders"


@pytest.mark.parametrize(("time", "split", "mend"), [
    ([0, *(LONG_AGO + at * 86_400_000 for at in range(9))], DAYS, "'time' was read as seconds, by its first value 0"),
    ([float(LONG_AGO // 1000 + at) for at in range(10)], DAYS, "'time' was read as seconds, by its first value 1651363200.0"),
    ([20_220_501] * 10, ByTime("2022-05-03", "2022-05-04"), "'time' was read as days of the form YYYYMMDD, by its first value 20220501"),
    ([None, *(LONG_AGO + at for at in range(9))], ByTime(dt.date(2022, 5, 6), LONG_AGO * 2), "read as milliseconds, by its first value"),
])  # fmt: skip
def test_where_the_unit_of_times_was_guessed_an_empty_part_says_so(tmp_path: Path, time: list[float], split: Split, mend: str) -> None:
    """Of a first value of 0 all others are read as seconds, thousands of years away."""
    source = logs.source(tmp_path, changed(time=time))
    message = refuses(source, one_field(Field("user", ID)), split, folder=tmp_path / "table", says="split: no row falls into ")
    assert f"(of 10); {MOVE}, or write them as numbers (" in message
    assert mend in message


@pytest.mark.parametrize(("time", "split"), [
    ([dt.date(2022, 5, 1)] * 10, DAYS), (["2022-05-01"] * 10, DAYS), (list(range(10)), ByTime(20, 30)),
    (list(range(10)), ByColumn("item", "nobody", "nothing", train="a")),
])  # fmt: skip
def test_where_nothing_was_guessed_the_borders_are_to_blame(tmp_path: Path, time: logs.Column, split: Split) -> None:
    source = logs.source(tmp_path, changed(time=time))
    message = refuses(source, one_field(Field("user", ID)), split, folder=tmp_path / "table", says="split: no row falls into valid (of 10)")
    assert message.endswith(f"; {MOVE}")


def test_times_out_of_order(tmp_path: Path) -> None:
    day = [1, 1, 1, 1, 1, 1, 2, 2, 3, 3]
    rows = changed(day=day, time=[0, 1, 2, 3, 4, 99, 6, 7, 8, 9])
    says = "split: a training row has time 99, a test row 8"
    refuses(logs.source(tmp_path, rows), split=ByTime(2, 3, column="day"), folder=tmp_path / "table", says=says)


# places to write to


def test_a_folder_that_is_not_a_table_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    refuses(logs.source(tmp_path), folder=tmp_path / "mine", says="mine: exists and is not a table")
    (tmp_path / "file").write_text("x")
    refuses(logs.source(tmp_path), folder=tmp_path / "file", says="file: exists and is not a table")


def test_an_empty_folder_and_an_older_table_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    first = logs.table(tmp_path)
    rows = changed(user=[5] * 10)
    second = logs.table(tmp_path, rows)
    assert first.folder == second.folder
    assert Table.open(tmp_path / "table").groups("test").tolist() == [5, 5]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.parquet", "table"]


def test_a_failure_leaves_the_older_table_as_it_was(tmp_path: Path) -> None:
    logs.table(tmp_path)
    bad_rows(tmp_path, changed(buy=[1] * 10), says="tasks.buy")
    assert Table.open(tmp_path / "table").groups("test").tolist() == [2, 8]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["umbel.data.storage.Rows.put", "umbel.data.ingest.write_json"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    logs.table(tmp_path)
    monkeypatch.setattr(where, full)
    refuses(logs.source(tmp_path), folder=tmp_path / "table", says="table: the disk is full")


def test_a_disk_that_is_full_at_the_last_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close = storage.Rows.close

    def fails(rows: storage.Rows) -> None:
        close(rows)
        full()

    monkeypatch.setattr(storage.Rows, "close", fails)
    refuses(logs.source(tmp_path), folder=tmp_path / "table", says="table: the disk is full")


def test_a_full_disk_as_polars_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = pl.DataFrame.write_parquet
    source = logs.source(tmp_path)
    monkeypatch.setattr(pl.DataFrame, "write_parquet", lambda frame, _path: write(frame, "/dev/full"))
    refuses(source, folder=tmp_path / "table", says="table: the disk is full")


@pytest.mark.parametrize("more", [1, -1])
def test_a_log_that_changes_between_the_passes(tmp_path: Path, more: int) -> None:
    frame = pl.DataFrame(logs.ROWS).drop("watched")
    path = tmp_path / "log.csv"
    frame.write_csv(path)

    def change(rows: int) -> None:
        if rows == 5:
            (frame.vstack(frame.tail(1)) if more > 0 else frame.head(9)).write_csv(path)

    schema = one_field(Field("user", ID))
    with pytest.raises(UserError, match=r"log\.csv: changed while it was read"):
        ingest(Source(str(path), time="time"), schema, SPLIT, folder=tmp_path / "table", progress=change)
    assert not (tmp_path / "table").exists()


@pytest.mark.parametrize("at", [5, 10])
def test_an_interrupt_leaves_nothing(tmp_path: Path, at: int) -> None:
    def stop(rows: int) -> None:
        if rows == at:
            raise KeyboardInterrupt

    source = logs.source(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ingest(source, SCHEMA, SPLIT, folder=tmp_path / "table", progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]


@pytest.mark.parametrize("at", [5, 10])
def test_a_killed_run_leaves_no_half_table(tmp_path: Path, at: int) -> None:
    table = logs.table(tmp_path)
    before = logs.contents(table.folder)
    script = f"""
        import os, signal
        from pathlib import Path
        from tests import logs
        from umbel.data.ingest import ingest

        def kill(rows: int) -> None:
            if rows == {at}:
                os.kill(os.getpid(), signal.SIGKILL)

        folder = Path({str(tmp_path)!r})
        ingest(logs.source(folder, logs.changed(user=[5] * 10)), logs.SCHEMA, logs.SPLIT, folder=folder / "table", progress=kill)
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert logs.contents(table.folder) == before


# opening what was written


@pytest.mark.parametrize(
    "name",
    [*("meta.json", "source.json", "schema.json", "scales.json"), *("vocabulary/user.parquet", "int32.npy", "labels.npy", "group.npy")],
)
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])])
def test_a_damaged_table(tmp_path: Path, name: str, harm: Callable[[Path], object]) -> None:
    table = logs.table(tmp_path)
    harm(table.folder / name)
    with pytest.raises(UserError) as caught:
        Table.open(table.folder)
    assert str(table.folder) in str(caught.value)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a table; make one with umbel ingest"):
        Table.open(tmp_path)


def test_a_table_of_a_later_format(tmp_path: Path) -> None:
    table = logs.table(tmp_path)
    meta = table.folder / "meta.json"
    meta.write_text(meta.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(UserError, match="format 3"):
        Table.open(table.folder)


@pytest.mark.parametrize("field", ["age", "watched", "nope"])
def test_counts_need_one_value_a_row(tmp_path: Path, field: str) -> None:
    with pytest.raises(UserError, match=field):
        logs.table(tmp_path).seen_counts("test", field)


def test_schemas_survive_json() -> None:
    fields = (Field("v", VECTOR, width=3), Field("s", SEQUENCE, length=7, min_count=5), Field("t", CATEGORY, like="s", column="c"))
    schema = Schema((*SCHEMA.fields, *fields), (*SCHEMA.tasks, Task("paid", given="buy", weight=0.5, sql="buy > 0")))
    assert schema_from_json(schema_to_json(schema)) == schema


def test_a_kind_of_task_that_is_not_known() -> None:
    data = schema_to_json(SCHEMA)
    data["tasks"][0]["kind"] = "binry"  # type: ignore[index]
    with pytest.raises(UserError, match=r"tasks\.click\.kind: no 'binry'; did you mean 'binary'"):
        schema_from_json(data)


# scoring


def test_scoring_needs_every_field(tmp_path: Path) -> None:
    encoder = logs.table(tmp_path).encoder
    path = logs.write(tmp_path, {name: column for name, column in logs.ROWS.items() if name != "item"}, name="new")
    with pytest.raises(UserError, match=r"fields\.item: no column 'item'"):
        list(raw_rows(Source(path), encoder, 4))


def test_scoring_refuses_infinite_numbers(tmp_path: Path) -> None:
    encoder = logs.table(tmp_path).encoder
    path = logs.write(tmp_path, changed(age=[INF] * 10), name="new")
    with pytest.raises(UserError, match=r"fields\.age: infinite in 4 rows"):
        list(raw_rows(Source(path), encoder, 4))


def test_an_encoder_without_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="damaged"):
        Encoder.load(tmp_path)


def test_a_file_that_stops_being_readable_names_itself(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"some\.csv: cannot be read \(boom\); correct it"), files.reading("some.csv"):
        raise pl.exceptions.ComputeError("boom\nmore")


def test_other_failures_are_not_disguised(tmp_path: Path) -> None:
    with pytest.raises(pl.exceptions.ComputeError), storage.fresh_folder(tmp_path / "table"):
        raise pl.exceptions.ComputeError("ours")
    assert list(tmp_path.iterdir()) == []
