"""A log of ten rows, encoded: every code, number, label and group by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests import logs
from tests.logs import BAG, CATEGORY, ID, NUMBER, SEQUENCE, SPLIT, VECTOR, changed, one_field

from umbel.data import keys, vocab
from umbel.data.groups import nobody
from umbel.data.ingest import ingest
from umbel.data.source import Source
from umbel.data.split import ByColumn, ByTime, ByUser, Split
from umbel.data.table import Table
from umbel.evaluate.intervals import resample
from umbel.schema import BINARY, REGRESSION, Field, Schema, Task


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return logs.table(tmp_path)


def codes(table: Table, name: str) -> list[object]:
    return [code for part in ("train", "valid", "test") for code in table.column(name, part).tolist()]


def test_parts_are_contiguous(table: Table) -> None:
    assert table.parts == {"train": range(6), "valid": range(6, 8), "test": range(8, 10)}
    assert table.aside.dropped == 0


def test_rows_of_a_part_keep_their_order_and_parts_follow_each_other(tmp_path: Path) -> None:
    order = [3, 9, 0, 7, 1, 4, 8, 2, 6, 5]
    shuffled = {name: [column[row] for row in order] for name, column in logs.ROWS.items()}
    table = logs.table(tmp_path, shuffled)
    assert table.times("train").tolist() == [3, 0, 1, 4, 2, 5]
    assert table.times("valid").tolist() == [7, 6]
    assert table.times("test").tolist() == [9, 8]


def test_ids_are_coded_by_training_count_then_bytes(table: Table) -> None:
    # Users in training: 1 three times, 2 twice, 3 once; 9 and 8 only later.
    assert table.encoder.vocabularies["user"].frame["value"].to_list() == [1, 2, 3]
    assert codes(table, "user") == [1, 1, 2, 2, 3, 1, 1, 0, 2, 0]


def test_a_shared_vocabulary_counts_every_field_that_shares_it(table: Table) -> None:
    # Items a3 b2 c1; watched, cut to the last three: a2 b1, then c is cut off (a b a remain: a2 b1), a1, b2.
    frame = table.encoder.vocabularies["item"].frame
    assert frame["value"].to_list() == ["a", "b", "c"]
    assert frame["count"].to_list() == [7, 6, 1]
    assert frame["count:item"].to_list() == [3, 2, 1]
    assert frame["count:watched"].to_list() == [4, 4, 0]


def test_sequences_keep_their_last_values_and_are_padded_behind(table: Table) -> None:
    assert codes(table, "watched") == [
        [1, 2, -1],
        [-1, -1, -1],
        [-1, -1, -1],
        [1, 2, 1],
        [1, -1, -1],
        [2, 2, -1],
        [0, -1, -1],  # z is unknown, not padding
        [1, 0, -1],  # so is a missing value in a list
        [-1, -1, -1],
        [2, -1, -1],
    ]


def test_numbers_are_standardised_by_training_rows(table: Table) -> None:
    # Training ages 10, 20, 40, 30: mean 25, population sd sqrt(125).
    scale = table.encoder.scales["age"]
    assert (scale.mean, scale.sd) == pytest.approx((25.0, 125**0.5))
    expected = [(age - 25) / 125**0.5 for age in (10.0, 20.0, np.nan, 40.0, np.nan, 30.0)]
    np.testing.assert_allclose(table.column("age", "train"), np.array(expected, np.float32), rtol=1e-6)
    np.testing.assert_allclose(table.column("age", "test"), np.array([0.0, -15 / 125**0.5], np.float32), atol=1e-6)


def test_labels_honour_what_they_are_given(table: Table) -> None:
    labels, seen = table.labels("train")
    assert labels.tolist() == [[0, 0, 0.5], [1, 1, 2], [1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 3]]
    assert seen.tolist() == [
        [True, False, True],
        [True, True, True],
        [True, True, False],
        [True, False, True],
        [True, True, True],
        [True, False, True],
    ]


def test_events_ignore_what_they_are_given(table: Table) -> None:
    labels, observed = table.events("test")
    assert labels.tolist() == [[1, 1, 0], [0, 0, 4]]
    assert observed.tolist() == [[True, True, False], [True, True, True]]


def test_groups_are_raw_users(table: Table) -> None:
    assert table.groups("valid").tolist() == [1, 9]
    assert table.groups("test").tolist() == [2, 8]


def test_seen_counts_are_of_the_field_not_of_the_shared_vocabulary(table: Table) -> None:
    assert table.seen_counts("test", "user").tolist() == [2, 0]
    assert table.seen_counts("test", "item").tolist() == [2, 3]
    assert table.seen_counts("valid", "item").tolist() == [3, 0]


def test_a_batch_is_the_rows_asked_for(table: Table) -> None:
    batch = table.batch(np.array([9, 1, 1]))
    assert list(batch.fields) == ["user", "item", "age", "watched"]
    assert batch.fields["user"].tolist() == [0, 1, 1]
    assert batch.fields["item"].dtype == torch.int32
    assert batch.fields["watched"].tolist() == [[2, -1, -1], [-1, -1, -1], [-1, -1, -1]]
    assert batch.fields["age"].dtype == torch.float32
    assert batch.labels.tolist() == [[0, 0, 4], [1, 1, 2], [1, 1, 2]]
    assert batch.seen.tolist() == [[True, False, True], [True, True, True], [True, True, True]]
    assert batch.index.tolist() == [9, 1, 1]
    assert batch.group is not None
    assert batch.group.tolist() == [8, 1, 1]
    assert batch.weight is None


def test_a_batch_takes_tensors_too(table: Table) -> None:
    batch = table.batch(torch.tensor([2], dtype=torch.int32))
    assert batch.fields["user"].tolist() == [2]


def test_an_opened_table_is_the_one_that_was_made(table: Table) -> None:
    again = Table.open(table.folder)
    assert again.schema == table.schema
    assert again.source == table.source
    assert again.parts == table.parts
    assert again.encoder.scales == table.encoder.scales
    first, second = table.batch(np.arange(10)), again.batch(np.arange(10))
    for name, column in first.fields.items():
        torch.testing.assert_close(column, second.fields[name], equal_nan=True)


def test_values_are_looked_for_in_no_vocabulary_until_one_is_asked_for(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training opens a table of millions of ids, and asks for none by its value."""
    made: list[int] = []

    def find(values: pl.Series) -> keys.Finder:
        made.append(len(values))
        return keys.Finder(values)

    monkeypatch.setattr(vocab, "Finder", find)
    opened = Table.open(table.folder)
    assert not made
    own = opened.encoder.vocabularies["user"]
    first = own.encode(own.decode(np.array([1, 2], np.int32)))
    assert first.tolist() == own.encode(own.decode(np.array([1, 2], np.int32))).tolist() == [1, 2]
    assert made == [own.frame.height], "what finds values is made once"


