"""Keys against plain Python: whatever the types of two columns, equal values meet and no others; a join is a dictionary in any of them."""

from __future__ import annotations

import datetime as dt
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import logs

from umbel.data.frequency import VALUE
from umbel.data.groups import MISSING, stable, times
from umbel.data.ingest import ingest
from umbel.data.keys import Finder, Key, bits, canonical, common, key_of
from umbel.data.source import Join, Log, Source
from umbel.data.split import ByColumn
from umbel.errors import UserError
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

unhurried = settings(deadline=None, max_examples=25)
Raw = int | float | str | bool | None
WHOLE = [pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64]
DAY = dt.date(2024, 5, 1)


def joined(log: pl.Series, table: pl.Series, folder: Path) -> list[int | None]:
    """For every value of the log's column, the place of the row of the table that has it."""
    right = {"k": table, "v": pl.Series(range(len(table)), dtype=pl.Int64)}
    source = Source(logs.write(folder, {"k": log}), joins=(Join(logs.write(folder, right, name="right"), "k"),))
    return pl.concat(Log(source).read(["v"], 3))["v"].to_list()


# what a join by key is


@pytest.mark.parametrize("other", WHOLE, ids=str)
@pytest.mark.parametrize("dtype", WHOLE, ids=str)
def test_whole_numbers_of_any_width_meet(dtype: pl.DataType, other: pl.DataType, tmp_path: Path) -> None:
    """A narrow column of a table once met nothing, in silence: its bytes were read as those of wide integers."""
    log = pl.Series([5, 0, None, 100, 7], dtype=pl.Int64).cast(dtype)
    table = pl.Series([100, 5, 1], dtype=pl.Int64).cast(other)
    assert joined(log, table, tmp_path) == [1, None, None, 0, None]


DAYS = pl.Series([DAY, DAY + dt.timedelta(1)])
NAMES = pl.Series(["b", "a"])
MATCHING: list[tuple[pl.Series, pl.Series]] = [
    (DAYS, DAYS),
    (DAYS.cast(pl.String), DAYS),
    (DAYS, DAYS.cast(pl.String)),
    (DAYS.cast(pl.Datetime("us")), DAYS.cast(pl.Datetime("us"))),
    (NAMES, NAMES.cast(pl.Categorical)),
    (NAMES.cast(pl.Categorical), NAMES),
    (NAMES.cast(pl.Enum(["a", "b"])), NAMES.cast(pl.Categorical)),
    (pl.Series([1, 2]), pl.Series(["1", "2"])),
    (pl.Series(["1", "2"]), pl.Series([1, 2], dtype=pl.Int16)),
    (pl.Series([1.0, 2.5]), pl.Series([1.0, 2.5], dtype=pl.Float32)),
    (pl.Series([1.0, 2.5], dtype=pl.Float32), pl.Series([1.0, 2.5])),
    (pl.Series([1, 2]), pl.Series([1, 2]).cast(pl.Decimal(10, 2))),
    (pl.Series([1.0, 2.0]), pl.Series([1, 2], dtype=pl.UInt32)),
    (pl.Series([1, 0]), pl.Series([True, False])),
    (pl.Series([True, False]), pl.Series([1, 0], dtype=pl.UInt8)),
    (pl.Series([2**70, 1], dtype=pl.Int128), pl.Series([2**70, 1], dtype=pl.Int128)),
    (pl.Series([str(2**70), "1"]), pl.Series([2**70, 1], dtype=pl.Int128)),
    (pl.Series([2**63, 1], dtype=pl.UInt64), pl.Series([2**63, 1], dtype=pl.UInt64)),
    (pl.Series([b"x", b"y"]), pl.Series([b"x", b"y"])),
    (pl.Series(["x", "y"]), pl.Series([b"x", b"y"])),
]


@pytest.mark.parametrize(("log", "table"), MATCHING, ids=lambda one: str(one.dtype))
def test_values_meet_across_types(log: pl.Series, table: pl.Series, tmp_path: Path) -> None:
    assert joined(log, table, tmp_path) == [0, 1]
    assert joined(log.reverse(), table, tmp_path) == [1, 0]


def test_there_is_one_zero_and_no_nan(tmp_path: Path) -> None:
    assert joined(pl.Series([0.0, -0.0, math.nan, 1.5]), pl.Series([-0.0, 1.5, math.nan]), tmp_path) == [0, 0, None, 1]


def test_two_zeros_of_a_table_stand_twice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"key k = 0\.0 stands twice"):
        joined(pl.Series([1.0]), pl.Series([0.0, -0.0]), tmp_path)


def test_what_is_no_whole_number_meets_none(tmp_path: Path) -> None:
    assert joined(pl.Series([1.0, 1.5, 1e300, -1.0]), pl.Series([1, -1], dtype=pl.Int8), tmp_path) == [0, None, None, 1]
    assert joined(pl.Series(["1", "x", "", "1.0"]), pl.Series([1], dtype=pl.Int32), tmp_path) == [0, None, None, None]


