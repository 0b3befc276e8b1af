"""What numbers that tell a time count, guessed by their size."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from umbel.errors import UserError

DAYS = "days of the form YYYYMMDD"
UNITS = {1: "seconds", 10**3: "milliseconds", 10**6: "microseconds", 10**9: "nanoseconds"}  # by how many are a second
LEAST = 10**8  # seconds since 1970 come to so many in 1973; fewer may be a count of anything


class Clock(NamedTuple):
    """A column of times and, where its numbers tell, what they count.

    Example
    -------
    >>> Clock.of(pl.Series("at", [0, 1_651_363_200_000, 1_651_363_200_001]))
    Clock(column='at', unit='milliseconds')
    >>> Clock.of(pl.Series("at", [1, 2, 3]))
    Clock(column='at', unit=None)
    """

    column: str
    unit: str | None

    @staticmethod
    def of(times: pl.Series) -> Clock:
        """By the middle one of those known: 0 may stand for always, and a moment far away for never."""
        middle = times.quantile(0.5, "lower") if times.dtype.is_numeric() else None
        return Clock(times.name, None if middle is None or (middle < LEAST and not is_day(middle)) else counted(middle))


def check_same(table: str, known: Clock, asked: Clock) -> None:
    """:raises UserError: where a table's times count another thing than the log's: as of those, each row would be past, or none."""
    if None not in (known.unit, asked.unit) and known.unit != asked.unit:
        what = f"{table}: its {known.column!r} counts {known.unit}, the log's {asked.column!r} {asked.unit}"
        raise UserError(what, mend="give both the same unit")


def is_day(time: float) -> bool:
    """Whether a number reads as YYYYMMDD."""
    return 19_000_101 <= time <= 29_991_231


def a_second(time: float) -> int:
    """How many a second there are of what a number counts that is no day."""
    return 1 if time < 1e11 else 10**3 if time < 1e14 else 10**6 if time < 1e17 else 10**9


def counted(time: float) -> str:
    """What a number counts, as far as its size says it."""
    return DAYS if is_day(time) else UNITS[a_second(time)]