def test_values_below_the_least_count_are_unknown(tmp_path: Path) -> None:
    table = logs.table(tmp_path, schema=one_field(Field("user", ID, min_count=2)))
    assert table.encoder.vocabularies["user"].size == 3
    assert codes(table, "user") == [1, 1, 2, 2, 0, 1, 1, 0, 2, 0]


def test_a_derived_column(tmp_path: Path) -> None:
    table = logs.table(tmp_path, schema=one_field(Field("half", CATEGORY, sql="FLOOR(time / 2)", min_count=1)))
    assert table.encoder.decode("half", table.column("half", "train")).to_list() == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]


def test_a_derived_label(tmp_path: Path) -> None:
    schema = Schema((Field("user", ID),), (Task("much", sql="CASE WHEN spent > 1 THEN 1 ELSE 0 END"),))
    assert logs.table(tmp_path, schema=schema).labels("train")[0][:, 0].tolist() == [0, 1, 0, 0, 0, 1]


def test_a_boolean_label(tmp_path: Path) -> None:
    rows = changed(click=[bool(one) for one in logs.ROWS["click"]])
    assert logs.table(tmp_path, rows).labels("test")[0][:, 0].tolist() == [1, 0]


def test_a_vector(tmp_path: Path) -> None:
    rows = changed(vector=[[float(row), 1.0] for row in range(9)] + [None])
    table = logs.table(tmp_path, rows, schema=one_field(Field("vector", VECTOR, width=2)))
    assert table.column("vector", "valid").tolist() == [[6.0, 1.0], [7.0, 1.0]]
    assert np.isnan(table.column("vector", "test")[1]).all()
    assert table.batch(np.array([3])).fields["vector"].tolist() == [[3.0, 1.0]]


