"""Book-Crossing: dirty text is cleaned, what is no rating goes, and the scenarios follow their rule."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from umbel.data.sources import bookcrossing, scenarios
from umbel.data.sources.bookcrossing import BOOKS, RATINGS, USERS
from umbel.errors import UserError

SHARED = Path(__file__).parents[2] / "../shared/data/book-crossing"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/book-crossing")
PEOPLE = [
    ("8", "timmins", " ontario", ' canada"', None),
    ("19", "weston", " ", None, '14"'),
    ("12036", "zurich", ' \\"n/a\\"', ' switzerland"', "4"),
    ("36656", "manila", ' \\"n/a`', ' philippines"', "244"),
    ("104887", "paris", ' \\"n/a\\".', ' france"', "100"),
]
SHELF = [
    ("0002005018", " Clara Callan", 'David \\Zeb\\" Cook"', "2001", "Harper"),
    ("0374157065", "Flu", '\\Pickles\\""', "2002", "Farrar"),
    ("0399135782", "Kitchen", "Amy Tan", "0", "N/A"),
    ("0440234743", "Testament", "John Grisham", "2030", "Dell"),
]


def ratings() -> pl.DataFrame:
    users = [*(user for user, *_ in PEOPLE), *(f"unknown {number}" for number in range(30))]
    rows = [(user, book, 1 + (place + at) % 10) for place, user in enumerate(users) for at, (book, *_) in enumerate(SHELF)]
    odd = [("8", "0002005018", 0), ("unknown", "nowhere", 10)]
    return pl.DataFrame([*rows, *odd], schema=["User-ID", "ISBN", "Book-Rating"], orient="row")


def people() -> pl.DataFrame:
    return pl.DataFrame(PEOPLE, schema=["User-ID", "User-City", "User-State", "User-Country", "User-Age"], orient="row")


def shelf() -> pl.DataFrame:
    return pl.DataFrame(SHELF, schema=["ISBN", "Book-Title", "Book-Author", "Year-Of-Publication", "Book-Publisher"], orient="row")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "owners"
    made.mkdir()
    ratings().write_parquet(made / RATINGS)
    people().write_parquet(made / USERS)
    shelf().write_parquet(made / BOOKS)
    return made


def table(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder / f"{name}.parquet")


def test_what_is_no_rating_is_dropped(folder: Path, tmp_path: Path) -> None:
    bookcrossing.convert(folder, tmp_path / "out")
    log = table(tmp_path / "out", "log")
    assert log.columns == ["user_id", "isbn", "rating", "scenario", "part"]
    assert log["rating"].min() == 1
    assert log.height == ratings().height - 1
    assert log["isbn"][0] == "0002005018"


def test_users_are_cleaned(folder: Path, tmp_path: Path) -> None:
    bookcrossing.convert(folder, tmp_path / "out")
    assert table(tmp_path / "out", "users").rows() == [
        ("104887", "paris", None, "france", 100),
        ("12036", "zurich", None, "switzerland", None),
        ("19", "weston", None, None, 14),
        ("36656", "manila", None, "philippines", None),
        ("8", "timmins", "ontario", "canada", None),
    ]


def test_books_are_cleaned(folder: Path, tmp_path: Path) -> None:
    bookcrossing.convert(folder, tmp_path / "out")
    assert table(tmp_path / "out", "books").rows() == [
        ("0002005018", "Clara Callan", "David Zeb Cook", "Harper", 2001),
        ("0374157065", "Flu", "Pickles", "Farrar", 2002),
        ("0399135782", "Kitchen", "Amy Tan", None, None),
        ("0440234743", "Testament", "John Grisham", "Dell", None),
    ]


def test_books_of_2002_are_new_and_those_without_a_year_are_not(folder: Path, tmp_path: Path) -> None:
    bookcrossing.convert(folder, tmp_path / "out")
    log = table(tmp_path / "out", "log")
    strangers = set(log["user_id"].filter(scenarios.drawn(log["user_id"], 0.2, seed=1)))
    assert 0 < len(strangers) < 36  # else the test says nothing
    for user, isbn, _, scenario, part in log.iter_rows():
        new = isbn == "0374157065"
        if user in strangers:
            assert scenario == ("both_cold" if new else "user_cold")
        else:
            assert scenario == "item_cold" if new else scenario in ("train", "warm")
        assert (part == "test") == (scenario != "train")


def test_the_split_does_not_hang_on_the_order_of_rows(folder: Path, tmp_path: Path) -> None:
    bookcrossing.convert(folder, tmp_path / "out")
    ratings().reverse().write_parquet(folder / RATINGS)
    bookcrossing.convert(folder, tmp_path / "back")
    assert table(tmp_path / "out", "log").equals(table(tmp_path / "back", "log").reverse())


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (RATINGS, pl.lit("11").alias("Book-Rating"), "row 1: a rating of 11"),
        (RATINGS, pl.lit("good").alias("Book-Rating"), "row 1: 'good' in 'rating' is no whole number"),
        (RATINGS, pl.lit(None).alias("ISBN"), "row 1: no isbn"),
        (USERS, pl.lit("old").alias("User-Age"), "row 1: 'old' in 'age' is no whole number"),
        (USERS, pl.lit("7").alias("User-ID"), "row 1: user_id '7' is missing or stands twice"),
        (BOOKS, pl.lit("MM").alias("Year-Of-Publication"), "row 1: 'MM' in 'year' is no whole number"),
        (BOOKS, pl.lit(None).alias("ISBN"), "row 1: isbn None is missing or stands twice"),
    ],
)
def test_bad_values_are_named(folder: Path, tmp_path: Path, name: str, change: pl.Expr, said: str) -> None:
    pl.read_parquet(folder / name).with_columns(change).write_parquet(folder / name)
    with pytest.raises(UserError, match=f"{name}.*{said}") as raised:
        bookcrossing.convert(folder, tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [RATINGS, USERS, BOOKS])
def test_a_missing_file_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        bookcrossing.convert(folder, tmp_path / "out")


def test_a_missing_column_is_named(folder: Path, tmp_path: Path) -> None:
    people().drop("User-City").write_parquet(folder / USERS)
    with pytest.raises(UserError, match=f"{USERS}: no column 'User-City'"):
        bookcrossing.convert(folder, tmp_path / "out")


@needs_data
def test_the_crawl_has_the_stated_counts(tmp_path: Path) -> None:
    bookcrossing.convert(SHARED, tmp_path)
    log, users, books = (table(tmp_path, name) for name in ("log", "users", "books"))
    assert dict(log["scenario"].value_counts().iter_rows()) == {
        "train": 110_725, "warm": 12_337, "user_cold": 34_319, "item_cold": 36_926, "both_cold": 9_857,
    }  # fmt: skip
    assert dict(log["part"].value_counts().iter_rows()) == {"train": 99_642, "valid": 11_083, "test": 93_439}
    assert log.filter(pl.col("part") == "valid")["user_id"].n_unique() == 2_978
    assert log.filter(pl.col("scenario") == "train")["user_id"].n_unique() == 30_710
    assert log.join(users, on="user_id", how="anti").height == log.join(books, on="isbn", how="anti").height == 0
    text = pl.concat([users.select(word=pl.col("country")), books.select(word=pl.col("author"))])
    assert text.filter(pl.col("word").str.contains(r'[\\"]|^\s|\s$|^$')).height == 0
    assert (users["age"].min(), users["age"].max(), books["year"].min(), books["year"].max()) == (5, 100, 1920, 2005)
