"""A bundle's joins on another log: replaced, left out, or missed; by key and as of a time, from Parquet and from CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose
from tests import logs
from tests.logs import CATEGORY, ID, NUMBER, SPLIT

from umbel.bundle import Built, Bundle
from umbel.data.ingest import ingest
from umbel.data.rejoin import rejoined
from umbel.data.source import Join, Source
from umbel.errors import UserError
from umbel.evaluate.calibrate import Calibrator, Platt
from umbel.nn.recommender import Sizes
from umbel.run.report import Report
from umbel.run.use import judge_log, score_log
from umbel.schema import Field, Schema, Task

# In the log: users 1 1 2 2 3 1 1 9 2 8 and items a b a c a b a z b a at times 0 … 9.
USERS: logs.Rows = {"user": [1, 2, 3, 8], "code": ["01", "02", "02", "01"]}
PRICES: logs.Rows = {"item": ["a", "a", "b", "z"], "at": [0, 4, 3, 0], "price": [1.0, 3.0, 10.0, 5.0]}
SCHEMA = Schema(
    (Field("user", ID, min_count=1), Field("code", CATEGORY, min_count=1), Field("price", NUMBER), Field("age", NUMBER)),
    (Task("click"),),
)
BASE = ("user", "item", "time", "age", "click")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CSV log, its tables, and the bundle of an untrained model on them; tests read it and leave it alone."""
    folder = tmp_path_factory.mktemp("home")
    frame = pl.DataFrame(logs.ROWS, strict=False).select(BASE).with_columns(pl.col("age").fill_nan(None))
    frame.write_csv(folder / "log.csv")
    pl.DataFrame(USERS).write_csv(folder / "users.csv", quote_style="always")  # Polars tells numbers in quotes, too
    pl.DataFrame(USERS).write_parquet(folder / "users.parquet")
    pl.DataFrame(PRICES).write_parquet(folder / "prices.parquet")
    joins = (Join(str(folder / "users.parquet"), "user"), Join(str(folder / "prices.parquet"), "item", time="at"))
    source = Source(str(folder / "log.csv"), user="user", item="item", time="time", joins=joins)
    table = ingest(source, SCHEMA, SPLIT, folder=folder / "table")
    torch.manual_seed(3)
    built = Built("ple", Sizes({name: one.size for name, one in table.encoder.vocabularies.items()}, dim=2, expert=(4,), tower=(3,)))
    calibrators: dict[str, Calibrator] = {"click": Platt()}
    report = Report("ple", 5, {"train": 6}, (), 77, 1.0, 2.0, 3, settings={"evaluate": {"resamples": 0}}).to_json()
    Bundle(table.source, table.encoder, built, built(SCHEMA).eval(), calibrators, report).save(folder / "bundle", golden=table.golden())
    return folder


def scores(home: Path, log: str, out: Path, joins: Sequence[str] = ()) -> list[float]:
    score_log(home / "bundle", log, out / "scores.parquet", joins=joins)
    return pl.read_parquet(out / "scores.parquet")["click"].to_list()


def whole(folder: Path, name: str = "whole", **columns: logs.Column) -> str:
    """A log that has the tables' columns itself, as they were joined at training unless others are given."""
    prices = [1, None, 1, None, 3, 10, 3, 5, 10, 3]
    code = ["01", "01", "02", "02", "02", "01", "01", None, "02", "01"]
    rows = {name: column for name, column in logs.ROWS.items() if name in BASE}
    return logs.write(folder, {**rows, "price": prices, "code": code, **columns}, name=name)


def elsewhere(home: Path, folder: Path) -> Path:
    """The bundle in a folder of its own, whose tables are gone."""
    made = Bundle.load(home / "bundle")
    gone = tuple(Join(str(folder / Path(join.table).name), join.on, join.time, join.types) for join in made.source.joins)
    source = Source("gone.csv", "user", "item", "time", joins=gone, types=made.source.types)
    golden = pl.read_parquet(home / "bundle" / "golden.parquet")
    Bundle(source, made.encoder, made.built, made.model, made.calibrators, made.report).save(folder / "bundle", golden=golden)
    return folder


def test_a_log_that_has_the_columns_itself_is_not_joined(home: Path, tmp_path: Path) -> None:
    """The tables may be gone; what they brought is what the log brings."""
    expected = scores(home, str(home / "log.csv"), tmp_path)
    assert len(set(expected)) > 4
    alone = elsewhere(home, tmp_path)
    assert_allclose(scores(alone, whole(tmp_path), tmp_path), expected, rtol=0, atol=1e-6)
    report = judge_log(alone / "bundle", whole(tmp_path))
    assert report.tasks[0].figures.rows == 10