def test_a_bag_of_text(tmp_path: Path) -> None:
    rows = changed(tags=["x,y", "x", None, "", "[y, x]", "x|y;w", "q", "y", "x y", "x"])
    table = logs.table(tmp_path, rows, schema=one_field(Field("tags", BAG, length=2, min_count=1)))
    frame = table.encoder.vocabularies["tags"].frame
    assert dict(frame.select("value", "count").iter_rows()) == {"x": 3, "y": 3, "w": 1}
    assert frame["value"].to_list() == ["x", "y", "w"]
    assert codes(table, "tags") == [[1, 2], [1, -1], [-1, -1], [-1, -1], [2, 1], [2, 3], [0, -1], [2, -1], [1, 2], [1, -1]]


def test_an_array_column_is_a_sequence(tmp_path: Path) -> None:
    rows = changed(pair=pl.Series([[row, row + 1] for row in range(10)], dtype=pl.Array(pl.Int64, 2)))
    table = logs.table(tmp_path, rows, schema=one_field(Field("pair", SEQUENCE, length=2, min_count=2)))
    assert table.encoder.vocabularies["pair"].frame["value"].to_list() == [1, 2, 3, 4, 5]


def test_ids_never_seen_in_training_are_unknown_everywhere(tmp_path: Path) -> None:
    rows = changed(fresh=[None] * 6 + [1, 2, 3, 4])
    table = logs.table(tmp_path, rows, schema=one_field(Field("fresh", ID, min_count=1)))
    assert table.encoder.vocabularies["fresh"].size == 1
    assert codes(table, "fresh") == [0] * 10


def test_a_number_that_never_changes_becomes_zero(tmp_path: Path) -> None:
    table = logs.table(tmp_path, changed(same=[7] * 10), schema=one_field(Field("same", NUMBER)))
    assert table.encoder.scales["same"].sd == 1.0
    assert table.column("same", "train").tolist() == [0.0] * 6


def test_a_number_without_training_values(tmp_path: Path) -> None:
    table = logs.table(tmp_path, changed(late=[None] * 6 + [1.0, 2.0, 3.0, 4.0]), schema=one_field(Field("late", NUMBER)))
    assert table.column("late", "valid").tolist() == [1.0, 2.0]


def test_without_user_every_row_is_its_own_group(tmp_path: Path) -> None:
    source = Source(logs.write(tmp_path), time="time")
    table = ingest(source, one_field(Field("item", ID)), ByTime(6, 8), folder=tmp_path / "table")
    assert table.groups("test").tolist() == [8, 9]


def test_without_time_times_are_zero(tmp_path: Path) -> None:
    part = ["train"] * 6 + ["valid"] * 2 + ["test"] * 2
    source = Source(logs.write(tmp_path, changed(part=part)))
    table = ingest(source, one_field(Field("item", ID)), ByColumn("part", "valid", "test"), folder=tmp_path / "table")
    assert table.times("train").tolist() == [0] * 6


def test_rows_outside_every_part_are_dropped_and_counted(tmp_path: Path) -> None:
    part = ["train"] * 5 + ["other"] + ["valid"] * 2 + ["test"] * 2
    source = Source(logs.write(tmp_path, changed(part=part)), user="user")
    table = ingest(source, one_field(Field("item", ID)), ByColumn("part", "valid", "test"), folder=tmp_path / "table")
    assert table.aside.dropped == 1
    assert table.parts["train"] == range(5)


def test_progress_counts_every_row_once(tmp_path: Path) -> None:
    told: list[int] = []
    ingest(logs.source(tmp_path), logs.SCHEMA, logs.SPLIT, folder=tmp_path / "table", progress=told.append)
    assert told == [5, 10]


def test_contradictions_are_counted(tmp_path: Path) -> None:
    many = {name: [*column] * 200 for name, column in logs.ROWS.items()}
    buy = [*many["buy"]]
    buy[0] = 1  # not clicked
    table = logs.table(tmp_path, {**many, "buy": buy})
    assert json.loads((table.folder / "meta.json").read_text())["contradictions"] == {"click": 0, "buy": 1, "spent": 0}
    assert not table.labels("train")[1][0, 1]


def test_rows_without_a_user_are_each_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umbel.data.ingest.CHUNK", 16)  # three batches of four
    table = logs.table(tmp_path, changed(user=[None, 1, None, 2, 3, None, 1, None, None, 8]))
    groups = np.concatenate([table.groups(part) for part in ("train", "valid", "test")])
    assert nobody(groups).tolist() == [one is None for one in (None, 1, None, 2, 3, None, 1, None, None, 8)]
    assert len(np.unique(groups)) == 9
    assert groups[[1, 3, 4, 6, 9]].tolist() == [1, 2, 3, 1, 8]
    assert table.aside.without_user == 5
    aside = Table.open(table.folder).aside
    assert (aside.dropped, aside.without_user, dict(aside.contradictions)) == (0, 5, {"click": 0, "buy": 0, "spent": 0})
    assert aside.spreads == {"spent": pytest.approx(np.std([0.5, 2, 1, 0, 3]))}  # of training rows with a label


