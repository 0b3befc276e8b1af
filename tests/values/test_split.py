"""Splits by time, by user and by a column."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from tests import logs

from umbel.data.groups import MISSING, groups, requests, stable, times
from umbel.data.source import Log, Source
from umbel.data.split import ByColumn, ByTime, ByUser, Split, uniform
from umbel.errors import UserError


def parts(folder: Path, split: Split, **columns: object) -> list[int | None]:
    path = folder / "split.parquet"
    pl.DataFrame(columns).write_parquet(path)
    log = Log(Source(str(path), time="time" if "time" in columns else None, user="user" if "user" in columns else None))
    label = split.label(log)
    frame = pl.concat(log.read(label.meta.root_names(), 3))
    return frame.select(label).to_series().to_list()


DAYS = ByTime(dt.date(2022, 5, 3), dt.date(2022, 5, 4))
MOMENTS = [
    dt.datetime(2022, 5, 2, 23, 59, 59, 999_000),
    dt.datetime(2022, 5, 3),
    dt.datetime(2022, 5, 3, 23, 59, 59, 999_000),
    dt.datetime(2022, 5, 4),
    None,
]
EXPECTED = [0, 1, 1, 2, None]


def epoch(unit: int) -> list[int | None]:
    return [None if one is None else int(one.replace(tzinfo=dt.UTC).timestamp() * 1000) * unit // 1000 for one in MOMENTS]


@pytest.mark.parametrize("unit", [10**3, 10**6, 10**9])
def test_dates_against_epochs_of_any_unit(tmp_path: Path, unit: int) -> None:
    assert parts(tmp_path, DAYS, time=epoch(unit)) == EXPECTED


def test_dates_against_seconds(tmp_path: Path) -> None:
    assert parts(tmp_path, DAYS, time=epoch(1)) == EXPECTED


def test_dates_against_seconds_as_floats(tmp_path: Path) -> None:
    assert parts(tmp_path, DAYS, time=[None if one is None else one + 0.5 for one in epoch(1)]) == EXPECTED


def test_dates_against_days_as_numbers(tmp_path: Path) -> None:
    assert parts(tmp_path, DAYS, time=[20220502, 20220503, 20220504, None]) == [0, 1, 2, None]


def test_dates_against_dates(tmp_path: Path) -> None:
    days = [dt.date(2022, 5, 2), dt.date(2022, 5, 3), dt.date(2022, 5, 4), None]
    assert parts(tmp_path, DAYS, time=days) == [0, 1, 2, None]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_dates_against_datetimes(tmp_path: Path, unit: str) -> None:
    assert parts(tmp_path, DAYS, time=pl.Series(MOMENTS).cast(pl.Datetime(unit))) == EXPECTED  # type: ignore[arg-type]


def test_dates_against_text(tmp_path: Path) -> None:
    text = [None if one is None else one.isoformat(sep=" ") for one in MOMENTS]
    assert parts(tmp_path, DAYS, time=text) == EXPECTED


@pytest.mark.parametrize("form", ["{:%Y-%m-%d %H:%M:%S}", "{:%Y-%m-%dT%H:%M:%S}", "{:%Y-%m-%dT%H:%M:%S}+00:00"])
@pytest.mark.parametrize("text", [False, True])
def test_a_time_of_day_against_text(tmp_path: Path, form: str, text: bool) -> None:
    hours = [dt.datetime(2022, 5, 3, hour, tzinfo=dt.UTC) for hour in (7, 8, 9, 10)]
    valid, test = hours[1], hours[3]
    split = ByTime(valid.isoformat(), test.isoformat()) if text else ByTime(valid, test)
    assert parts(tmp_path, split, time=[form.format(hour) for hour in hours]) == [0, 1, 1, 2]


def test_dates_of_a_zone_against_text(tmp_path: Path) -> None:
    split = ByTime(dt.date(2022, 5, 3), dt.date(2022, 5, 4), zone="Asia/Shanghai")
    text = ["2022-05-02 15:59:59", "2022-05-02 16:00:00", "2022-05-03 15:59:59", "2022-05-03 16:00:00"]
    assert parts(tmp_path, split, time=text) == [0, 1, 1, 2]


def test_text_against_text(tmp_path: Path) -> None:
    assert parts(tmp_path, ByTime("b", "c"), time=["a", "b", "c", None]) == [0, 1, 2, None]


def test_iso_text_as_a_moment(tmp_path: Path) -> None:
    assert parts(tmp_path, ByTime("2022-05-03", "2022-05-04T00:00:00"), time=epoch(1000)) == EXPECTED


def test_numbers_are_compared_as_they_are(tmp_path: Path) -> None:
    assert parts(tmp_path, ByTime(3, 7), time=[2, 3, 6, 7, None]) == [0, 1, 1, 2, None]


def test_a_zone_moves_midnight(tmp_path: Path) -> None:
    shanghai = ByTime(dt.date(2022, 5, 3), dt.date(2022, 5, 4), zone="Asia/Shanghai")
    eight = [dt.datetime(2022, 5, 2, 15, 59), dt.datetime(2022, 5, 2, 16), dt.datetime(2022, 5, 3, 16)]
    times = [int(one.replace(tzinfo=dt.UTC).timestamp() * 1000) for one in eight]
    assert parts(tmp_path, shanghai, time=times) == [0, 1, 2]
    assert parts(tmp_path, shanghai, time=eight) == [0, 1, 2]  # datetimes without zone are UTC


def test_datetimes_with_a_zone(tmp_path: Path) -> None:
    times = pl.Series(MOMENTS[:4]).dt.replace_time_zone("UTC").dt.convert_time_zone("America/New_York")
    assert parts(tmp_path, DAYS, time=times) == EXPECTED[:4]


def test_a_moment_with_a_zone_of_its_own(tmp_path: Path) -> None:
    own = dt.datetime(2022, 5, 3, 8, tzinfo=ZoneInfo("Asia/Shanghai"))  # midnight in UTC
    split = ByTime(own, dt.datetime(2022, 5, 4), zone="UTC")
    assert parts(tmp_path, split, time=epoch(1000)) == EXPECTED


def test_another_column_than_the_time(tmp_path: Path) -> None:
    split = ByTime(dt.date(2022, 5, 3), dt.date(2022, 5, 4), column="day")
    assert parts(tmp_path, split, day=[20220502, 20220503, 20220504]) == [0, 1, 2]


def test_users_keep_their_part(tmp_path: Path) -> None:
    users = [*range(2000), *range(2000)]
    found = parts(tmp_path, ByUser(0.2, 0.3, seed=4), user=users)
    assert found[:2000] == found[2000:]
    shares = [found.count(part) / len(found) for part in (0, 1, 2)]
    assert shares == pytest.approx([0.5, 0.2, 0.3], abs=0.04)


def test_the_seed_decides_which_users(tmp_path: Path) -> None:
    users = list(range(300))
    assert parts(tmp_path, ByUser(0.3, 0.3, seed=1), user=users) == parts(tmp_path, ByUser(0.3, 0.3, seed=1), user=users)
    assert parts(tmp_path, ByUser(0.3, 0.3, seed=1), user=users) != parts(tmp_path, ByUser(0.3, 0.3, seed=2), user=users)


def test_users_are_placed_alike_on_every_machine(tmp_path: Path) -> None:
    """Fixed values: a change here would silently reshuffle everyone's splits."""
    assert parts(tmp_path, ByUser(0.3, 0.3, seed=0), user=list(range(10))) == [0, 2, 2, 1, 2, 2, 0, 2, 0, 0]
    assert parts(tmp_path, ByUser(0.3, 0.3, seed=0), user=["a", "b", "c", None]) == [1, 1, 0, 1]


