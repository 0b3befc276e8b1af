"""Which fields are whose: found in the log, told, and refused where they would tell the answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.logs import BAG, CATEGORY, ID, NUMBER, SEQUENCE, SPLIT, Rows, changed, source

from umbel.data.ingest import ingest
from umbel.data.source import Source
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.nn.towers import Sides
from umbel.retrieve.sides import schema_of, sides
from umbel.schema import Field, FieldKind, Schema, Statistic, Task

# Training rows are of items a b a c a b: price and tags are the item's, age and place are not.
ROWS: Rows = changed(
    price=[1.0, None, 1.0, 3.0, 1.0, None, 9.0, 1.0, 2.0, 1.0],
    tags=[["x"], ["y", "x"], ["x"], [], ["x"], ["y", "x"], ["z"], ["x"], ["y"], ["x"]],
    place=["p", "q", "q", "p", "p", "p", "q", "q", "p", "p"],
)
FIELDS = (
    Field("user", ID, min_count=1), Field("item", ID, min_count=1), Field("age", NUMBER), Field("price", NUMBER),
    Field("tags", BAG, length=3, min_count=1), Field("place", CATEGORY, min_count=1),
    Field("watched", SEQUENCE, like="item", target="item", length=3),
)  # fmt: skip
STATISTICS = (
    Field("item_mean", FieldKind.STATISTIC, statistic=Statistic(by=("item",), tasks=("click",))),
    Field("user_mean", FieldKind.STATISTIC, statistic=Statistic(by=("user",), tasks=("click",))),
    Field("pair_mean", FieldKind.STATISTIC, statistic=Statistic(by=("user", "item"), tasks=("click",))),
    Field("price_band", CATEGORY, sql="FLOOR(price / 2)", min_count=1),
)


def table(folder: Path, *more: Field, item: str | None = "item") -> Table:
    rows = source(folder, ROWS)
    read = Source(rows.log, user="user", item=item, time="time")
    return ingest(read, Schema((*FIELDS, *more), (Task("click"),)), SPLIT, folder=folder / "table")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return table(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return table(tmp_path_factory.mktemp("rich"), *STATISTICS)


def test_what_all_rows_of_an_item_share_is_the_items(plain: Table) -> None:
    assert sides(plain) == Sides("item", ("user", "age", "place", "watched"), ("item", "price", "tags"))


def test_a_statistic_by_the_item_is_the_items_and_one_by_both_is_nobodys(rich: Table) -> None:
    found = sides(rich)
    assert found.item == ("item", "price", "tags", "item_mean", "price_band")
    assert found.user == ("user", "age", "place", "watched", "user_mean")


def test_sides_may_be_told(plain: Table) -> None:
    assert sides(plain, item=["tags"]) == Sides("item", ("user", "age", "place", "watched"), ("item", "tags"))
    assert sides(plain, user=["place"]) == Sides("item", ("place",), ("item", "price", "tags"))
    assert sides(plain, item=["item", "age"]) == Sides("item", ("user", "place", "watched"), ("item", "age"))


@pytest.mark.parametrize("told", [["price"], ["item"], ["user", "tags"]])
def test_what_is_the_items_may_not_stand_among_the_users(plain: Table, told: list[str]) -> None:
    with pytest.raises(UserError, match=rf"retrieval.user: '{told[-1]}' tells the item"):
        sides(plain, user=told)


@pytest.mark.parametrize("told", ["item_mean", "pair_mean", "price_band"])
def test_nor_may_what_reads_the_same_columns(rich: Table, told: str) -> None:
    with pytest.raises(UserError, match="tells the item"):
        sides(rich, user=["user", told])


def test_what_cannot_be_is_told_in_one_line(plain: Table, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no field 'prise'; did you mean 'price'"):
        sides(plain, item=["prise"])
    with pytest.raises(UserError, match="no id field reads the log's item column"):
        sides(table(tmp_path, item=None))


def test_a_schema_of_sides_has_one_task_and_plain_fields(rich: Table) -> None:
    found = schema_of(rich.schema, sides(rich))
    assert [task.name for task in found.tasks] == ["positive"]
    assert {field.name for field in found.fields} == {*sides(rich).user, *sides(rich).item}
    assert found.field("item_mean").kind is FieldKind.VECTOR
    assert found.field("item_mean").size == rich.schema.field("item_mean").size
    with pytest.raises(UserError, match="'watched' is like 'item'"):
        schema_of(rich.schema, Sides("item", ("user", "watched"), ("price",)))