@pytest.mark.parametrize("dtype", [pl.Int8, pl.Int32, pl.UInt64, pl.Float32, pl.Date, pl.Categorical], ids=str)
def test_a_key_of_any_type_is_found_as_of_a_time(dtype: pl.DataType, tmp_path: Path) -> None:
    text = pl.Series(["2", "1", "2"]) if dtype == pl.Categorical else pl.Series([2, 1, 2])
    right: logs.Rows = {"k": text.cast(dtype), "at": [1, 2, 5], "v": [0, 1, 2]}
    left: logs.Rows = {"k": text.cast(dtype), "t": [4, 1, 9]}
    source = Source(logs.write(tmp_path, left), time="t", joins=(Join(logs.write(tmp_path, right, name="right"), "k", time="at"),))
    assert pl.concat(Log(source).read(["v"], 2))["v"].to_list() == [0, None, 2]


def test_rows_whose_key_is_nothing_are_no_rows_of_the_table(tmp_path: Path) -> None:
    """What stands in a table's row is fetched by its number among rows that have a key: both must count alike."""
    right: logs.Rows = {"k": pl.Series([math.nan, 7.0, None, 3.0]), "city": ["no", "x", "no", "y"]}
    left: logs.Rows = {"k": pl.Series([3, 7, 9, 3], dtype=pl.Int16), "part": ["train", "train", "v", "e"]}
    joins = (Join(logs.write(tmp_path, right, name="right"), "k"),)
    source = Source(logs.write(tmp_path, left), joins=joins)
    fields = (Field("city", FieldKind.CATEGORY, min_count=1), Field("k", FieldKind.ID, min_count=1))
    log = Log(source)
    assert pl.concat(log.read(["city"], 3))["city"].to_list() == ["y", "x", None, "y"]
    (place,) = set(log.places.values())
    assert log.table(place, ["city"])["city"].to_list() == ["x", "y"]
    schema = Schema(fields, (Task("seen", REGRESSION, label="k"),))
    table = ingest(source, schema, ByColumn("part", valid="v", test="e"), folder=tmp_path / "t")
    cities = table.encoder.vocabularies["city"].frame[VALUE].to_list()
    assert cities == ["x", "y"]
    assert [table.column("city", part).tolist() for part in ("train", "valid", "test")] == [[2, 1], [0], [2]]


# keys by themselves


@pytest.mark.parametrize(
    ("dtype", "key"),
    [(pl.Int8, Key.INTEGER), (pl.UInt32, Key.INTEGER), (pl.Boolean, Key.INTEGER), (pl.Null, Key.INTEGER), (pl.UInt64, Key.UNSIGNED),
     (pl.Int128, Key.TEXT), (pl.Float32, Key.FLOAT), (pl.Decimal(8, 2), Key.FLOAT), (pl.String, Key.TEXT), (pl.Date, Key.TEXT),
     (pl.Categorical, Key.TEXT), (pl.List(pl.Int32), Key.INTEGER), (pl.List(pl.String), Key.TEXT), (pl.List(pl.UInt64), Key.UNSIGNED)],
)  # fmt: skip
def test_how_a_column_compares(dtype: pl.DataType, key: Key) -> None:
    assert key_of(pl.Series([], dtype=dtype)) is key


@pytest.mark.parametrize("keys", [[one] for one in Key])
def test_fields_that_agree_keep_their_type(keys: list[Key]) -> None:
    assert common(keys) is keys[0]
    assert common(keys * 3) is keys[0]


@given(st.lists(st.sampled_from(list(Key)), min_size=1, max_size=4))
def test_one_type_for_all_holds_the_values_of_each(keys: list[Key]) -> None:
    """Whole numbers and others are floats; whatever cannot be both is text. The order of fields does not matter."""
    found = common(keys)
    assert found is common(keys[::-1])
    if len(set(keys)) > 1:
        assert found is (Key.FLOAT if set(keys) == {Key.INTEGER, Key.FLOAT} else Key.TEXT)


NUMBERS = st.integers(-(2**53), 2**53) | st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63), 2**62])
FLOATS = st.floats(allow_nan=True, allow_infinity=True) | NUMBERS.map(float)
TEXTS = st.text(max_size=4)