def test_a_column_says_the_part(tmp_path: Path) -> None:
    assert parts(tmp_path, ByColumn("p", "dev", "test"), p=["train", "dev", "test", "other", None]) == [0, 1, 2, None, None]
    assert parts(tmp_path, ByColumn("p", valid="1", test="2", train="0"), p=[0, 1, 2, 3]) == [0, 1, 2, None]


@pytest.mark.parametrize(
    ("split", "columns", "message"),
    [
        (ByTime(3, 3), {"time": [1]}, "valid = 3 is not before test = 3; swap them"),
        (ByTime(dt.date(2022, 5, 4), dt.date(2022, 5, 3)), {"time": [1]}, "is not before"),
        (ByTime(1, 2), {"user": [1]}, "names no time column"),
        (ByTime(1, 2, column="day"), {"time": [1]}, "no column 'day'"),
        (ByTime("yesterday", "today"), {"time": [1]}, "'yesterday' in zone 'UTC' is no moment"),
        (ByTime("2022-05-03", "2022-05-04", zone="Mars/North"), {"time": [1]}, "zone 'Mars/North'"),
        (ByTime(dt.date(2022, 5, 3), dt.date(2022, 5, 4)), {"time": [True]}, "type Boolean cannot be compared"),
        (ByTime(1, 2), {"time": [None]}, "holds no time"),
        (ByUser(0.2, 0.2), {"time": [1]}, "names no user column"),
        (ByUser(0.5, 0.5), {"user": [1]}, "their sum below 1"),
        (ByUser(0.0, 0.5), {"user": [1]}, "both above 0"),
        (ByColumn("part", "valid", "test"), {"parts": ["train"]}, "no column 'part'; did you mean 'parts'"),
        (ByColumn("p", "late", "late"), {"p": ["late"]}, "'late' is the value of two parts; give train, valid and test a value each"),
        (ByColumn("p", "train", "test"), {"p": ["train"]}, "split: 'train' is the value of two parts"),
        (ByColumn("p", "valid", "old", train="old"), {"p": ["old"]}, "split: 'old' is the value of two parts"),
        (ByColumn("p", "a", "a", train="a"), {"p": ["a"]}, "split: 'a' is the value of two parts"),
        (ByColumn("p", "valid", "test"), {"p": [["train"]]}, "split.column: 'p' holds List(String); name a column of numbers or text"),
        (ByColumn("p", "valid", "test"), {"p": [{"a": 1}]}, "split.column: 'p' holds Struct({'a': Int64}); name a column"),
        (ByColumn("p", "valid", "test"), {"p": [b"train"]}, "split.column: 'p' holds Binary; name a column of numbers or text"),
        (ByUser(0.2, 0.2), {"user": [b"\xff"]}, "data.user: 'user' holds Binary; name a column of numbers or text"),
        (ByUser(0.2, 0.2), {"user": [None, {"a": 1}]}, "data.user: 'user' holds Struct({'a': Int64})"),
        (ByTime(dt.date(2022, 5, 3), dt.date(2022, 5, 4)), {"time": [[1]]}, "a time column of type List cannot be compared"),
        (ByTime(dt.date(2022, 5, 3), dt.date(2022, 5, 4)), {"time": [b"1"]}, "a time column of type Binary cannot be compared"),
    ],
)
def test_what_cannot_split(tmp_path: Path, split: Split, columns: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parts(tmp_path, split, **columns)
    assert message in str(caught.value)


@pytest.mark.parametrize("form", [pl.Categorical(), pl.Enum(["train", "dev", "test"])])
def test_a_column_of_categories_says_the_part(tmp_path: Path, form: pl.DataType) -> None:
    assert parts(tmp_path, ByColumn("p", "dev", "test"), p=pl.Series(["train", "dev", "test"], dtype=form)) == [0, 1, 2]


FIRST, LAST = dt.date(1, 1, 1), dt.date(9999, 12, 31)


@pytest.mark.parametrize(
    ("split", "told"),
    [
        (ByTime(FIRST, DAYS.test, zone="Asia/Tokyo"), "0001-01-01"),
        (ByTime(DAYS.valid, dt.datetime(9999, 12, 31, 23), zone="America/New_York"), "9999-12-31"),
        (ByTime("0001-01-01", "2022-05-04", zone="Asia/Tokyo"), "0001-01-01"),
    ],
)
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_a_moment_that_utc_has_no_year_for(tmp_path: Path, split: ByTime, told: str, unit: str) -> None:
    with pytest.raises(UserError) as caught:
        parts(tmp_path, split, time=pl.Series(MOMENTS).cast(pl.Datetime(unit)))  # type: ignore[arg-type]
    assert str(caught.value) == f"split: {told} lies before or after all years in UTC; write a later or earlier day"


def test_a_moment_that_a_column_s_zone_has_no_year_for(tmp_path: Path) -> None:
    times = pl.Series(MOMENTS[:4]).dt.replace_time_zone("UTC").dt.convert_time_zone("America/New_York")
    with pytest.raises(UserError, match="before or after all years in America/New_York"):
        parts(tmp_path, ByTime(FIRST, DAYS.test), time=times)


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_the_first_and_the_last_day_of_all_are_borders_of_numbers(tmp_path: Path, unit: int) -> None:
    """Though a 64-bit number of nanoseconds has no room for them."""
    assert parts(tmp_path, ByTime(FIRST, LAST, zone="Asia/Tokyo"), time=epoch(unit)) == [1, 1, 1, 1, None]
    assert parts(tmp_path, ByTime(FIRST, LAST), time=[dt.date(2022, 5, 3)]) == [1]


def test_text_column_of_an_unordered_pair(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not before"):
        parts(tmp_path, ByTime("c", "b"), time=["a"])


# groups


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (pl.Series([3, None, -1]), [3, MISSING, -1]),
        (pl.Series([3, 255], dtype=pl.UInt8), [3, 255]),
        (pl.Series([2**64 - 1, 5], dtype=pl.UInt64), [-1, 5]),
        (pl.Series(["a", "a", None, ""]), [3405396810240292928, 3405396810240292928, MISSING, -5426141060434712860]),
    ],
)
def test_users_as_numbers(raw: pl.Series, expected: list[int]) -> None:
    assert stable(raw).tolist() == expected


