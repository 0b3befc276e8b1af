"""The slices of a report come from training counts and from the columns the run file names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from umbel.data.ingest import ingest
from umbel.data.source import Source
from umbel.data.split import ByColumn
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.run.slicing import slices
from umbel.schema import Field, FieldKind, Schema, Task

TRAIN: dict[str, Sequence[object]] = {"user": [1] * 12 + [2] * 3, "place": ["a"] * 10 + ["b"] * 5, "item": [7] * 15}
REST: dict[str, Sequence[object]] = {"user": [1, 2, 9, 1], "place": ["a", "b", "c", None], "item": [7, 8, 7, 7]}


def made(folder: Path, *fields: Field, item: str | None = "item") -> Table:
    frames = []
    for part, columns in (("train", TRAIN), ("valid", REST), ("test", REST)):
        rows = len(columns["user"])
        frames.append(pl.DataFrame(columns, strict=False).with_columns(part=pl.lit(part), click=pl.int_range(rows) % 2))
    pl.concat(frames).write_parquet(folder / "log.parquet")
    source = Source(str(folder / "log.parquet"), user="user", item=item)
    split = ByColumn("part", train="train", valid="valid", test="test")
    return ingest(source, Schema(fields, (Task("click"),)), split, folder=folder / "table")


USER = Field("user", FieldKind.ID, min_count=1)
PLACE = Field("place", FieldKind.CATEGORY, min_count=1)


def test_user_and_item_by_how_often_they_were_seen(tmp_path: Path) -> None:
    table = made(tmp_path, USER, Field("video", FieldKind.ID, column="item", min_count=1))
    found = slices(table, "test", names=())
    assert found["user seen in training"].tolist() == ["10-99", "1-9", "unknown", "10-99"]
    assert found["item seen in training"].tolist() == ["10-99", "unknown", "10-99", "10-99"]


def test_a_role_without_a_field_has_no_slice(tmp_path: Path) -> None:
    assert set(slices(made(tmp_path, USER, PLACE), "test", names=())) == {"user seen in training"}
    assert set(slices(made(tmp_path, USER, PLACE, item=None), "test", names=())) == {"user seen in training"}


def test_a_derived_field_is_not_the_user(tmp_path: Path) -> None:
    table = made(tmp_path, Field("user", FieldKind.CATEGORY, sql="FLOOR(item / 2)"), PLACE)
    assert slices(table, "test", names=()) == {}


def test_a_named_column_gives_its_raw_values(tmp_path: Path) -> None:
    found = slices(made(tmp_path, USER, PLACE), "test", names=("place",))
    assert found["place"].tolist() == ["a", "b", "unknown", "unknown"]


@pytest.mark.parametrize("name", ["plaice", "length", "past"])
def test_what_is_no_column_of_one_value_is_refused(tmp_path: Path, name: str) -> None:
    table = made(tmp_path, USER, PLACE, Field("length", FieldKind.NUMBER, column="item"))
    with pytest.raises(UserError, match=f"evaluate.slices: '{name}' is no id or category"):
        slices(table, "test", names=(name,))