def counterpart(value: Raw, key: Key) -> int | float | str | None:
    """What a number is in another type, in plain Python."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    assert not isinstance(value, str)
    if key is Key.FLOAT:
        return float(value) + 0.0
    low, high = (-(2**63), 2**63) if key is Key.INTEGER else (0, 2**64)
    whole = isinstance(value, int) or (math.isfinite(value) and value == math.floor(value))
    return int(value) if whole and low <= int(value) < high else None


@unhurried
@given(st.lists(st.none() | FLOATS, max_size=8), st.sampled_from([Key.INTEGER, Key.UNSIGNED, Key.FLOAT]))
def test_floats_in_every_type_of_number(values: list[float | None], key: Key) -> None:
    found = canonical(pl.Series(values, dtype=pl.Float64), key).to_list()
    assert found == [counterpart(value, key) for value in values]
    assert [math.copysign(1, value) for value in found if value == 0] == [1.0] * found.count(0)


@unhurried
@given(st.lists(st.none() | NUMBERS, max_size=8), st.sampled_from([Key.INTEGER, Key.UNSIGNED, Key.TEXT]))
def test_whole_numbers_in_every_type(values: list[int | None], key: Key) -> None:
    found = canonical(pl.Series(values, dtype=pl.Int64), key).to_list()
    assert found == [None if value is None else str(value) if key is Key.TEXT else counterpart(value, key) for value in values]


KINDS: list[tuple[st.SearchStrategy[Raw], Callable[[Sequence[Raw]], pl.Series]]] = [
    (NUMBERS, lambda values: pl.Series(values, dtype=pl.Int64)),
    (st.integers(0, 2**64 - 1), lambda values: pl.Series(values, dtype=pl.UInt64)),
    (st.floats(allow_nan=False).map(lambda one: one + 0.0), lambda values: pl.Series(values, dtype=pl.Float64)),
    (TEXTS, lambda values: pl.Series(values, dtype=pl.String)),
]


@unhurried
@pytest.mark.parametrize("kind", range(len(KINDS)))
@given(data=st.data())
def test_finding_is_a_dictionary(kind: int, data: st.DataObject) -> None:
    drawn, series = KINDS[kind]
    known = data.draw(st.lists(drawn, unique=True, max_size=8))
    asked = data.draw(st.lists(st.none() | drawn | (st.sampled_from(known) if known else st.none()), max_size=10))
    place = {value: at for at, value in enumerate(known)}
    found = Finder(series(known)).find(series(asked))
    assert found.dtype == np.int32
    assert found.tolist() == [-1 if value is None else place.get(value, -1) for value in asked]


def test_text_whose_hashes_fall_together_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first seeds give every value the same hash; one that tells them apart is sought, and what is found is compared."""
    plain = pl.Series.hash

    def poor(self: pl.Series, seed: int = 0) -> pl.Series:
        return plain(self, seed) if seed >= 2 else pl.Series(np.full(len(self), 5, np.uint64))

    monkeypatch.setattr(pl.Series, "hash", poor)
    finder = Finder(pl.Series(["a", "b", "c"]))
    assert finder.find(pl.Series(["c", "x", None, "a"])).tolist() == [2, -1, -1, 0]


def test_a_stranger_with_the_hash_of_a_known_text_is_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.Series, "hash", lambda self, seed=0: pl.Series([len(text or "") for text in self], dtype=pl.UInt64))
    finder = Finder(pl.Series(["a", "bb"]))
    assert finder.find(pl.Series(["b", "bb", "ab", None, "ccc"])).tolist() == [-1, 1, -1, -1, -1]


def test_bits_are_those_of_the_value() -> None:
    assert bits(pl.Series([1.0, -2.0])).tolist() == [0x3FF0 << 48, -(1 << 62)]
    assert bits(pl.Series([2**64 - 1], dtype=pl.UInt64)).tolist() == [-1]


@settings(deadline=None, max_examples=6)
@given(ids=st.lists(st.integers(2**70, 2**70 + 3), min_size=3, max_size=8))
def test_ids_beyond_64_bits_are_ids(ids: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        users, parts = pl.Series(ids, dtype=pl.Int128), ["train"] * (len(ids) - 2) + ["v", "e"]
        rows: logs.Rows = {"user": users, "part": parts, "click": [0.5] * len(ids)}
        source = Source(logs.write(Path(name), rows), user="user")
        schema = Schema((Field("user", FieldKind.ID, min_count=1),), (Task("click", REGRESSION),))
        table = ingest(source, schema, ByColumn("part", valid="v", test="e"), folder=Path(name) / "t")
        known = set(ids[:-2])
        codes = [code for part in ("train", "valid", "test") for code in table.column("user", part)]
        assert [code > 0 for code in codes] == [one in known for one in ids]
        assert table.encoder.decode("user", np.array(codes[:-2], np.int32)).to_list() == [str(one) for one in ids[:-2]]
        groups = [group for part in ("train", "valid", "test") for group in table.groups(part)]
        assert [groups.index(group) for group in groups] == [ids.index(one) for one in ids]


@unhurried
@given(st.lists(st.none() | st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(2**63, 2**90), max_size=6))
def test_users_are_their_integers_and_those_beyond_64_bits_their_text(users: list[int | None]) -> None:
    found = stable(pl.Series(users, dtype=pl.Int128)).tolist()
    for user, own in zip(users, found, strict=True):
        expected = MISSING if user is None else user if user < 2**63 else stable(pl.Series([str(user)]))[0]
        assert own == expected


@pytest.mark.parametrize("time", [1e30, float("inf"), -1e19])
def test_a_time_that_no_integer_holds_is_named(time: float) -> None:
    with pytest.raises(UserError, match=r"data\.time: .* in 't' is no time; give numbers"):
        times(pl.DataFrame({"t": [1.0, None, time]}), Source("log.parquet", time="t"))
    with pytest.raises(UserError, match="is no time"):
        times(pl.DataFrame({"t": pl.Series([2**63], dtype=pl.UInt64)}), Source("log.parquet", time="t"))