def test_a_user_of_nan_is_missing_and_has_the_part_of_a_missing_one(tmp_path: Path) -> None:
    nan = float("nan")
    assert stable(pl.Series([1.5, nan, None], dtype=pl.Float64)).tolist() == [*stable(pl.Series(["1.5"])), MISSING, MISSING]
    for seed in range(9):
        found = parts(tmp_path, ByUser(0.3, 0.3, seed=seed), user=pl.Series([1.5, nan, 2.5, None], dtype=pl.Float64, strict=False))
        assert found[1] == found[3] == parts(tmp_path, ByUser(0.3, 0.3, seed=seed), user=["a", None])[1]


def test_rows_of_nan_are_each_their_own_user_and_request() -> None:
    frame, _ = ends(pl.Series([7.0, float("nan"), None, float("nan"), 7.0], strict=False))
    source = Source("log", user="c", request="c")
    for found in (groups(frame, source, 5), requests(frame, source, 5)):
        assert found[0] == found[4]
        assert found[1:4].tolist() == [MISSING + 6, MISSING + 7, MISSING + 8]


def test_other_users_are_their_text() -> None:
    assert stable(pl.Series(["1.5"])).tolist() == stable(pl.Series([1.5])).tolist()
    assert stable(pl.Series(["a"], dtype=pl.Categorical)).tolist() == stable(pl.Series(["a"])).tolist()


