"""Small logs on disk, and the tables made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from umbel.data.ingest import ingest
from umbel.data.source import Join, Source
from umbel.data.split import ByTime, Split
from umbel.data.table import Table
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

Column = Sequence[object] | pl.Series
Rows = Mapping[str, Column]

ID, CATEGORY, NUMBER = FieldKind.ID, FieldKind.CATEGORY, FieldKind.NUMBER
BAG, SEQUENCE, VECTOR = FieldKind.BAG, FieldKind.SEQUENCE, FieldKind.VECTOR

SPLIT = ByTime(6, 8)

# Ten rows: six train, two validate, two test. Labels of both classes stand in every part.
ROWS: Rows = {
    "user": [1, 1, 2, 2, 3, 1, 1, 9, 2, 8],
    "item": ["a", "b", "a", "c", "a", "b", "a", "z", "b", "a"],
    "age": [10.0, 20.0, None, 40.0, float("nan"), 30.0, 50.0, None, 25.0, 10.0],
    "watched": [["a", "b"], [], None, ["c", "a", "b", "a"], ["a"], ["b", "b"], ["z"], ["a", None], [], ["b"]],
    "time": list(range(10)),
    "click": [0, 1, 1, 0, 1, 0, 1, 0, 1, 0],
    "buy": [0, 1, 0, 0, 0, 0, 1, 0, 1, 0],
    "spent": [0.5, 2.0, None, 1.0, 0.0, 3.0, 1.5, 0.0, None, 4.0],
}

SCHEMA = Schema(
    (
        Field("user", ID, min_count=1),
        Field("item", ID, min_count=1),
        Field("age", NUMBER),
        Field("watched", SEQUENCE, like="item", target="item", length=3),
    ),
    (Task("click"), Task("buy", given="click"), Task("spent", REGRESSION)),
)


def write(folder: Path, rows: Rows = ROWS, *, name: str = "log") -> str:
    """Write columns as Parquet; the path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    pl.DataFrame(rows, strict=False).write_parquet(path)
    return str(path)


def source(folder: Path, rows: Rows = ROWS, joins: tuple[Join, ...] = ()) -> Source:
    """A log of these rows whose user and time columns are called so."""
    return Source(write(folder, rows), user="user", item="item", time="time", joins=joins)


def changed(**columns: Column) -> dict[str, Column]:
    """The rows with some columns replaced or added."""
    return {**ROWS, **columns}


def table(
    folder: Path, rows: Rows = ROWS, schema: Schema = SCHEMA, *, split: Split = SPLIT, out: str = "table"
) -> Table:
    """The rows, ingested."""
    return ingest(source(folder, rows), schema, split, folder=folder / out)


def one_field(field: Field) -> Schema:
    """A schema of one field and the click."""
    return Schema((field,), (Task("click"),))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, by its path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