@pytest.mark.parametrize("missing", ["price", "code"])
def test_a_table_that_is_needed_and_gone_is_named(home: Path, tmp_path: Path, missing: str) -> None:
    pl.read_parquet(whole(tmp_path)).drop(missing).write_parquet(tmp_path / "new.parquet")
    table, key = {"price": ("prices", "item"), "code": ("users", "user")}[missing]
    mend = rf"name another with --join {table}=TABLE, or give a log that has {missing}$"
    with pytest.raises(UserError, match=rf"{table}\.parquet: no such file \(joined on '{key}'\); {mend}"):
        scores(elsewhere(home, tmp_path), str(tmp_path / "new.parquet"), tmp_path)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("which", ["user", "users", "users.parquet"])
def test_a_table_by_key_is_replaced(home: Path, tmp_path: Path, *, kind: str, which: str) -> None:
    """Everybody moves; user 9 is known now, user 8 no longer."""
    frame = pl.DataFrame({"user": [9, 3, 2, 1], "code": ["01", "01", "01", "02"]})
    frame.write_csv(tmp_path / "new.csv") if kind == "csv" else frame.write_parquet(tmp_path / "new.parquet")
    code = ["02", "02", "01", "01", "01", "02", "02", "01", "01", None]
    expected = scores(home, whole(tmp_path, code=code), tmp_path)
    found = scores(home, str(home / "log.csv"), tmp_path, [f"{which}={tmp_path / f'new.{kind}'}"])
    assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert found != scores(home, str(home / "log.csv"), tmp_path)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_table_as_of_a_time_is_replaced(home: Path, tmp_path: Path, kind: str) -> None:
    """A price of the future is not seen: that of a at time 9 only by the last row, that of b at 10 by none."""
    frame = pl.DataFrame({"at": [9, 2, 10, 0], "price": [7.5, 2.0, 4.0, 6.0], "item": ["a", "a", "b", "c"]})
    frame.write_csv(tmp_path / "new.csv") if kind == "csv" else frame.write_parquet(tmp_path / "new.parquet")
    price = [None, None, 2.0, 6.0, 2.0, None, 2.0, None, None, 7.5]
    expected = scores(home, whole(tmp_path, price=price), tmp_path)
    joins = [f"item={tmp_path / f'new.{kind}'}", f"user={home / 'users.csv'}"]
    assert_allclose(scores(home, str(home / "log.csv"), tmp_path, joins), expected, rtol=0, atol=1e-6)
    assert judge_log(home / "bundle", str(home / "log.csv"), joins=joins).rows == {"log": 10}


def test_a_log_that_has_one_table_s_columns_is_joined_to_the_other(home: Path, tmp_path: Path) -> None:
    new = logs.write(tmp_path, {"user": [1], "code": ["02"]}, name="new")
    log = tmp_path / "some.parquet"
    pl.read_parquet(whole(tmp_path)).drop("code").write_parquet(log)
    code = ["02", "02", None, None, None, "02", "02", None, None, None]
    expected = scores(home, whole(tmp_path, name="other", code=code), tmp_path)
    assert_allclose(scores(elsewhere(home, tmp_path), str(log), tmp_path, [f"user={new}"]), expected, rtol=0, atol=1e-6)


def test_a_table_that_was_asked_for_is_joined_or_refused(home: Path, tmp_path: Path) -> None:
    """Never ignored: where the log has its columns too, one of them must go."""
    with pytest.raises(UserError, match=r"users\.csv: column 'code' is also in the log"):
        scores(home, whole(tmp_path), tmp_path, [f"user={home / 'users.csv'}"])


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["usr=x.parquet"], "--join usr: the bundle joins no such table; did you mean 'user'?"),
        (["user"], "--join user: not KEY=TABLE; write for example --join user_id=users.parquet"),
        (["=x.parquet"], "not KEY=TABLE"),
        (["user="], "not KEY=TABLE"),
        (["user=a.csv", "user=b.csv"], "--join user: given twice; keep one of them"),
        (["user=a.csv", "users=b.csv"], "--join users: "),
        (["user=no.parquet"], "no.parquet: no such file; check the path"),
    ],
)
def test_what_says_no_table(home: Path, tmp_path: Path, asked: list[str], says: str) -> None:
    with pytest.raises(UserError) as caught:
        scores(home, str(home / "log.csv"), tmp_path, asked)
    assert says in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# which joins are taken, by their types alone

