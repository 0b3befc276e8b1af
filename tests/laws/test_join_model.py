"""Joins, splits and files against plain loops: any keys, times, order, pieces and formats."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import logs
from tests.logs import BAG, CATEGORY, ID, NUMBER, SEQUENCE, VECTOR, changed

from umbel.data.groups import stable
from umbel.data.ingest import ingest
from umbel.data.source import Join, Log, Source
from umbel.data.split import ByColumn, ByTime, ByUser, Split
from umbel.schema import Field, Schema, Task

unhurried = settings(deadline=None, max_examples=15)

NAMES = st.sampled_from(["a", "b", "é", "", "A"])
KEYS = st.none() | NAMES
TIMES = st.none() | st.integers(-4, 4)
Keyed = list[tuple[str | None, int | None]]


def read(source: Source, columns: list[str], size: int) -> pl.DataFrame:
    return pl.concat(Log(source).read(columns, size))


@unhurried
@given(log=st.lists(KEYS, min_size=1, max_size=12), table=st.lists(NAMES, unique=True), size=st.integers(1, 13))
def test_a_join_by_key_is_a_dictionary(log: list[str | None], table: list[str], size: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        right: logs.Rows = {"k": pl.Series([*table, None], dtype=pl.String), "v": range(len(table) + 1)}
        left: logs.Rows = {"k": pl.Series(log, dtype=pl.String), "row": range(len(log))}
        source = Source(logs.write(folder, left), joins=(Join(logs.write(folder, right, name="right"), "k"),))
        found = read(source, ["v", "row"], size)
        place: dict[str | None, int] = {key: value for value, key in enumerate(table)}
        assert found["v"].to_list() == [place.get(key) for key in log]
        assert found["row"].to_list() == list(range(len(log)))


@unhurried
@given(
    log=st.lists(st.tuples(KEYS, TIMES), min_size=1, max_size=12),
    table=st.lists(st.tuples(KEYS, TIMES), max_size=12),
    size=st.integers(1, 13),
    unit=st.sampled_from(["int", "float", "datetime", "date", "text"]),
)
def test_a_join_as_of_a_time_is_a_loop(log: Keyed, table: Keyed, size: int, unit: str) -> None:
    """Nulls among keys and times, equal times (the later row of the table wins), any order, and any type of time."""

    def times(numbers: list[int | None]) -> pl.Series:
        days = pl.Series([None if number is None else dt.date(2022, 5, 10 + number) for number in numbers], dtype=pl.Date)
        if unit in ("int", "float"):
            return pl.Series(numbers, dtype=pl.Int16 if unit == "int" else pl.Float64)
        return days.cast({"date": pl.Date(), "datetime": pl.Datetime("ms"), "text": pl.String()}[unit])

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = pl.Series([k for k, _ in table], dtype=pl.String)
        right: logs.Rows = {"k": keys, "at": times([t for _, t in table]), "v": range(len(table))}
        left: logs.Rows = {"k": pl.Series([k for k, _ in log], dtype=pl.String), "t": times([t for _, t in log])}
        source = Source(logs.write(folder, left), time="t", joins=(Join(logs.write(folder, right, name="right"), "k", time="at"),))
        expected: list[int | None] = []
        for key, time in log:
            met = [
                (at, row)
                for row, (other, at) in enumerate(table)
                if key is not None and time is not None and other == key and at is not None and at <= time
            ]
            expected.append(max(met)[1] if met else None)
        assert read(source, ["v"], size)["v"].to_list() == expected


@unhurried
@given(data=st.data(), size=st.integers(1, 12))
def test_reading_some_columns_gives_what_reading_all_gives(data: st.DataObject, size: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        users = logs.write(folder, {"user": [1, 2, 3, 9], "city": ["x", "y", None, "x"], "age2": [1, 2, 3, 4]}, name="users")
        cities = logs.write(folder, {"city": ["x", "y"], "country": ["p", "q"]}, name="cities")
        rates = logs.write(folder, {"country": ["p", "p", "q"], "at": [0, 4, 2], "rate": [1.0, 2.0, 3.0]}, name="rates")
        joins = (Join(users, "user"), Join(cities, "city"), Join(rates, "country", time="at"))
        source = logs.source(folder, joins=joins)
        whole = read(source, Log(source).names, 100)
        some = data.draw(st.lists(st.sampled_from(whole.columns), min_size=1, max_size=5))
        once = list(dict.fromkeys(some))
        assert read(source, some, size).equals(whole.select(once))
        # users 1 1 2 2 3 1 1 9 2 8 at times 0 … 9: countries p p q q - p p p q -
        assert whole["rate"].to_list() == [1, 1, 3, 3, None, 2, 2, 2, 3, None]


# splits


SPLITS: list[Split] = [ByTime(3, 6), ByUser(0.3, 0.3, seed=2), ByColumn("city", valid="x", test="y", train="z")]


def parts(split: Split, frame: pl.DataFrame, size: int) -> list[int | None]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "log.parquet"
        frame.write_parquet(path)
        log = Log(Source(str(path), user="user", time="time"))
        label = split.label(log)
        return pl.concat(log.read(label.meta.root_names(), size)).select(label).to_series().to_list()


@unhurried
@given(
    rows=st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 9), st.sampled_from("xyzw")), min_size=1, max_size=20),
    size=st.integers(1, 20),
    data=st.data(),
)
@pytest.mark.parametrize("split", SPLITS, ids=["time", "user", "column"])
def test_a_part_depends_on_the_row_alone(split: Split, rows: list[tuple[int, int, str]], size: int, data: st.DataObject) -> None:
    """Not on the rows around it, their order, their number, or how many are read at a time."""
    frame = pl.DataFrame(rows, schema={"user": pl.Int64, "time": pl.Int64, "city": pl.String}, orient="row")
    found = parts(split, frame, size)
    order = data.draw(st.permutations(range(len(rows))))
    assert parts(split, frame[list(order)], 3) == [found[row] for row in order]
    one = data.draw(st.integers(0, len(rows) - 1))
    assert parts(split, frame[one], 1) == [found[one]]


@unhurried
@given(
    zone=st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"]),
    valid=st.dates(dt.date(2022, 1, 1), dt.date(2022, 12, 1)),
    days=st.integers(1, 20),
    shifts=st.lists(st.integers(-3 * 86_400, 25 * 86_400), min_size=1, max_size=10),
    unit=st.sampled_from([1, 10**3, 10**6]),
)
def test_dates_split_epochs_at_local_midnight(zone: str, valid: dt.date, days: int, shifts: list[int], unit: int) -> None:
    """Also over the hours that summer time adds and takes."""
    test = valid + dt.timedelta(days)
    begin = int(dt.datetime.combine(valid, dt.time(), ZoneInfo("UTC")).timestamp())
    seconds = [begin + shift for shift in shifts]
    local = [dt.datetime.fromtimestamp(second, ZoneInfo(zone)).date() for second in seconds]
    expected = [int(day >= valid) + int(day >= test) for day in local]
    frame = pl.DataFrame({"time": [second * unit for second in seconds], "user": seconds})
    assert parts(ByTime(valid, test, zone=zone), frame, 4) == expected
    moments = pl.DataFrame({"time": pl.Series([second * 10**3 for second in seconds]).cast(pl.Datetime("ms"))}).with_columns(user=1)
    assert parts(ByTime(valid, test, zone=zone), moments, 4) == expected


@unhurried
@given(users=st.lists(st.text(max_size=4) | st.none(), max_size=12), seed=st.integers(0, 2**62))
def test_users_are_numbers_that_know_only_their_own_text(users: list[str | None], seed: int) -> None:
    series = pl.Series(users, dtype=pl.String)
    found = stable(series)
    assert [int(stable(pl.Series([user], dtype=pl.String))[0]) for user in users] == found.tolist()
    assert len(set(found.tolist())) == len(set(users))
    placed = ByUser(0.4, 0.3, seed=seed)._parts(series).to_list()
    assert all(placed[one] == placed[other] for one in range(len(users)) for other in range(one) if users[one] == users[other])


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_shares_of_users_are_those_asked_for(seed: int) -> None:
    placed = ByUser(0.1, 0.25, seed=seed)._parts(pl.Series(np.arange(20_000))).to_numpy()
    assert [(placed == part).mean() for part in range(3)] == pytest.approx([0.65, 0.1, 0.25], abs=0.012)


def test_another_share_of_validation_leaves_users_of_the_larger_one_in_it() -> None:
    users = pl.Series(np.arange(2000))
    few, many = (ByUser(share, 0.1)._parts(users).to_numpy() == 1 for share in (0.1, 0.2))
    assert (few <= many).all()
    assert few.sum() < many.sum()


# files


EVERY = Schema(
    (
        Field("user", ID, min_count=1),
        Field("item", ID, min_count=1),
        Field("hour", CATEGORY, sql="FLOOR(time / 3)", min_count=1),
        Field("age", NUMBER),
        Field("watched", SEQUENCE, like="item", length=3),
        Field("tags", BAG, length=2, min_count=1),
        Field("picture", VECTOR, width=2),
        Field("flag", CATEGORY, min_count=1),
    ),
    (Task("click"), Task("buy", given="click"), Task("spent")),
)
TEXTED = changed(
    item=["a", "é", "a", 'c "d"', "a", "é", "a,b", "", "é", "a"],
    age=[10.0, 20.5, None, 40.0, -1e-3, 30.0, 5e7, None, 25.0, 10.0],
    watched=["[a, é]", "", None, "x a é a", "a", "é|é", "z", "a;b", None, "é"],
    tags=["1 2", "3", None, "2,1", "1", "9", "1 1", "7", "", "2"],
    picture=["1 2", "0.5,-1", None, "[3, 4]", "1e3 0", "0 0", "1 1", None, "2 2", "5 6"],
    flag=[True, False, None, True, True, False, None, True, False, True],
    spent=[0, 1, None, 1, 0, 0, 1, 0, 0, 1],
)
FILES = ("int32.npy", "float32.npy", "labels.npy", "group.npy", "time.npy")


def ingested(folder: Path, log: str, out: str) -> dict[str, bytes]:
    table = ingest(Source(log, user="user", item="item", time="time"), EVERY, logs.SPLIT, folder=folder / out)
    return {name: (table.folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@pytest.fixture(scope="module")
def parquet(folder: Path) -> dict[str, bytes]:
    return ingested(folder, logs.write(folder, TEXTED), "parquet")


def test_a_csv_of_every_kind_gives_the_bytes_of_parquet(folder: Path, parquet: dict[str, bytes]) -> None:
    frame = pl.DataFrame(TEXTED, strict=False)
    frame.write_csv(folder / "log.csv", quote_style="non_numeric")  # so that an empty text is not a missing one
    assert ingested(folder, str(folder / "log.csv"), "csv") == parquet


@pytest.mark.parametrize(("suffix", "ends"), [("parquet", [5]), ("parquet", [0, 3, 3, 7]), ("csv", [5]), ("csv", [4, 7])])
def test_files_of_a_glob_give_the_bytes_of_one(folder: Path, parquet: dict[str, bytes], suffix: str, ends: list[int]) -> None:
    frame = pl.DataFrame(TEXTED, strict=False)
    pieces = folder / f"pieces-{suffix}-{'-'.join(map(str, ends))}"
    pieces.mkdir()
    for number, (first, last) in enumerate(zip([0, *ends], [*ends, 10], strict=True)):
        piece = frame[first:last]
        if suffix == "csv":
            piece.write_csv(pieces / f"{number}.csv", quote_style="non_numeric")
        else:
            piece.write_parquet(pieces / f"{number}.parquet")
    assert ingested(folder, str(pieces / f"*.{suffix}"), f"table-{suffix}-{len(ends)}") == parquet


@pytest.mark.parametrize(("compression", "group"), [("uncompressed", 1), ("snappy", 3), ("gzip", 4), ("zstd", 100)])
def test_parquet_written_any_way_gives_the_same_bytes(folder: Path, parquet: dict[str, bytes], compression: str, group: int) -> None:
    path = folder / f"{compression}.parquet"
    pl.DataFrame(TEXTED, strict=False).write_parquet(path, compression=compression, row_group_size=group)  # type: ignore[arg-type]
    assert ingested(folder, str(path), f"table-{compression}") == parquet


def test_lists_of_parquet_give_the_bytes_of_their_text(folder: Path, parquet: dict[str, bytes]) -> None:
    watched = [["a", "é"], [], None, ["x", "a", "é", "a"], ["a"], ["é", "é"], ["z"], ["a", "b"], None, ["é"]]
    picture = [[1, 2], [0.5, -1], None, [3, 4], [1000, 0], [0, 0], [1, 1], None, [2, 2], [5, 6]]
    rows = {**TEXTED, "watched": watched, "picture": pl.Series(picture, dtype=pl.List(pl.Float64), strict=False)}
    assert ingested(folder, logs.write(folder, rows, name="lists"), "lists") == parquet
