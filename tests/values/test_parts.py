"""A log in several files of Parquet whose columns differ: read where that loses nothing, else the file, the column and the mend."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import logs, untrained
from tests.logs import CATEGORY, NUMBER, SPLIT, one_field

from umbel.data import parquet
from umbel.data.files import open_file
from umbel.data.ingest import ingest
from umbel.data.parquet import common, odd_one, refused
from umbel.data.source import Join, Log, Source
from umbel.errors import UserError
from umbel.run.use import score_log
from umbel.schema import Field, Schema, Task

Part = Mapping[str, logs.Column]
ROWS: dict[str, list[object]] = {name: list(logs.ROWS[name]) for name in ("user", "item", "time", "click", "age")}
SIGNED, UNSIGNED = (pl.Int8, pl.Int16, pl.Int32, pl.Int64), (pl.UInt8, pl.UInt16, pl.UInt32)
MEND = "; give the files of a glob the same columns"


def halves() -> list[dict[str, logs.Column]]:
    return [{name: column[rows] for name, column in ROWS.items()} for rows in (slice(0, 5), slice(5, 10))]


def glob(folder: Path, *parts: Part) -> str:
    """The files, in this order."""
    for number, part in enumerate(parts):
        logs.write(folder, part, name=f"p{number}")
    return str(folder / "p*.parquet")


def read(path: str, *columns: str) -> pl.DataFrame:
    return pl.concat(Log(Source(path)).read(columns or ["user", "time", "click"], 4))


def told(path: str, *columns: str) -> str:
    with pytest.raises(UserError) as caught:
        read(path, *columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# integers


@pytest.mark.parametrize("kinds", list(itertools.permutations((pl.Int8, pl.Int64, pl.Int16))))
def test_integers_of_any_width_are_one_column(tmp_path: Path, kinds: tuple[type[pl.DataType], ...]) -> None:
    """In whichever file the widest stands."""
    parts = [{"click": pl.Series([number, None, -number], dtype=kind)} for number, kind in enumerate(kinds, start=1)]
    found = read(glob(tmp_path, *parts), "click")
    assert found["click"].to_list() == [1, None, -1, 2, None, -2, 3, None, -3]
    assert found["click"].dtype == pl.Int64


@pytest.mark.parametrize(("one", "other", "whole"), [
    (pl.Int8, pl.UInt8, pl.Int16), (pl.UInt32, pl.Int32, pl.Int64), (pl.UInt8, pl.UInt64, pl.UInt64), (pl.Int64, pl.UInt64, pl.Int128),
])  # fmt: skip
def test_signed_and_unsigned_ones_meet_in_what_holds_both(
    tmp_path: Path, one: type[pl.DataType], other: type[pl.DataType], whole: type[pl.DataType]
) -> None:
    parts = [{"n": pl.Series([0, 100], dtype=kind)} for kind in (one, other)]
    for number, order in enumerate((parts, parts[::-1])):
        found = read(glob(tmp_path / str(number), *order), "n")
        assert found["n"].to_list() == [0, 100, 0, 100]
        assert found["n"].dtype == whole


@settings(max_examples=60, deadline=None)
@given(kinds=st.lists(st.sampled_from([*SIGNED, *UNSIGNED]), min_size=1, max_size=5))
def test_the_common_type_holds_the_ends_of_each(kinds: list[type[pl.DataType]]) -> None:
    wide = common([pl.DataFrame(schema={"n": kind}) for kind in kinds])["n"].dtype
    for kind in kinds:
        bits = int(str(kind).lstrip("UInt"))
        ends = pl.Series([0, 2**bits - 1] if kind in UNSIGNED else [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1], dtype=kind)
        assert ends.cast(wide, strict=True).to_list() == ends.to_list()
    assert any(wide == kind for kind in kinds) or (set(kinds) & set(SIGNED) and set(kinds) & set(UNSIGNED)), "no wider than need be"


def test_a_table_and_scores_are_those_of_one_file(tmp_path: Path) -> None:
    bundle = untrained.bundle(tmp_path / "model")
    first, second = (dict(one, watched=logs.ROWS["watched"][:5], spent=[1.0] * 5, buy=[0] * 5) for one in halves())
    narrow = {**first, "click": pl.Series(first["click"], dtype=pl.Int8), "user": pl.Series(first["user"], dtype=pl.UInt16)}
    paths = {
        "narrow": glob(tmp_path / "narrow", narrow, second), "plain": glob(tmp_path / "plain", first, second),
        "late": glob(tmp_path / "late", first, {**second, "time": pl.Series(second["time"], dtype=pl.Int32)}),
    }  # fmt: skip
    schema = Schema((Field("user", CATEGORY, min_count=1), Field("age", NUMBER)), (Task("click"),))
    files = ("int32.npy", "float32.npy", "labels.npy", "group.npy", "time.npy")
    tables, scores = {}, {}
    for name, path in paths.items():
        made = ingest(Source(path, user="user", time="time"), schema, SPLIT, folder=tmp_path / f"table-{name}")
        tables[name] = {file: (made.folder / file).read_bytes() for file in files}
        score_log(bundle, path, tmp_path / f"{name}.csv")
        scores[name] = (tmp_path / f"{name}.csv").read_bytes()
    assert tables["narrow"] == tables["late"] == tables["plain"]
    assert scores["narrow"] == scores["late"] == scores["plain"]


def test_a_joined_table_too(tmp_path: Path) -> None:
    first: Part = {"user": pl.Series([1, 2], dtype=pl.Int16), "city": [7, 8]}
    users = glob(tmp_path, first, {"user": [3, 9], "city": pl.Series([9, 9], dtype=pl.Int8)})
    log = Log(logs.source(tmp_path / "log", joins=(Join(users, "user"),)))
    assert pl.concat(log.read(["city"], 4))["city"].to_list() == [7, 7, 8, 8, 9, 7, 7, 9, 8, None]


# columns that say nothing, more of them, another order


@pytest.mark.parametrize("order", [1, -1])
def test_a_column_without_values_is_of_any_type(tmp_path: Path, order: int) -> None:
    parts: list[Part] = [{"name": ["a", "b"]}, {"name": pl.Series([None, None], dtype=pl.Null)}]
    found = read(glob(tmp_path, *parts[::order]), "name")
    assert found["name"].to_list() == (["a", "b", None, None] if order == 1 else [None, None, "a", "b"])
    assert found["name"].dtype == pl.String


def test_more_columns_and_another_order_are_fine(tmp_path: Path) -> None:
    first, second = halves()
    turned = {**{name: second[name] for name in reversed(second)}, "new": ["x"] * 5}
    found = read(glob(tmp_path, first, turned))
    assert found.rows() == pl.DataFrame(ROWS, strict=False).select("user", "time", "click").rows()
    assert "new" not in Log(Source(glob(tmp_path, first, turned))).names, "the first says which columns there are"


@pytest.mark.parametrize("second", [{"click": ["x"] * 5}, {"click": [0.5] * 5}, {}])
def test_what_nothing_reads_may_be_of_any_type_or_missing(tmp_path: Path, second: Part) -> None:
    first, later = halves()
    rest = {name: column for name, column in later.items() if name != "click"}
    assert read(glob(tmp_path, first, {**rest, **second}), "user", "time").height == 10


# what cannot be read


@pytest.mark.parametrize(("second", "what"), [
    ({"click": ["x"] * 5}, "column 'click' is String, in {first} it is Int64"),
    ({"click": [0.0] * 5}, "column 'click' is Float64, in {first} it is Int64"),
    ({"click": pl.Series([1] * 5, dtype=pl.Boolean, strict=False)}, "column 'click' is Boolean, in {first} it is Int64"),
    ({"click": [[1]] * 5}, "column 'click' is List(Int64), in {first} it is Int64"),
    ({}, "column 'click' is not there, in {first} it is Int64"),
])  # fmt: skip
@pytest.mark.parametrize("place", [1, 2])
def test_a_file_that_differs_is_named_with_its_column(tmp_path: Path, second: Part, what: str, place: int) -> None:
    first, later = halves()
    odd = {**{name: column for name, column in later.items() if name != "click"}, **second}
    parts = [first, later]
    parts.insert(place, odd)
    path = glob(tmp_path, *parts)
    assert told(path) == f"{tmp_path}/p{place}.parquet: {what.format(first=f'{tmp_path}/p0.parquet')}{MEND}"


def test_a_column_that_the_first_file_has_no_value_of(tmp_path: Path) -> None:
    """Of what has a type, the first is what the others are held against."""
    none: Part = {"n": pl.Series([None], dtype=pl.Null)}
    path = glob(tmp_path, none, {"n": ["a"]}, none, {"n": [1]})
    assert told(path, "n") == f"{tmp_path}/p3.parquet: column 'n' is Int64, in {tmp_path}/p1.parquet it is String{MEND}"


def test_a_wider_integer_is_no_other_type(tmp_path: Path) -> None:
    """The file that is named is the one that no integers fit."""
    narrow: Part = {"n": pl.Series([1], dtype=pl.Int8)}
    path = glob(tmp_path, narrow, {"n": [2]}, narrow, {"n": ["x"]})
    assert told(path, "n") == f"{tmp_path}/p3.parquet: column 'n' is String, in {tmp_path}/p0.parquet it is Int8{MEND}"


@pytest.mark.parametrize("name", ["a: incoming: b", "x, consider passing y", "two\nlines", "é"])
def test_a_column_of_any_name(tmp_path: Path, name: str) -> None:
    """What Polars says of it may be cut elsewhere; then that is said."""
    said = told(glob(tmp_path, {name: [1]}, {name: ["x"]}), name)
    assert "p1.parquet: column" in said or "*.parquet: cannot be read (data type mismatch" in said


def test_a_joined_table_that_differs_is_named(tmp_path: Path) -> None:
    users = glob(tmp_path, {"user": [1], "city": [1]}, {"user": [2], "city": ["x"]})
    log = Log(logs.source(tmp_path / "log", joins=(Join(users, "user"),)))
    with pytest.raises(UserError, match=rf"p1\.parquet: column 'city' is String, in .*p0\.parquet it is Int64{MEND}"):
        list(log.read(["city"], 4))


def test_ingest_says_it(tmp_path: Path) -> None:
    first, later = halves()
    path = glob(tmp_path, first, {name: column for name, column in later.items() if name != "click"})
    with pytest.raises(UserError, match=rf"p1\.parquet: column 'click' is not there, in .*p0\.parquet it is Int64{MEND}"):
        ingest(Source(path, time="time"), one_field(Field("user", CATEGORY)), SPLIT, folder=tmp_path / "table")
    assert not (tmp_path / "table").exists()


def test_a_file_of_a_glob_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    path = glob(tmp_path, *halves())
    (tmp_path / "p1.parquet").write_bytes(b"garbage " * 100)
    with pytest.raises(UserError, match=r"/p1\.parquet: cannot be read \(.*\); write the file again: it is damaged or no Parquet"):
        open_file(path)


def test_files_that_agree_are_no_answer_to_a_refusal() -> None:
    alike = {"a": pl.DataFrame(schema={"n": pl.Int64}), "b": pl.DataFrame(schema={"n": pl.Int8})}
    assert odd_one("n", alike) is None
    assert odd_one("other", alike) is None
    assert odd_one("n", {"a": pl.DataFrame(schema={"n": pl.Null}), "b": pl.DataFrame()}) is None
    assert refused("file out of specification") is None


def test_one_file_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own types are the common ones."""
    monkeypatch.setattr(parquet, "common", lambda _: pytest.fail("asked"))
    assert read(glob(tmp_path, halves()[0]), "click").height == 5
