"""Files of Parquet as one: types that all of them can be read in, and which of them cannot."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import polars as pl

from umbel.errors import UserError

# What Polars says of a column, whichever file it is in.
_REFUSED = re.compile(r"(?:data type mismatch for|did not find) column (.*?)(?:: incoming: |, consider passing )", re.DOTALL)


def scan(found: Sequence[str], like: pl.DataFrame | None) -> pl.LazyFrame:
    """The files, lazily, in the types of `like` (None: those of the first); integers may be narrower, and there may be other columns."""
    wide, schema = pl.ScanCastOptions(integer_cast="upcast"), None if like is None else like.schema
    return pl.scan_parquet(list(found), glob=False, schema=schema, cast_options=wide, extra_columns="ignore")


def common(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Of frames without rows, the columns of the first in types that all can be read in, where there are such.

    Example
    -------
    >>> one, other = pl.DataFrame(schema={"a": pl.Int8, "b": pl.Null}), pl.DataFrame(schema={"b": pl.String, "a": pl.UInt16, "c": pl.Date})
    >>> dict(common([one, other]).schema)
    {'a': Int32, 'b': String}
    """
    return pl.DataFrame([_wide(name, frames) for name in frames[0].columns])


def refused(error: str) -> str | None:
    """The column that Polars says it cannot read in one of several files, if that is what it says.

    Example
    -------
    >>> refused("data type mismatch for column click: incoming: String != target: Int64")
    'click'
    """
    told = _REFUSED.match(error)
    return None if told is None else told[1]


def odd_one(name: str, frames: Mapping[str, pl.DataFrame]) -> UserError | None:
    """Of frames without rows, by the path of their file, what is wrong with the first whose column is read otherwise than the others'."""
    known = [path for path, frame in frames.items() if name in frame and frame[name].dtype != pl.Null]
    for path, frame in frames.items() if known else ():
        like = frames[known[0]]
        if name not in frame or _wide(name, [frame, like]).dtype != _wide(name, [like, frame]).dtype:
            return other_part(path, name, frame, first=known[0], like=like)
    return None


def other_part(path: str, name: str, frame: pl.DataFrame, *, first: str, like: pl.DataFrame) -> UserError:
    """What is wrong with a file whose column is of another type than that of the `first`, or not there."""
    what = f"{path}: column {name!r} is {frame.schema.get(name, 'not there')}, in {first} it is {like[name].dtype}"
    return UserError(what, mend="give the files of a glob the same columns")


def _wide(name: str, frames: Sequence[pl.DataFrame]) -> pl.Series:
    """A column of the narrowest integers that hold those of all; where there are none, of the first type but null."""
    columns = [frame[name] for frame in frames if name in frame]
    known = [column for column in columns if column.dtype != pl.Null] or columns[:1]
    if all(column.dtype.is_integer() for column in known):
        both = pl.concat([column.to_frame() for column in known], how="vertical_relaxed")[name]
        return both if both.dtype.is_integer() else known[0]  # of 64 bits, signed and unsigned, some versions of Polars make a float
    return known[0]