@pytest.mark.parametrize("split", [SPLIT, ByUser(0.4, 0.3, seed=5)])
def test_a_user_of_nan_is_a_missing_one(tmp_path: Path, split: Split) -> None:
    """As a column of floats has it wherever pandas wrote the log: one giant user would be all of GAUC, and of each resample."""
    users = [None if at % 4 == 1 else float(at % 13) for at in range(80)]
    rows = {name: list(column) * 8 for name, column in logs.ROWS.items()}
    null, nan = (
        logs.table(tmp_path / str(none), rows | {"user": [none if one is None else one for one in users]}, split=split)
        for none in (None, math.nan)
    )
    assert nan.aside.without_user == null.aside.without_user == 20
    for part in ("train", "valid", "test"):
        assert nan.groups(part).tolist() == null.groups(part).tolist()
        alone = nan.groups(part)[nobody(nan.groups(part))]
        assert len(np.unique(alone)) == len(alone)


def test_gauc_and_resamples_leave_rows_whose_user_is_nan_apart(tmp_path: Path) -> None:
    nan = math.nan
    table = logs.table(tmp_path, changed(user=[*[1.0, 2.0] * 3, nan, 3.0, nan, nan]))
    groups = np.concatenate([table.groups("valid"), table.groups("test")])
    assert nobody(groups).tolist() == [True, False, True, True]
    assert resample(groups, resamples=1).users == 4, "a cluster each"


def test_a_table_of_before_is_read_without_the_count(tmp_path: Path) -> None:
    table = logs.table(tmp_path)
    meta = json.loads((table.folder / "meta.json").read_text())
    del meta["without_user"]
    (table.folder / "meta.json").write_text(json.dumps(meta))
    assert Table.open(table.folder).aside.without_user == 0


def test_a_chain_of_three(tmp_path: Path) -> None:
    rows = changed(pay=[0, 1, 0, 0, 0, 0, 1, 0, 0, 0])
    schema = Schema((Field("user", ID),), (Task("pay", REGRESSION, given="buy"), Task("buy", BINARY, given="click"), Task("click")))
    table = logs.table(tmp_path, rows, schema)
    assert table.labels("train")[1][:, 0].tolist() == [False, True, False, False, False, False]


def test_fields_without_codes_or_without_numbers(tmp_path: Path) -> None:
    only_numbers = logs.table(tmp_path, schema=one_field(Field("age", NUMBER)), out="numbers")
    assert list(only_numbers.batch(np.array([0, 1])).fields) == ["age"]
    only_codes = logs.table(tmp_path, schema=one_field(Field("user", ID)), out="codes")
    assert only_codes.batch(np.array([0, 1])).fields["user"].tolist() == [1, 1]


def test_a_field_may_be_called_value_or_count(tmp_path: Path) -> None:
    schema = Schema((Field("value", ID, column="user"), Field("count", ID, column="item")), (Task("click"),))
    table = logs.table(tmp_path, schema=schema)
    assert table.seen_counts("test", "value").tolist() == [2, 0]
    assert Table.open(table.folder).seen_counts("test", "count").tolist() == [2, 3]


def test_a_field_name_may_hold_a_slash(tmp_path: Path) -> None:
    table = logs.table(tmp_path, schema=one_field(Field("a/b", ID, column="user")))
    assert codes(Table.open(table.folder), "a/b") == codes(table, "a/b")


def test_fields_whose_vocabulary_ends_empty_are_told_of(tmp_path: Path) -> None:
    """No value of `at` is seen twice in training; `age` is a number, `same` shares the vocabulary of `item`, `none` has no value."""
    fields = (
        Field("at", CATEGORY, column="time"), Field("age", NUMBER), Field("item", ID), Field("same", ID, column="item", like="item"),
        Field("none", ID, column="blank", min_count=1),
    )  # fmt: skip
    rows = changed(blank=pl.Series([None] * 10, dtype=pl.String))
    made = logs.table(tmp_path, rows, Schema(fields, (Task("click"),)))
    assert made.aside.unknown == {"at": 2, "none": 1}
    assert Table.open(made.folder).aside == made.aside
    assert [line.split(" is in ")[0] for line in made.aside.lines()] == ["no value of field 'at'", "no value of field 'none'"]
