"""Raw rows as batches, without a table: for scoring and evaluating."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests import logs
from tests.logs import ID, changed, one_field

from umbel.data.raw import encoded, rows
from umbel.data.source import Join, Source
from umbel.data.vocab import Encoder
from umbel.errors import UserError
from umbel.schema import Field, Schema, Task


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    return logs.table(tmp_path).encoder


def without(*names: str) -> logs.Rows:
    return {name: column for name, column in logs.ROWS.items() if name not in names}


def test_batches_come_with_their_raw_rows(tmp_path: Path, encoder: Encoder) -> None:
    found = list(rows(logs.source(tmp_path), encoder, 4))
    assert [frame.height for frame, _ in found] == [4, 4, 2]
    assert pl.concat([frame for frame, _ in found])["time"].to_list() == list(range(10))
    assert [batch.index.tolist() for _, batch in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert set(found[0][0].columns) == set(logs.ROWS)


def test_labels_are_read_where_they_are(tmp_path: Path, encoder: Encoder) -> None:
    (_, batch), *_ = rows(logs.source(tmp_path), encoder, 10)
    assert batch.labels[:3].tolist() == [[0, 0, 0.5], [1, 1, 2], [1, 0, 0]]
    assert batch.seen[:3].tolist() == [[True, False, True], [True, True, True], [True, True, False]]


def test_labels_that_are_absent_are_unseen(tmp_path: Path, encoder: Encoder) -> None:
    path = logs.write(tmp_path, without("click", "buy", "spent"), name="new")
    (frame, batch), *_ = rows(Source(path), encoder, 10)
    assert "click" not in frame.columns
    assert not batch.seen.any()
    assert not batch.labels.any()


@pytest.mark.parametrize("label", [["x"] * 10, [[1]] * 10, [7] * 10, [float("inf")] * 10])
def test_without_labels_no_label_is_read(tmp_path: Path, encoder: Encoder, label: logs.Column) -> None:
    path = logs.write(tmp_path, changed(click=label), name="new")
    (frame, batch), *_ = rows(Source(path), encoder, 10, labels=False)
    (_, other), *_ = rows(logs.source(tmp_path), encoder, 10)
    assert set(frame.columns) == {"user", "item", "age", "watched"}
    assert not batch.seen.any()
    assert not batch.labels.any()
    assert all(torch.equal(column, other.fields[name]) for name, column in batch.fields.items() if name != "age")
    with pytest.raises(UserError, match=r"tasks\.click: "):
        list(rows(Source(path), encoder, 10))


def test_only_what_is_needed_is_read(tmp_path: Path, encoder: Encoder) -> None:
    """A table whose columns nothing reads is not even opened for its rows: its doubled key does no harm."""
    twice = logs.write(tmp_path, {"user": [1, 1], "city": ["x", "y"]}, name="twice")
    source = logs.source(tmp_path, changed(note=["n"] * 10), joins=(Join(twice, "user"),))
    (frame, _), *_ = rows(source, encoder, 10)
    assert set(frame.columns) == set(logs.ROWS)


def test_a_label_that_a_field_reads_too_is_read_as_a_field(tmp_path: Path) -> None:
    schema = Schema((Field("user", ID), Field("clicked", logs.NUMBER, column="click")), (Task("click"),))
    encoder = logs.table(tmp_path, schema=schema).encoder
    (_, batch), *_ = rows(Source(logs.write(tmp_path, changed(click=[7] * 10), name="new")), encoder, 10, labels=False)
    assert batch.fields["clicked"].tolist() == pytest.approx([13.0] * 10)
    assert not batch.seen.any()


def test_what_is_given_an_absent_label_is_unseen(tmp_path: Path, encoder: Encoder) -> None:
    path = logs.write(tmp_path, without("click"), name="new")
    (_, batch), *_ = rows(Source(path), encoder, 10)
    assert not batch.seen[:, :2].any()
    assert batch.seen[:, 2].tolist() == [value is not None for value in logs.ROWS["spent"]]


def test_a_derived_label_needs_all_its_columns(tmp_path: Path) -> None:
    schema = Schema((Field("user", ID),), (Task("click"), Task("both", sql="click + buy - 1 > 0")))
    encoder = logs.table(tmp_path, schema=schema).encoder
    path = logs.write(tmp_path, without("buy"), name="new")
    (_, batch), *_ = rows(Source(path), encoder, 10)
    assert batch.seen[:, 0].all()
    assert not batch.seen[:, 1].any()


def test_groups_are_users_or_rows(tmp_path: Path, encoder: Encoder) -> None:
    path = logs.write(tmp_path)
    by_user = [batch.group for _, batch in rows(Source(path, user="user"), encoder, 4) if batch.group is not None]
    assert torch.cat(by_user).tolist() == logs.ROWS["user"]
    by_row = [batch.group for _, batch in rows(Source(path), encoder, 4) if batch.group is not None]
    assert torch.cat(by_row).tolist() == list(range(10))


def test_new_values_are_unknown_and_other_types_meet(tmp_path: Path, encoder: Encoder) -> None:
    rows_as_text = changed(user=["1", "2", "3", "4", None, "x", "1.0", "", "02", "1"])
    path = logs.write(tmp_path, rows_as_text, name="new")
    (_, batch), *_ = rows(Source(path), encoder, 10)
    assert batch.fields["user"].tolist() == [1, 2, 3, 0, 0, 0, 0, 0, 2, 1]


def test_a_csv_is_scored_like_parquet(tmp_path: Path) -> None:
    schema = Schema((Field("user", ID), Field("item", ID), Field("age", logs.NUMBER)), (Task("click"),))
    encoder = logs.table(tmp_path, schema=schema).encoder
    pl.DataFrame(without("watched")).with_columns(pl.col("age").fill_nan(None)).write_csv(tmp_path / "new.csv")
    (_, one), *_ = rows(Source(str(tmp_path / "new.csv")), encoder, 10)
    (_, other), *_ = rows(logs.source(tmp_path), encoder, 10)
    for name, column in one.fields.items():
        torch.testing.assert_close(column, other.fields[name], rtol=0, atol=0, equal_nan=True)


def test_a_number_column_without_any_value(tmp_path: Path, encoder: Encoder) -> None:
    (tmp_path / "new.csv").write_text("user,item,age,watched\n1,a,,a b\n2,b,,\n")
    (_, batch), *_ = rows(Source(str(tmp_path / "new.csv")), encoder, 10)
    assert torch.isnan(batch.fields["age"]).all()
    assert batch.fields["watched"].tolist() == [[1, 2, -1], [-1, -1, -1]]


def test_joins_are_applied(tmp_path: Path) -> None:
    users = logs.write(tmp_path, {"user": [1, 2, 3], "city": ["x", "y", "y"]}, name="users")
    source = logs.source(tmp_path, joins=(Join(users, "user"),))
    from umbel.data.ingest import ingest

    table = ingest(source, one_field(Field("city", ID, min_count=1)), logs.SPLIT, folder=tmp_path / "table")
    frames, batches = zip(*rows(source, table.encoder, 3), strict=True)
    assert torch.cat([batch.fields["city"] for batch in batches]).tolist() == [1, 1, 2, 2, 2, 1, 1, 0, 2, 0]
    assert frames[0]["city"].to_list() == ["x", "x", "y"]


def test_no_rows_no_batches(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "none.parquet"
    pl.DataFrame(logs.ROWS, strict=False).clear().write_parquet(path)
    assert list(rows(Source(str(path)), encoder, 10)) == []


def test_one_row_alone_is_encoded_as_among_others(tmp_path: Path, encoder: Encoder) -> None:
    source = logs.source(tmp_path)
    (_, together), *_ = rows(source, encoder, 10)
    for place, (_, alone) in enumerate(rows(source, encoder, 1)):
        for name, column in alone.fields.items():
            assert column.numpy().tobytes() == together.fields[name][place : place + 1].contiguous().numpy().tobytes()


def test_an_encoder_survives_its_files(tmp_path: Path, encoder: Encoder) -> None:
    (tmp_path / "copy").mkdir()
    encoder.save(tmp_path / "copy")
    again = Encoder.load(tmp_path / "copy")
    frame = pl.DataFrame(logs.ROWS, strict=False)
    assert np.array_equal(again.encode(frame).codes, encoder.encode(frame).codes)
    assert np.array_equal(again.encode(frame).numbers, encoder.encode(frame).numbers, equal_nan=True)
    assert again.scales == encoder.scales
    assert again.schema == encoder.schema


def test_decoding_through_the_encoder(encoder: Encoder) -> None:
    codes = np.array([0, 1, 2, 3, -1], np.int32)
    assert encoder.decode("item", codes).to_list() == [None, "a", "b", "c", None]
    assert encoder.decode("watched", codes).to_list() == [None, "a", "b", "c", None]
    assert encoder.decode("user", codes).to_list() == [None, 1, 2, 3, None]


def test_some_fields_are_encoded_as_all_are(encoder: Encoder) -> None:
    frame = pl.DataFrame(logs.ROWS, strict=False)
    whole = encoded(frame, encoder).fields
    found = encoder.some(frame.select("user", "age"), ["age", "user"])
    assert list(found) == ["age", "user"]
    assert found["user"][:, 0].tolist() == whole["user"].tolist()
    assert found["age"].tobytes() == whole["age"].numpy().tobytes()
    watched = encoder.some(frame.select("watched"), ["watched"])["watched"]
    assert watched.tolist() == whole["watched"].tolist()