def test_uniform_is_in_the_unit_interval() -> None:
    share = uniform(np.arange(-500, 500), 7)
    assert (share >= 0).all()
    assert (share < 1).all()
    assert abs(share.mean() - 0.5) < 0.05


def test_the_split_of_a_join(tmp_path: Path) -> None:
    """The part may stand in a joined table: users held back as a whole."""
    from umbel.data.source import Join

    users = logs.write(tmp_path, {"user": [1, 2, 3, 8, 9], "part": ["train", "valid", "test", "train", "x"]}, name="users")
    log = Log(logs.source(tmp_path, joins=(Join(users, "user"),)))
    label = ByColumn("part", "valid", "test").label(log)
    found = pl.concat(log.read(label.meta.root_names(), 100)).select(label).to_series().to_list()
    assert found == [0, 0, 1, 1, 2, 0, 0, None, 1, 0]


# users and times of rows


def ends(column: pl.Series) -> tuple[pl.DataFrame, Source]:
    return column.rename("c").to_frame(), Source("log", user="c", time="c")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pl.Series([5, None, -3]), [5, 0, -3]),
        (pl.Series([1.9, None]), [1, 0]),
        (pl.Series([dt.date(1970, 1, 2), None]), [86_400_000_000, 0]),
        (pl.Series([dt.datetime(1970, 1, 1, 0, 0, 1)], dtype=pl.Datetime("ms")), [1_000_000]),
        (pl.Series([dt.datetime(1970, 1, 1)]).dt.replace_time_zone("Asia/Tokyo"), [-9 * 3_600_000_000]),
        (pl.Series(["1970-01-02", None]), [86_400_000_000, 0]),
        (pl.Series(["1970-01-01 00:00:02", "1970-01-01 00:00:03"]), [2_000_000, 3_000_000]),
        (pl.Series(["1970-01-01T00:00:02Z"]), [2_000_000]),
        (pl.Series([None]), [0]),
    ],
)
def test_times_as_numbers(column: pl.Series, expected: list[int]) -> None:
    assert times(*ends(column)).tolist() == expected


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pl.Series(["week 3"]), "data.time: 'week 3' in 'c' is no time"),
        (pl.Series(["2022-05-03", "soon"]), "data.time: 'soon' in 'c' is no time"),
        (pl.Series([True]), "data.time: 'c' holds Boolean"),
        (pl.Series([[1]]), "data.time: 'c' holds List"),
        (pl.Series([dt.time(1)]), "data.time: 'c' holds Time"),
    ],
)
def test_what_is_no_time(column: pl.Series, message: str) -> None:
    with pytest.raises(UserError) as caught:
        times(*ends(column))
    assert message in str(caught.value)


def test_what_is_no_user() -> None:
    with pytest.raises(UserError, match=r"data\.user: 'c' holds List"):
        groups(*ends(pl.Series([[1]])), 0)


def test_rows_without_users_are_numbered_on() -> None:
    frame, _ = ends(pl.Series([7, 7]))
    assert groups(frame, Source("log"), 5).tolist() == [5, 6]
