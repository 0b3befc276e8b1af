"""MovieLens-1M: the owners' files become log, users and movies, under the published split and no other."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from umbel.data.groups import stable
from umbel.data.sources import movielens
from umbel.data.sources.movielens import LOG, MOVIES, USERS
from umbel.data.split import uniform
from umbel.errors import UserError

SHARED = Path(__file__).parents[2] / "../shared/data/movielens-1m"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/movielens-1m")

TOY = "1::Toy Story::1995::G::22 Nov 1995::Animation, Comedy::John Lasseter, Ann Onym(co-director)::N/A::Tom Hanks, Tim Allen::Toys.::u"
OLD = "26::Othello::1995::N/A::N/A::N/A::N/A::N/A::Irène Jacob::A play.::N/A"
NEW = "7::Later::1999::R::N/A::Drama::Jane Doe (as J. D.)::N/A::N/A::N/A::N/A"


def scenarios() -> pl.DataFrame:
    """Twenty training users with two rows each, and one row of every other scenario."""
    train = [("train", user, movie, 1 + (user + movie) % 5) for user in range(1, 21) for movie in (1, 26)]
    cold = [("warm", 1, 26, 5), ("user_cold", 90, 1, 4), ("item_cold", 2, 7, 3), ("both_cold", 90, 7, 1)]
    return pl.DataFrame([*train, *cold], schema=["scenario", "user_id", "movie_id", "rating"], orient="row")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "owners"
    made.mkdir()
    scenarios().write_parquet(made / LOG)
    (made / USERS).write_text("2::M::56::16::02460\n1::F::1::10::48067-123\n")
    (made / MOVIES).write_bytes("\r\n".join([TOY, OLD, NEW, ""]).encode())
    return made


def table(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder / f"{name}.parquet")


def test_every_row_of_the_split_is_in_the_log_in_its_order(folder: Path, tmp_path: Path) -> None:
    movielens.convert(folder, tmp_path / "out")
    log = table(tmp_path / "out", "log")
    assert log.columns == ["user_id", "movie_id", "rating", "scenario", "part"]
    published = scenarios()
    for name in published.columns:
        assert log[name].to_list() == published[name].to_list()


def test_a_tenth_of_the_training_users_validates_and_cold_rows_test(folder: Path, tmp_path: Path) -> None:
    movielens.convert(folder, tmp_path / "out")
    log = table(tmp_path / "out", "log")
    places = zip(log["scenario"], uniform(stable(log["user_id"]), 0), strict=True)
    wanted = ["test" if scenario != "train" else "valid" if place < 0.1 else "train" for scenario, place in places]
    assert log["part"].to_list() == wanted
    assert set(wanted) == {"train", "valid", "test"}


def test_users_are_sorted_and_zips_stay_text(folder: Path, tmp_path: Path) -> None:
    movielens.convert(folder, tmp_path / "out")
    assert table(tmp_path / "out", "users").rows() == [(1, "F", 1, 10, "48067-123"), (2, "M", 56, 16, "02460")]


def test_movies_have_lists_without_brackets_and_what_is_missing_is_missing(folder: Path, tmp_path: Path) -> None:
    movielens.convert(folder, tmp_path / "out")
    toy, later, old = table(tmp_path / "out", "movies").iter_rows(named=True)
    assert toy == {
        "movie_id": 1, "title": "Toy Story", "year": 1995, "content_rating": "G", "genres": ["Animation", "Comedy"],
        "directors": ["John Lasseter", "Ann Onym"], "actors": ["Tom Hanks", "Tim Allen"],
    }  # fmt: skip
    assert (later["directors"], later["actors"]) == (["Jane Doe"], [])
    assert (old["content_rating"], old["genres"], old["directors"], old["actors"]) == (None, [], [], ["Irène Jacob"])


def test_latin_1_is_read_where_a_file_is_no_utf_8(folder: Path, tmp_path: Path) -> None:
    (folder / MOVIES).write_bytes(OLD.encode("latin-1"))
    movielens.convert(folder, tmp_path / "out")
    assert table(tmp_path / "out", "movies")["actors"].to_list() == [["Irène Jacob"]]


@pytest.mark.parametrize("name", [LOG, USERS, MOVIES])
def test_a_missing_file_is_named_and_nothing_is_left(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        movielens.convert(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (USERS, "1::F::1::10\n", f"{USERS}, line 1: 4 values, not 5"),
        (USERS, "1::F::1::10::1\n\n", f"{USERS}, line 2: 1 values, not 5"),
        (USERS, "1::F::young::10::1\n", f"{USERS}, row 1: 'young' in 'age' is no whole number"),
        (USERS, "1::F::1::10::1\n1::F::1::10::1\n", f"{USERS}, row 1: user_id 1 is missing or stands twice"),
        (MOVIES, TOY.replace("1995::", "MCM::"), f"{MOVIES}, row 1: 'MCM' in 'year' is no whole number"),
    ],
)
def test_a_bad_line_is_named(folder: Path, tmp_path: Path, name: str, text: str, said: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=said) as raised:
        movielens.convert(folder, tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (pl.lit(6).alias("rating"), "row 1: a rating of 6"),
        (pl.lit(0).alias("rating"), "row 1: a rating of 0"),
        (pl.lit(2.5).alias("rating"), "row 1: a rating of 2.5"),
        (pl.lit(None).alias("rating"), "row 1: no rating"),
        (pl.lit("warn").alias("scenario"), "a scenario 'warn'; did you mean 'warm'"),
        (pl.lit(None).alias("scenario"), "row 1: no scenario"),
        (pl.lit("me").alias("user_id"), f"{LOG}: cannot be read"),
        (pl.lit(None).cast(pl.Int64).alias("user_id"), "row 1: no user_id"),
    ],
)
def test_a_bad_row_of_the_split_is_named(folder: Path, tmp_path: Path, change: pl.Expr, said: str) -> None:
    scenarios().with_columns(change).write_parquet(folder / LOG)
    with pytest.raises(UserError, match=said) as raised:
        movielens.convert(folder, tmp_path / "out")
    assert "\n" not in str(raised.value)


def test_a_missing_column_is_named(folder: Path, tmp_path: Path) -> None:
    scenarios().rename({"movie_id": "movie"}).write_parquet(folder / LOG)
    with pytest.raises(UserError, match="no column 'movie_id'; did you mean 'movie'"):
        movielens.convert(folder, tmp_path / "out")


def test_a_damaged_table_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / LOG).write_bytes((folder / LOG).read_bytes()[:100])
    with pytest.raises(UserError, match=f"{LOG}: cannot be read"):
        movielens.convert(folder, tmp_path / "out")


@needs_data
def test_the_published_split_has_its_counts(tmp_path: Path) -> None:
    movielens.convert(SHARED, tmp_path)
    log = table(tmp_path, "log")
    assert dict(log["scenario"].value_counts().iter_rows()) == {
        "train": 585_366, "warm": 65_040, "user_cold": 153_744, "item_cold": 153_696, "both_cold": 42_363,
    }  # fmt: skip
    assert dict(log["part"].value_counts().iter_rows()) == {"train": 521_541, "valid": 63_825, "test": 414_843}
    train, valid = (set(log.filter(pl.col("part") == name)["user_id"]) for name in ("train", "valid"))
    assert (len(train), len(valid), len(train & valid)) == (4832 - 513, 513, 0)
    tasks = log.group_by("scenario", "user_id").len().filter(pl.col("len").is_between(13, 100))["scenario"].value_counts()
    assert dict(tasks.iter_rows()) == {"train": 2749, "warm": 1636, "user_cold": 687, "item_cold": 2855, "both_cold": 731}


@needs_data
def test_published_attributes_are_all_there(tmp_path: Path) -> None:
    movielens.convert(SHARED, tmp_path)
    log, users, movies = (table(tmp_path, name) for name in ("log", "users", "movies"))
    assert log.join(users, on="user_id", how="anti").height == 0
    assert log.join(movies, on="movie_id", how="anti").height == 0
    assert [users[name].n_unique() for name in ("gender", "age", "occupation", "zip")] == [2, 7, 21, 3439]
    assert movies["content_rating"].n_unique() == 6
    assert [movies[name].explode().drop_nulls().n_unique() for name in ("genres", "directors", "actors")] == [24, 2185, 7977]
    assert sum(map(sum, (movies.null_count().row(0), users.null_count().row(0)))) == 0
    year = log.join(movies.select("movie_id", "year"), on="movie_id", how="left").group_by("scenario").agg(pl.col("year").max())
    assert {name for name, last in year.iter_rows() if last > 1997} == {"item_cold", "both_cold"}
