"""MovieLens-1M (Harper and Konstan, TiiS 2015) under its published cold-start split: the owners' files, and the tables made of them."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from umbel.data.sources.convert import door, keyed, leave, lines, rated, table, whole
from umbel.data.sources.scenarios import SCENARIOS, part
from umbel.errors import UserError, nearest

LOG, USERS, MOVIES = "scenarios.parquet", "users.dat", "movies_extrainfos.dat"
_LOG = pl.DataFrame(schema={"user_id": pl.Int64, "movie_id": pl.Int64, "rating": pl.Float64, "scenario": pl.String})
_USER = ("user_id", "gender", "age", "occupation", "zip")
_MOVIE = ("movie_id", "title", "year", "content_rating", "released", "genres", "directors", "writers", "actors", "plot", "poster")
_LISTS = ("genres", "directors", "actors")


def convert(folder: Path, out: Path) -> None:
    r"""Turn a folder of MovieLens-1M into `log`, `users` and `movies` (.parquet) in another.

    The log has all 1,000,209 rows of the split that MetaHIN published (Lu et al., KDD 2020), in its order: 585,366 `train`, 65,040
    `warm`, 153,744 `user_cold`, 153,696 `item_cold`, 42,363 `both_cold`; movies from 1998 on are new, and so are 1,208 users. Two movies
    that the owners list twice have one number there (860 is 811, 1795 is 1741): so twelve ratings carry another number than in the
    owners' file, and four pairs of user and movie stand twice. `part` is `train`, `valid` (63,825 rows: all that 513 of the 4,832
    training users have in `train`) or `test` (the other four scenarios).

    Ages are the owners' codes of ranges. Of a movie: title, year, content rating, and lists of genres, directors (without what
    stands in brackets behind a name) and actors; `N/A` is missing, of a list an empty one.

    :raises UserError: for a missing file, column or value, an unknown scenario, a rating outside 1 to 5, or a key that stands twice.
    """
    log = rated(table(folder / LOG, _LOG), folder / LOG, low=1, high=5)
    strange = log.filter(~pl.col("scenario").is_in(SCENARIOS))["scenario"]
    if len(strange):
        raise UserError(f"{folder / LOG}: a scenario {strange[0]!r}", mend=nearest(strange[0], SCENARIOS))
    users = whole(lines(folder / USERS, _USER), folder / USERS, ("user_id", "age", "occupation"))
    tables = {
        "log": log.with_columns(part(log["scenario"], log["user_id"])),
        "users": keyed(users, folder / USERS, "user_id"),
        "movies": keyed(_movies(folder / MOVIES), folder / MOVIES, "movie_id"),
    }
    leave(tables, out)


def _movies(path: Path) -> pl.DataFrame:
    """The attributes of every movie, lists as lists."""
    raw = lines(path, _MOVIE).with_columns(pl.all().replace("N/A", None))
    bare = pl.col(_LISTS).str.replace_all(r"\([^()]*\)", "").str.split(",").list.eval(pl.element().str.strip_chars())
    named = bare.list.eval(pl.element().filter(pl.element() != "")).fill_null([])
    return whole(raw, path, ("movie_id", "year")).select("movie_id", "title", "year", "content_rating", named)


if __name__ == "__main__":
    sys.exit(door(convert))
