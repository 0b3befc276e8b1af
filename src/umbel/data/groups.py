"""Whose a row is, in which request and when, as int64 that are the same in every run and on every machine."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
from jaxtyping import Bool, Int64

from umbel.data.source import Source
from umbel.errors import UserError

MISSING = int(np.iinfo(np.int64).min)
NOBODY = 1 << 36  # rows of a log without a user that each can have a number of its own, from the least int64 on


def groups(frame: pl.DataFrame, source: Source, start: int) -> Int64[np.ndarray, "rows"]:
    """The user of each row; without a user column every row is its own, numbered from `start`.

    Where the user is missing (null or NaN), the row is its own too: what all such rows have in common is no person.
    """
    return np.arange(start, start + frame.height) if source.user is None else _together(frame[source.user], start, where="data.user")


def requests(frame: pl.DataFrame, source: Source, start: int) -> Int64[np.ndarray, "rows"]:
    """The request of each row, of a source that says which column holds it; a missing one is its row's own, as with users."""
    assert source.request is not None
    return _together(frame[source.request], start, where="data.request")


def check_plain(raw: pl.Series, where: str) -> None:
    """:raises UserError: for a column of lists or of bytes: their text says nothing."""
    if raw.dtype.is_nested() or raw.dtype == pl.Binary:
        raise UserError(f"{where}: {raw.name!r} holds {raw.dtype}", mend="name a column of numbers or text")


def _together(raw: pl.Series, start: int, *, where: str) -> Int64[np.ndarray, "rows"]:
    check_plain(raw, where)
    own = np.arange(MISSING + start, MISSING + start + len(raw))
    return np.where(without_nan(raw).is_null().to_numpy(), own, stable(raw))


def nobody(groups: Int64[np.ndarray, "rows"]) -> Bool[np.ndarray, "rows"]:
    """Which rows have no user, by what `groups` gave them.

    Example
    -------
    >>> nobody(groups(pl.DataFrame({"user": [7, None, 7, None]}), Source("log.csv", user="user"), 0)).tolist()
    [False, True, False, True]
    """
    return groups < MISSING + NOBODY


def without_nan(raw: pl.Series) -> pl.Series:
    """The values, null where one is missing: NaN is none."""
    return raw.fill_nan(None) if raw.dtype.is_float() else raw


def stable(raw: pl.Series) -> Int64[np.ndarray, "rows"]:
    """The integers themselves (unsigned 64-bit ones by their bits); else eight bytes of BLAKE2b of the text; missing is the least int64.

    Integers beyond 64 bits are text, and NaN is missing.
    """
    if raw.dtype == pl.UInt64:
        raw = raw.reinterpret(signed=True)
    if raw.dtype.is_integer():
        whole = raw.cast(pl.Int64, strict=False)
        plain, beyond = whole.fill_null(MISSING).to_numpy(), whole.is_null() & raw.is_not_null()
        return np.where(beyond.to_numpy(), stable(raw.cast(pl.String)), plain) if beyond.any() else plain
    texts = without_nan(raw).cast(pl.String).rename("text").to_frame()
    distinct = texts["text"].drop_nulls().unique()
    codes = pl.Series("code", [_digest(text) for text in distinct], dtype=pl.Int64)
    found = texts.join(pl.DataFrame([distinct, codes]), on="text", how="left", maintain_order="left")
    return found["code"].fill_null(MISSING).to_numpy()


def times(frame: pl.DataFrame, source: Source) -> Int64[np.ndarray, "rows"]:
    """The time of each row: numbers as they are, dates, datetimes and ISO text as microseconds since 1970; 0 where it is missing or NaN.

    :raises UserError: for what is no time.
    """
    if source.time is None:
        return np.zeros(frame.height, np.int64)
    raw = without_nan(frame[source.time])
    time = parsed(raw) if raw.dtype == pl.String else raw
    if isinstance(time.dtype, pl.Date | pl.Datetime):
        time = time.cast(pl.Datetime("us"))
    elif not (time.dtype.is_numeric() or time.dtype == pl.Null):
        raise UserError(f"data.time: {source.time!r} holds {time.dtype}", mend="give numbers, dates, datetimes or ISO text")
    whole = time.cast(pl.Int64, strict=False)
    lost = raw.filter(whole.is_null() & raw.is_not_null())
    if len(lost):
        raise UserError(f"data.time: {lost[0]!r} in {source.time!r} is no time", mend="give numbers, dates, datetimes or ISO text")
    return whole.fill_null(0).to_numpy()


def parsed(raw: pl.Series) -> pl.Series:
    """ISO text as datetimes, null where it is none; Polars guesses the one form that all of it has."""
    try:
        return raw.str.to_datetime(time_unit="us", strict=False)
    except pl.exceptions.ComputeError:
        return pl.Series(raw.name, [None] * len(raw), dtype=pl.Datetime("us"))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
