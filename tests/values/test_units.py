"""What numbers count that tell a time, and that a table of another unit than the log's is not joined as of it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest
from tests import logs
from tests.logs import NUMBER, changed, one_field

from umbel.data.ingest import ingest
from umbel.data.raw import rows as raw_rows
from umbel.data.source import Join, Log, Source
from umbel.data.split import ByTime
from umbel.data.units import DAYS, UNITS, Clock, a_second, check_same, is_day
from umbel.errors import UserError
from umbel.schema import Field

DAY = dt.datetime(2022, 5, 1, tzinfo=dt.UTC)
SECONDS = [int((DAY + dt.timedelta(hours=9 * at)).timestamp()) for at in range(10)]
WRITTEN = {
    **{name: [one * factor for one in SECONDS] for factor, name in UNITS.items()},
    DAYS: [int((DAY + dt.timedelta(hours=9 * at)).strftime("%Y%m%d")) for at in range(10)],
}
COUNTS = list(range(10))


def unit(*times: float | None) -> str | None:
    return Clock.of(pl.Series("at", times, strict=False)).unit


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64, pl.UInt64, pl.Int128])
def test_every_unit_is_told_by_its_size(name: str, dtype: type[pl.DataType]) -> None:
    assert Clock.of(pl.Series("at", WRITTEN[name]).cast(dtype)) == Clock("at", name)


@pytest.mark.parametrize("year", [1974, 1999, 2022, 2040, 2100])
def test_in_any_year_of_a_log(year: int) -> None:
    moment = dt.datetime(year, 1, 1, tzinfo=dt.UTC)
    for factor, name in UNITS.items():
        assert unit(moment.timestamp() * factor) == name
        assert a_second(moment.timestamp() * factor) == factor
    assert unit(int(moment.strftime("%Y%m%d"))) == DAYS


def test_small_numbers_may_count_anything() -> None:
    assert unit(*COUNTS) is unit(0) is unit(-5, -7) is unit(99_999_999.0) is unit() is unit(None) is None
    assert unit(100_000_000) == "seconds"


@pytest.mark.parametrize(("day", "is_one"), [
    (19_000_100, False), (19_000_101, True), (20_220_501, True), (29_991_231, True), (29_991_232, False), (1_651_363_200, False),
])
def test_days_are_between_two_centuries(day: int, is_one: bool) -> None:
    assert is_day(day) is is_one
    assert (unit(day) == DAYS) is is_one


def test_the_middle_one_counts_not_always_and_never() -> None:
    """0 says that a row always held, a moment in the year 9999 that it holds for ever, and a middle of two is one of them."""
    always, never = 0, 253_402_300_799_000
    assert unit(always, *WRITTEN["milliseconds"], never) == "milliseconds"
    assert unit(always, *WRITTEN["seconds"], 253_402_300_799) == "seconds"
    assert unit(1_651_363_200, 253_402_300_799) == "seconds", "of two the first, not their mean"
    assert unit(None, None, WRITTEN["seconds"][0]) == "seconds"


@pytest.mark.parametrize("time", [DAY, DAY.date(), "2022-05-01", True, None])
def test_what_is_no_number_has_no_unit_to_guess(time: object) -> None:
    assert Clock.of(pl.Series([time])).unit is None


def test_only_two_known_units_can_differ() -> None:
    known = [Clock("at", name) for name in (*WRITTEN, None)]
    for one in known:
        for other in known:
            if one.unit and other.unit and one != other:
                with pytest.raises(UserError) as caught:
                    check_same("prices.csv", one, Clock("time", other.unit))
                what = f"prices.csv: its 'at' counts {one.unit}, the log's 'time' {other.unit}"
                assert str(caught.value) == f"{what}; give both the same unit"
            else:
                check_same("prices.csv", one, other)


# joined


def source(folder: Path, log: logs.Column, table: logs.Column) -> Source:
    """The log joined to prices of item `a`, as of these times."""
    count = len(table)
    prices = logs.write(folder, {"item": ["a"] * count, "since": table, "price": [float(at) for at in range(count)]}, name="prices")
    return logs.source(folder, changed(time=log), joins=(Join(prices, "item", time="since"),))


@pytest.mark.parametrize("log", WRITTEN)
@pytest.mark.parametrize("table", WRITTEN)
@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64])
def test_a_table_of_another_unit_is_refused_and_of_the_same_is_joined(
    tmp_path: Path, log: str, table: str, dtype: type[pl.DataType]
) -> None:
    """As of milliseconds all of a table's seconds are long past: each row would be told its last price, and so its future."""
    given = source(tmp_path, pl.Series(WRITTEN[log]).cast(dtype), pl.Series(WRITTEN[table]).cast(dtype))
    if log == table:
        last = [max(at for at in range(10) if WRITTEN[log][at] <= time) for time in WRITTEN[log]]
        expected = [float(at) if item == "a" else None for at, item in zip(last, logs.ROWS["item"], strict=True)]
        assert pl.concat(Log(given).read(["price"], 4))["price"].to_list() == expected
    else:
        with pytest.raises(UserError) as caught:
            list(Log(given).read(["price"], 4))
        what = f"{tmp_path}/prices.parquet: its 'since' counts {table}, the log's 'time' {log}"
        assert str(caught.value) == f"{what}; give both the same unit"


def test_ingest_and_scoring_refuse_it_alike(tmp_path: Path) -> None:
    schema = one_field(Field("price", NUMBER))
    split = ByTime(WRITTEN["milliseconds"][6], WRITTEN["milliseconds"][8])
    good = source(tmp_path / "good", WRITTEN["milliseconds"], WRITTEN["milliseconds"])
    encoder = ingest(good, schema, split, folder=tmp_path / "table").encoder
    bad = source(tmp_path / "bad", WRITTEN["milliseconds"], WRITTEN["seconds"])
    with pytest.raises(UserError, match="its 'since' counts seconds, the log's 'time' milliseconds"):
        ingest(bad, schema, split, folder=tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(UserError, match="its 'since' counts seconds, the log's 'time' milliseconds"):
        list(raw_rows(bad, encoder, 4))


@pytest.mark.parametrize(("log", "table"), [
    (COUNTS, WRITTEN["seconds"]),           # a log of numbered rows
    (WRITTEN["seconds"], [0]),              # what always held
    (WRITTEN["milliseconds"], [0, 0, 0, 5]),
    ([None] * 10, WRITTEN["seconds"]),
    (WRITTEN["seconds"], [None, None]),
    (COUNTS, [1000 * at for at in COUNTS]),
])
def test_what_may_be_meant_so_is_joined(tmp_path: Path, log: list[int | None], table: list[int | None]) -> None:
    given = source(tmp_path, pl.Series(log, dtype=pl.Int64), pl.Series(table, dtype=pl.Int64))
    assert pl.concat(Log(given).read(["price"], 4)).height == 10


def test_a_table_that_nothing_reads_may_count_anything(tmp_path: Path) -> None:
    given = source(tmp_path, WRITTEN["milliseconds"], WRITTEN["seconds"])
    assert pl.concat(Log(given).read(["time"], 4)).height == 10


def test_an_opened_join_compares_itself_with_some_times(tmp_path: Path) -> None:
    """As Spark needs it, which joins batches of its own."""
    given = source(tmp_path, WRITTEN["milliseconds"], WRITTEN["seconds"])
    (join,) = Log(given).joins
    join.check_clock(pl.Series("time", WRITTEN["seconds"][:1]))
    with pytest.raises(UserError, match="its 'since' counts seconds, the log's 'time' milliseconds"):
        join.check_clock(pl.Series("time", WRITTEN["milliseconds"][:1]))