A = Join("a.parquet", "user", types={"user": "Int64", "city": "String"})
B = Join("b.parquet", "city", types={"city": "String", "size": "Int64"})
NEVER = Join("never.parquet", "item", types={})
OLD = Join("old.parquet", "user")


def tables(joins: tuple[Join, ...], own: list[str], asked: dict[str, str], folder: Path) -> list[str]:
    """The tables that reading `size` takes, of joins whose files are all there."""
    there = tuple(replace(join, table=logs.write(folder, {"x": [1]}, name=Path(join.table).stem)) for join in joins)
    source = rejoined(Source("log.parquet", joins=there), ["user", "size"], own=own, tables=asked)
    return [Path(join.table).name for join in source.joins]


def test_a_table_joined_by_another_s_column_takes_both(tmp_path: Path) -> None:
    assert tables((A, B, NEVER), ["user"], {}, tmp_path) == ["a.parquet", "b.parquet"]
    assert tables((A, B), ["user", "city"], {}, tmp_path) == ["b.parquet"]
    assert tables((A, B), ["user", "size"], {}, tmp_path) == []  # nobody asks for the city then
    assert tables((A, B), ["user", "size"], {"city": "c.parquet"}, tmp_path) == ["a.parquet", "c.parquet"]


def test_a_join_of_a_bundle_that_knows_no_types_is_always_taken(tmp_path: Path) -> None:
    assert tables((OLD,), ["user", "size"], {}, tmp_path) == ["old.parquet"]
    assert tables((OLD,), ["user"], {"old": "new.parquet"}, tmp_path) == ["new.parquet"]


def test_of_two_tables_on_one_key_the_name_says_which(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--join user: says 2 tables; write .*a\.parquet or .*old\.parquet"):
        tables((A, OLD), ["user"], {"user": "x.parquet"}, tmp_path)
    assert tables((A, OLD), ["user", "size", "city"], {"old": "x.parquet"}, tmp_path) == ["x.parquet"]
    with pytest.raises(UserError, match=r"--join old: .*old\.parquet is replaced twice; give one of them"):
        tables((OLD,), ["user"], {"user": "x.parquet", "old": "y.parquet"}, tmp_path)


# the types of training, met by a new CSV


def test_a_csv_with_an_empty_column_is_scored_as_one_with_missing_values(home: Path, tmp_path: Path) -> None:
    frame = pl.read_csv(home / "log.csv").with_columns(age=pl.lit(None, pl.Float64), user=pl.lit(None, pl.Int64))
    frame.write_csv(tmp_path / "new.csv")
    frame.write_parquet(tmp_path / "new.parquet")
    assert scores(home, str(tmp_path / "new.csv"), tmp_path) == scores(home, str(tmp_path / "new.parquet"), tmp_path)


def test_text_that_looks_like_numbers_stays_text(home: Path, tmp_path: Path) -> None:
    """The codes 01 and 02 are text in the table of training; a CSV of them would be read as 1 and 2."""
    expected = scores(home, str(home / "log.csv"), tmp_path)
    assert scores(home, str(home / "log.csv"), tmp_path, [f"user={home / 'users.csv'}"]) == expected


def test_ids_written_as_decimals_are_the_same_ids(home: Path, tmp_path: Path) -> None:
    pl.read_csv(home / "log.csv").with_columns(pl.col("user").cast(pl.Float64)).write_csv(tmp_path / "new.csv")
    assert scores(home, str(tmp_path / "new.csv"), tmp_path) == scores(home, str(home / "log.csv"), tmp_path)


def test_a_value_that_does_not_fit_ends_in_one_line(home: Path, tmp_path: Path) -> None:
    lines = (home / "log.csv").read_text().splitlines()
    (tmp_path / "new.csv").write_text("\n".join([*lines[:4], "guest,a,3,,1", *lines[5:]]) + "\n")
    with pytest.raises(UserError, match=r"new\.csv, row 4: 'guest' in column 'user' is no whole number; correct it") as caught:
        scores(home, str(tmp_path / "new.csv"), tmp_path)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


def test_a_bundle_keeps_the_types_of_training(home: Path) -> None:
    source = Bundle.load(home / "bundle").source
    assert source.types == {"user": "Int64", "age": "Float64", "click": "Int64", "item": "String", "time": "Int64"}
    assert [join.types for join in source.joins] == [
        {"user": "Int64", "code": "String"},
        {"item": "String", "at": "Int64", "price": "Float64"},
    ]
