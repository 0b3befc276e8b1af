"""Values at the edge of what a log may hold: constants, huge numbers, NaN times, odd types, and moments of another type."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests import logs
from tests.logs import BAG, ID, NUMBER, SEQUENCE, SPLIT, VECTOR, changed, one_field

from umbel.data.count import Tally
from umbel.data.derive import evaluate, field_value
from umbel.data.lookup import Span
from umbel.data.source import Join, Log, Source
from umbel.data.split import ByTime, ByUser, Split
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.schema import Field, Schema

NAN, INF = float("nan"), float("inf")
DAYS = [dt.date(2022, 5, 1) + dt.timedelta(day) for day in range(10)]


def made(folder: Path, field: Field, column: logs.Column) -> Table:
    return logs.table(folder, changed(x=column), schema=one_field(field))


def tally(*batches: Sequence[float | None]) -> Tally:
    counting = Tally(one_field(Field("x", NUMBER)))
    for batch in batches:
        counting.add(pl.DataFrame({"x": pl.Series(batch, dtype=pl.Float64)}), np.zeros(len(batch), np.int8))
    return counting


# numbers


@pytest.mark.parametrize("value", [0.1, 1e-300, 1e150, -1 / 3, 2022.0, 0.0])
@pytest.mark.parametrize("heights", [(10,), (3, 7), (1, 1, 1), (1, 0, 9)])
def test_a_constant_has_no_spread_however_its_mean_is_rounded(value: float, heights: tuple[int, ...]) -> None:
    """The mean of ten times 0.1 is not 0.1; by the spread that leaves, 0.2 would stand at 7e15."""
    scale = tally(*([value] * height for height in heights)).encoder().scales["x"]
    assert (scale.mean, scale.sd) == (value, 1.0)


def test_what_differs_from_a_constant_keeps_its_size(tmp_path: Path) -> None:
    table = made(tmp_path, Field("x", NUMBER), [0.1] * 6 + [0.1, 0.2, 0.3, None])
    assert table.column("x", "train").tolist() == [0.0] * 6
    np.testing.assert_allclose(table.column("x", "valid"), [0.0, 0.1], atol=1e-6)
    np.testing.assert_allclose(table.column("x", "test"), [0.2, NAN], atol=1e-6)


def test_a_constant_with_gaps_is_still_one() -> None:
    scale = tally([None, 0.7, NAN], [None], [0.7, 0.7]).encoder().scales["x"]
    assert (scale.mean, scale.sd) == (0.7, 1.0)


def test_two_values_that_lie_close_have_their_own_spread() -> None:
    scale = tally([1e9, 1e9 + 1], [1e9 + 1, 1e9]).encoder().scales["x"]
    assert (scale.mean, scale.sd) == (1e9 + 0.5, 0.5)


@pytest.mark.parametrize("values", [[1e200, -1e200], [1e300, 0.0, 0.0]])
def test_numbers_too_huge_to_have_a_spread_are_refused(values: list[float]) -> None:
    with pytest.raises(UserError, match=r"fields\.x: infinite in \d rows; make them null"):
        tally([*values]).encoder()
    with pytest.raises(UserError, match=r"fields\.x: infinite"):
        tally(*([value] for value in values)).encoder()


def test_a_number_beyond_float32_after_scaling_is_refused_not_infinite(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fields\.x: infinite in 1 rows"):
        made(tmp_path, Field("x", NUMBER), [1.0, 2.0] * 3 + [1e39, 1.0, 1.0, 1.0])
    encoder = made(tmp_path, Field("x", NUMBER), [1.0, 2.0] * 5).encoder
    assert np.isfinite(encoder.encode(pl.DataFrame({"x": [1e38]})).numbers).all()


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt64, pl.Float32, pl.Decimal(10, 2), pl.Boolean, pl.String])
def test_a_number_may_have_any_type(tmp_path: Path, dtype: pl.DataType) -> None:
    column = pl.Series([0, 1, 1, 0, None, 1, 1, 0, 1, 0]).cast(dtype)
    if dtype == pl.Boolean or dtype == pl.String:
        column = pl.Series([None if one is None else one in (True, "1") for one in column]).cast(pl.Int8).cast(dtype)
    table = made(tmp_path, Field("x", NUMBER), column)
    # Training values 0 1 1 0 1: mean 0.6, sd sqrt(0.24).
    expected = (np.array([0, 1, 1, 0, NAN, 1]) - 0.6) / 0.24**0.5
    np.testing.assert_allclose(table.column("x", "train"), expected, rtol=1e-6)


# vectors


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (["1 2", "3 x", *["1,2"] * 8], "fields.x: 'x' is no number; give lists of numbers"),
        ([["a", "b"]] * 10, "fields.x: 'a' is no number"),
        ([[dt.date(2022, 1, 1)] * 2] * 10, "fields.x: no number can be read from Date"),
        ([[1.0]] * 10, "10 vectors are not 2 wide; set width = 1"),
        ([[1.0, 1e39]] * 10, "fields.x: infinite in 10 rows"),
        ([[1.0, -INF], *[[1.0, 2.0]] * 9], "fields.x: infinite in 1 rows"),
        ([3] * 10, "fields.x: a vector cannot be read from Int64"),
    ],
)
def test_what_is_no_vector(tmp_path: Path, column: list[object], says: str) -> None:
    with pytest.raises(UserError) as caught:
        made(tmp_path, Field("x", VECTOR, width=2), column)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "column",
    [
        ["1 2", None, "[3, 4.5]", "-1|0", "1e3;0", "nan,1", "0 0", "0 0", "0 0", None],
        [[1.0, 2.0], None, [3.0, 4.5], [-1.0, 0.0], [1e3, 0.0], [None, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], None],
    ],
    ids=["text", "lists"],
)
def test_vectors_of_text_and_of_lists(tmp_path: Path, column: list[object]) -> None:
    table = made(tmp_path, Field("x", VECTOR, width=2), column)
    expected = [[1, 2], [NAN, NAN], [3, 4.5], [-1, 0], [1000, 0], [NAN, 1]]
    np.testing.assert_array_equal(table.column("x", "train"), np.array(expected, np.float32))
    assert np.isnan(table.column("x", "test")).tolist() == [[False, False], [True, True]]


def test_vectors_of_whole_numbers_and_arrays(tmp_path: Path) -> None:
    whole = made(tmp_path, Field("x", VECTOR, width=3), [[1, 2, 3]] * 10)
    array = made(tmp_path, Field("x", VECTOR, width=3), pl.Series([[1, 2, 3]] * 10, dtype=pl.Array(pl.Int16, 3)))
    assert whole.column("x", "test").tolist() == array.column("x", "test").tolist() == [[1, 2, 3]] * 2


# ids


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (DAYS[:2] * 5, ["2022-05-01", "2022-05-02"]),
        (pl.Series(["b", "a"] * 5, dtype=pl.Categorical), ["a", "b"]),
        (pl.Series(["b", "a"] * 5, dtype=pl.Enum(["b", "a"])), ["a", "b"]),
        (pl.Series(["1.10", "2.50"] * 5).cast(pl.Decimal(10, 2)), [1.1, 2.5]),
        ([True, False] * 5, [0, 1]),
        ([dt.time(1), dt.time(0, 30)] * 5, ["00:30:00", "01:00:00"]),
        (pl.Series([2**64 - 1, 2**63] * 5, dtype=pl.UInt64), [2**64 - 1, 2**63]),
        (["", " "] * 5, ["", " "]),
        ([-0.0, 0.0] * 5, [0.0]),
    ],
)
def test_ids_of_any_type(tmp_path: Path, column: logs.Column, values: list[object]) -> None:
    table = made(tmp_path, Field("x", ID), column)
    vocabulary = table.encoder.vocabularies["x"]
    assert sorted(vocabulary.frame["value"].to_list(), key=str) == sorted(values, key=str)
    assert (Table.open(table.folder).column("x", "test") > 0).all()


@pytest.mark.parametrize(
    ("field", "column", "says"),
    [
        (Field("x", ID), [b"\xff"] * 10, "id of a column of Binary; write it as text or as integers"),
        (Field("x", ID), [dt.timedelta(1)] * 10, "id of a column of Duration"),
        (Field("x", ID), [{"a": 1}] * 10, "id of a column of Struct"),
        (Field("x", SEQUENCE), [[{"a": 1}]] * 10, "a sequence cannot be read from List(Struct"),
        (Field("x", BAG), [[[1]]] * 10, "a bag cannot be read from List(List"),
        (Field("x", BAG), [7.5] * 10, "a bag cannot be read from Float64; give a list column, or kind = 'number'"),
        (Field("x", BAG), [7] * 10, "a bag cannot be read from Int64; give a list column, or kind = 'id'"),
    ],
)
def test_what_is_no_id(tmp_path: Path, field: Field, column: list[object], says: str) -> None:
    with pytest.raises(UserError) as caught:
        made(tmp_path, field, column)
    assert f"fields.x: {says}" in str(caught.value)


def test_a_span_that_begins_with_the_least_integer() -> None:
    low = -(2**63)
    table = Span(np.array([low, low + 2]))
    assert table.find(np.array([low, low + 1, low + 2, 2**63 - 1, 0, -1])).tolist() == [0, -1, 1, -1, -1, -1]


@pytest.mark.parametrize("name", ["x" * 255, "ω" * 300, "a/b " * 100])
def test_a_field_of_a_long_name_has_its_file(tmp_path: Path, name: str) -> None:
    table = logs.table(tmp_path, changed(**{name: ["p", "q"] * 5}), schema=one_field(Field(name, ID)))
    again = Table.open(table.folder)
    assert again.encoder.decode(name, again.column(name, "test")).to_list() == ["p", "q"]


# labels


@pytest.mark.parametrize("value", [1e300, -1e39, INF])
def test_a_label_beyond_float32_names_its_row(tmp_path: Path, value: float) -> None:
    asked = r"tasks\.spent: label .* in row 5 of the log, column 'spent' of .*; a regression label is finite, at most 3\.4e\+38"
    with pytest.raises(UserError, match=asked):
        logs.table(tmp_path, changed(spent=[1.0, 2.0, None, 0.0, value, 1.0, 2.0, 1.0, 3.0, 4.0]))


def test_the_greatest_float32_is_a_label(tmp_path: Path) -> None:
    most = float(np.finfo(np.float32).max)
    table = logs.table(tmp_path, changed(spent=[most, -most, *[1.0, 2.0] * 4]))
    assert table.labels("train")[0][:2, 2].tolist() == [most, -most]


# times


def test_a_time_of_nan_is_missing_and_its_row_is_dropped(tmp_path: Path) -> None:
    """Compared as a number, NaN is above every border and would fall into the test."""
    time: list[float | None] = [NAN, 0.0, 1.0, 2.0, NAN, None, 6.0, 7.0, 8.0, 9.0]
    table = logs.table(tmp_path, changed(time=time))
    assert {part: len(rows) for part, rows in table.parts.items()} == {"train": 3, "valid": 2, "test": 2}
    assert table.aside.dropped == 3
    assert table.times("train").tolist() == [0, 1, 2]


def test_a_time_of_nan_joins_nothing_as_of(tmp_path: Path) -> None:
    rates = logs.write(tmp_path, {"item": ["a", "a", "b"], "at": [0.0, NAN, NAN], "rate": [1, 2, 3]}, name="rates")
    log = Log(logs.source(tmp_path, changed(time=[*map(float, range(9)), NAN]), joins=(Join(rates, "item", time="at"),)))
    found = pl.concat(log.read(["rate"], 4))["rate"].to_list()
    assert found == [1, None, 1, None, 1, None, 1, None, None, None]


def test_times_of_text_join_as_of(tmp_path: Path) -> None:
    rates = logs.write(tmp_path, {"item": ["a", "b"], "at": ["2022-05-01", "2022-05-03"], "rate": [1, 2]}, name="rates")
    log = Log(logs.source(tmp_path, changed(time=[str(day) for day in DAYS]), joins=(Join(rates, "item", time="at"),)))
    assert pl.concat(log.read(["rate"], 4))["rate"].to_list() == [1, None, 1, None, 1, 2, 1, None, 2, 1]


@pytest.mark.parametrize("time", [DAYS, [str(day) for day in DAYS]], ids=["dates", "text"])
@pytest.mark.parametrize("valid", [20220507, dt.date(2022, 5, 7)])
def test_an_integer_is_no_border_of_dates_or_text(tmp_path: Path, time: list[object], valid: int | dt.date) -> None:
    with pytest.raises(UserError, match=r"split: a time column of type \w+ cannot be compared with 20220509; write a date") as caught:
        logs.table(tmp_path, changed(time=time), split=ByTime(valid if isinstance(valid, dt.date) else 20220509, 20220509))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", [ByUser(0.3, 0.3), SPLIT])
def test_a_user_column_of_lists_is_one_line(tmp_path: Path, split: Split) -> None:
    with pytest.raises(UserError, match=r"data\.user: 'user' holds List\(Int64\); name a column of numbers or text"):
        logs.table(tmp_path, changed(user=[[1]] * 10), one_field(Field("item", ID)), split=split)


@pytest.mark.parametrize("split", [ByUser(0.3, 0.3), SPLIT])
def test_a_user_column_of_bytes_is_one_line(tmp_path: Path, split: Split) -> None:
    with pytest.raises(UserError, match=r"data\.user: 'user' holds Binary; name a column of numbers or text"):
        logs.table(tmp_path, changed(user=[bytes([200 + at]) for at in range(10)]), one_field(Field("item", ID)), split=split)


def test_a_key_of_lists_is_one_line(tmp_path: Path) -> None:
    right = logs.write(tmp_path, {"k": [[1], [2]], "v": [1, 2]}, name="right")
    log = Log(Source(logs.write(tmp_path, changed(k=[[1]] * 10)), joins=(Join(right, "k"),)))
    with pytest.raises(UserError, match=r"right\.parquet: key 'k' holds List\(Int64\)"):
        next(log.read(["v"], 4))


# names of columns that are words of the expressions


@pytest.mark.parametrize("name", ["ln", "LN", "floor", "abs", "double", "cast", "nullif"])
def test_a_column_may_be_called_like_a_function(name: str) -> None:
    field = Field("f", NUMBER, sql=f"ABS({name}) + 1")
    assert evaluate(pl.DataFrame({name: [1, -2]}), [field_value(field)]).to_series().to_list() == [2, 3]


def test_the_logarithm_of_a_column_called_ln() -> None:
    frame = pl.DataFrame({"ln": [1.0, 0.0, None]})
    assert evaluate(frame, [field_value(Field("f", NUMBER, sql="LN(ln) + ln"))]).to_series().to_list() == [1.0, None, None]


def test_a_schema_of_every_kind_reads_an_empty_frame() -> None:
    fields = (Field("a", ID), Field("b", BAG, length=2), Field("c", NUMBER), Field("d", VECTOR, width=3))
    counting = Tally(Schema(fields, one_field(fields[0]).tasks))
    frame = pl.DataFrame({"a": [1], "b": [[1]], "c": [1.0], "d": [[1.0, 2.0, 3.0]]})
    counting.add(frame.clear(), np.zeros(0, np.int8))
    counting.add(frame, np.zeros(1, np.int8))
    columns = counting.encoder().encode(frame.clear())
    assert columns.codes.shape == (0, 3)
    assert columns.numbers.shape == (0, 4)
