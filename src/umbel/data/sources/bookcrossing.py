"""Book-Crossing (Ziegler et al., WWW 2005): the crawl's tables, cleaned, with cold-start scenarios by a stated rule."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from umbel.data.sources.convert import door, keyed, leave, rated, table, whole
from umbel.data.sources.scenarios import part, scenario

RATINGS, USERS, BOOKS = "ratings.parquet", "users.parquet", "books.parquet"
NEW_YEAR = 2002
YEARS, AGES = (1900, 2005), (5, 100)  # the crawl is of 2004, and some books bear the year to come
_RATINGS = {"User-ID": "user_id", "ISBN": "isbn", "Book-Rating": "rating"}
_USERS = {"User-ID": "user_id", "User-City": "city", "User-State": "state", "User-Country": "country", "User-Age": "age"}
_BOOKS = {
    "ISBN": "isbn", "Book-Title": "title", "Book-Author": "author", "Book-Publisher": "publisher", "Year-Of-Publication": "year",
}  # fmt: skip


def convert(folder: Path, out: Path) -> None:
    """Turn a folder of Book-Crossing into `log`, `users` and `books` (.parquet) in another.

    The log holds explicit ratings, 1 to 10; those of 0, which stand for use without a rating, are dropped. Quotes and backslashes that the
    crawl left in text are taken out; `n/a` and nothing are missing, and so are ages outside 5 to 100 and years outside 1900 to 2005.

    The scenarios are MovieLens's, by rule: books of 2002 and later are new (no year: known), a fifth of the users is new by a stable
    hash, and of the rows of known users with known books a tenth, by a stable hash of both, is `warm`. Of 204,164 explicit ratings
    110,725 are `train`, 12,337 `warm`, 34,319 `user_cold`, 36,926 `item_cold`, 9,857 `both_cold`. `part` is `train`, `valid` (11,083
    rows: all that 2,978 of the 30,710 training users have in `train`) or `test` (the other four scenarios).

    :raises UserError: for a missing file, column or value, a rating outside 0 to 10, or a key that stands twice.
    """
    explicit = _table(folder / RATINGS, _RATINGS)
    log = rated(whole(explicit, folder / RATINGS, ("rating",)), folder / RATINGS, low=0, high=10).filter(pl.col("rating") > 0)
    users = whole(_table(folder / USERS, _USERS), folder / USERS, ("age",)).with_columns(_between("age", AGES))
    books = whole(_table(folder / BOOKS, _BOOKS), folder / BOOKS, ("year",)).with_columns(_between("year", YEARS))
    books = keyed(books, folder / BOOKS, "isbn")
    year = log.join(books.select("isbn", "year"), on="isbn", how="left", maintain_order="left")["year"]
    log = log.with_columns(scenario(log["user_id"], log["isbn"], (year >= NEW_YEAR).fill_null(value=False)))
    log = log.with_columns(part(log["scenario"], log["user_id"]))
    leave({"log": log, "users": keyed(users, folder / USERS, "user_id"), "books": books}, out)


def _table(path: Path, names: dict[str, str]) -> pl.DataFrame:
    """Columns of text under our names, cleaned."""
    bare = pl.all().str.replace_all(r'[\\"]', "").str.strip_chars()
    told = table(path, pl.DataFrame(schema=dict.fromkeys(names, pl.String))).rename(names).with_columns(bare)
    return told.with_columns(pl.when(pl.all().str.contains(r"(?i)^(n/a\W*)?$").not_()).then(pl.all()))


def _between(name: str, bounds: tuple[int, int]) -> pl.Expr:
    return pl.when(pl.col(name).is_between(*bounds)).then(name)


if __name__ == "__main__":
    sys.exit(door(convert))
