"""The types of raw columns: what is kept of them, and how another CSV's columns meet them."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from umbel.data.columns import empty, met, types, wider
from umbel.errors import UserError

ZONE = "Asia/Shanghai"


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (pl.Int8, "Int64"), (pl.UInt32, "Int64"), (pl.Int64, "Int64"), (pl.UInt64, "UInt64"), (pl.Int128, "Int128"), (pl.UInt128, "Int128"),
        (pl.Float32, "Float64"), (pl.Decimal(10, 2), "Float64"), (pl.Boolean, "Boolean"), (pl.String, "String"),
        (pl.Categorical, "String"), (pl.Enum(["a"]), "String"), (pl.List(pl.Int64), "String"), (pl.Array(pl.Int8, 2), "String"),
        (pl.Struct({"a": pl.Int8}), "String"), (pl.Binary, "String"), (pl.Null, "String"), (pl.Duration, "String"),
        (pl.Date, "Date"), (pl.Time, "Time"), (pl.Datetime("ns"), "Datetime ns"), (pl.Datetime("ms", ZONE), f"Datetime ms {ZONE}"),
    ],
)  # fmt: skip
def test_what_a_csv_can_hold_of_a_type_is_kept(dtype: pl.DataType, kept: str) -> None:
    frame = pl.LazyFrame(schema={"other": pl.Int8, "x": dtype})
    assert types(frame, ["x"]) == {"x": kept}
    again = empty({"x": kept}).lazy()
    assert types(again, ["x"]) == {"x": kept}  # what is kept is a type that can be read, and kept again


def test_the_order_is_the_one_asked_for() -> None:
    frame = pl.LazyFrame(schema={"a": pl.Int8, "b": pl.Date})
    assert list(types(frame, ["b", "a"])) == ["b", "a"]
    assert empty({"b": "Date", "a": "Datetime us"}).schema == {"b": pl.Date(), "a": pl.Datetime("us")}
    assert empty({"a": f"Datetime ns {ZONE}"}).schema == {"a": pl.Datetime("ns", ZONE)}


def test_a_type_of_another_version_is_named() -> None:
    with pytest.raises(UserError, match=r"column 'a': no type 'Int65'; did you mean 'Int64'\?"):
        empty({"a": "Int65"})


@pytest.mark.parametrize(
    ("trained", "told", "read"),
    [
        (None, "Int64", "Int64"), (None, "String", "String"), (None, "Null", "String"),  # training itself
        ("Int64", "Null", "Int64"), ("Float64", "Null", "Float64"), ("Date", "Null", "Date"), ("String", "Null", "String"),  # no value
        ("Int64", "Int64", "Int64"), ("Int64", "Float64", "Float64"), ("Float64", "Int64", "Float64"), ("Int64", "Int128", "Int128"),
        ("UInt64", "Int64", "UInt64"), ("UInt64", "Int128", "Int128"), ("Int128", "Int64", "Int128"), ("UInt64", "Float64", "Float64"),
        ("String", "Int64", "String"), ("String", "Boolean", "String"), ("String", "Float64", "String"),  # 007 stays 007
        ("Int64", "String", "Int64"), ("Float64", "String", "Float64"), ("Boolean", "String", "Boolean"),  # then a value does not fit
        ("Boolean", "Int64", "Int64"), ("Int64", "Boolean", "Boolean"), ("Boolean", "Boolean", "Boolean"), ("Date", "Boolean", "Date"),
        ("Date", "String", "Date"), ("Datetime us", "String", "Datetime us"), ("Datetime us UTC", "Int64", "Datetime us UTC"),
    ],
)  # fmt: skip
def test_how_a_column_meets_its_type_at_training(trained: str | None, told: str, read: str) -> None:
    assert met(trained, told) == read


@pytest.mark.parametrize(
    ("told", "one"),
    [
        (["Int64"], "Int64"), (["Int64", "Int64"], "Int64"), (["Int64", "Float64", "Int64"], "Float64"), (["UInt64", "Int128"], "Int128"),
        (["Null", "Int64", "Null"], "Int64"), (["Null", "Null"], "Null"), (["Null", "Date"], "Date"), (["String", "Int64"], "String"),
        (["Boolean", "Int64"], "String"), (["Boolean", "Boolean"], "Boolean"), (["Date", "Datetime us"], "String"), (["Date"], "Date"),
    ],
)  # fmt: skip
def test_one_type_for_a_column_of_several_files(told: list[str], one: str) -> None:
    assert wider(told) == one
    assert wider(told[::-1]) == one


def test_moments_are_read_in_their_unit_and_zone() -> None:
    moments = pl.Series("t", [dt.datetime(2024, 1, 2, 3)], dtype=pl.Datetime("ms")).dt.replace_time_zone("UTC")
    text = types(moments.to_frame().lazy(), ["t"])
    assert empty(text)["t"].dtype == moments.dtype
