"""The slices of a report come from training counts and from the columns the run file names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from umbel.data.beside import Beside
from umbel.data.ingest import ingest
from umbel.data.source import Join, Source
from umbel.data.split import ByColumn
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.run.slicing import beside, slices
from umbel.schema import Field, FieldKind, Schema, Task

TRAIN: dict[str, Sequence[object]] = {"user": [1] * 12 + [2] * 3, "place": ["a"] * 10 + ["b"] * 5, "item": [7] * 15}
REST: dict[str, Sequence[object]] = {"user": [1, 2, 9, 1], "place": ["a", "b", "c", None], "item": [7, 8, 7, 7]}


def made(
    folder: Path, *fields: Field, item: str | None = "item", joins: tuple[Join, ...] = (), beside: tuple[str, ...] = (),
) -> Table:  # fmt: skip
    frames = []
    for part, columns in (("train", TRAIN), ("valid", REST), ("test", REST)):
        rows = len(columns["user"])
        frames.append(pl.DataFrame(columns, strict=False).with_columns(part=pl.lit(part), click=pl.int_range(rows) % 2))
    pl.concat(frames).write_parquet(folder / "log.parquet")
    source = Source(str(folder / "log.parquet"), user="user", item=item, joins=joins, beside=beside)
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


def test_a_column_that_no_field_reads_is_told_by_its_raw_values(tmp_path: Path) -> None:
    """Those of the rows of each part, though parts lie mixed in the log; a number by its raw values, too."""
    length = Field("length", FieldKind.NUMBER, column="item")
    table = made(tmp_path, USER, length, beside=("item", "place"))
    assert table.column("user", "test").tolist()  # no field holds them: of the table's fields there are two
    assert [field.name for field in table.schema.fields] == ["user", "length"]
    for part in ("valid", "test"):
        found = slices(table, part, names=("place", "length"))
        assert found["place"].tolist() == ["a", "b", "c", "unknown"]
        assert found["length"].tolist() == ["7", "8", "7", "7"]
    assert slices(table, "train", names=("place",))["place"].tolist() == TRAIN["place"]


def test_a_column_of_a_joined_table_is_told_too(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1, 2], "gender": ["f", "m"]}).write_csv(tmp_path / "users.csv")
    known = Field("g", FieldKind.CATEGORY, column="gender", min_count=1)  # read under another name, by the rows of its table
    table = made(tmp_path, USER, known, joins=(Join(str(tmp_path / "users.csv"), "user"),), beside=("gender",))
    assert slices(table, "test", names=("gender",))["gender"].tolist() == ["f", "m", "unknown", "f"]


def test_a_column_that_the_table_has_not_kept_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate.slices: 'place' is not in .*table; ingest again, into another folder"):
        slices(made(tmp_path, USER), "test", names=("place",))


def test_a_column_that_is_nowhere_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate.slices: no column 'plaice' in .*log.parquet or its joins; did you mean 'place'"):
        made(tmp_path, USER, beside=("plaice",))


PAST = Field("past", FieldKind.BAG, column="place", like="place")


@pytest.mark.parametrize(("name", "why"), [
    ("past", "holds several values a row; name an id, a category, a number or a raw column"),
    ("half", "is a derived number; make it a category, or name a raw column"),
])  # fmt: skip
def test_what_is_no_one_value_is_refused(name: str, why: str) -> None:
    schema = Schema((USER, PLACE, PAST, Field("half", FieldKind.NUMBER, sql="item / 2")), (Task("click"),))
    with pytest.raises(UserError, match=f"evaluate.slices: '{name}' {why}"):
        beside(schema, ["user", name])


def test_lists_and_columns_of_too_many_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"evaluate.slices: 'tags' holds List\(Int64\); name a column of numbers or text"):
        Beside(["tags"]).code(pl.DataFrame({"tags": [[1, 2]]}))
    monkeypatch.setattr("umbel.data.beside.MOST", 3)
    one = Beside(["city"])
    assert one.code(pl.DataFrame({"city": ["a", "b", "a", "c"]})).tolist() == [[0], [1], [0], [2]]
    with pytest.raises(UserError, match=r"'city' has more than 3 values"):
        one.code(pl.DataFrame({"city": ["d"]}))


def test_numbers_that_are_none_are_unknown() -> None:
    one = Beside(["age"])
    assert one.code(pl.DataFrame({"age": [1.5, float("nan"), None, 1.5]})).tolist() == [[0], [1], [1], [0]]
    assert one.values == {"age": ["1.5", "unknown"]}
