"""How rows become training, validation and test rows."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64

from umbel.data.groups import check_plain, parsed, stable
from umbel.data.lookup import mixed
from umbel.data.source import Log
from umbel.data.units import a_second, counted, is_day
from umbel.errors import UserError

PARTS = ("train", "valid", "test")
MOVE = "move the split's borders"
Moment = dt.date | dt.datetime | int | str


@dataclass(frozen=True, slots=True)
class ByTime:
    """Rows before `valid` train, rows from `test` on test, those between validate.

    Compared is `column` (the source's time column by default). A moment is a date or datetime (in `zone` where it carries
    none; a date is its midnight), an ISO string, or a number compared as it is. Text that reads as ISO times is compared as such.
    A time column of integers is read as YYYYMMDD, seconds, milli-, micro- or nanoseconds by the size of its first value.
    """

    valid: Moment
    test: Moment
    zone: str = "UTC"
    column: str | None = None

    def label(self, log: Log) -> pl.Expr:
        """0 train, 1 valid, 2 test; null where the time is missing; :raises UserError: without a time column or order."""
        first = self.first(log)
        name = first.name
        time = pl.col(name).fill_nan(None) if first.dtype.is_float() else pl.col(name)
        if first.dtype == pl.String and not parsed(first).has_nulls():  # as text, "2024-01-05 13:00" would come before "2024-01-05T12:00"
            first = parsed(first)
            time = time.map_batches(parsed, return_dtype=first.dtype, is_elementwise=True)
        borders = [_border(moment, first, zone=self.zone) for moment in (self.valid, self.test)]
        if not pl.Series(borders).is_sorted() or borders[0] == borders[1]:
            raise UserError(f"split: valid = {self.valid} is not before test = {self.test}", mend="swap them")
        valid, test = (time >= border for border in borders)
        return valid.cast(pl.Int8) + test.cast(pl.Int8)

    def first(self, log: Log) -> pl.Series:
        """The first known time that is compared; :raises UserError: if there is none, or no column of times."""
        name = self.column or log.source.time
        if name is None:
            raise UserError("split: by time, but [data] names no time column", mend="add time = 'COLUMN' under [data]")
        first = log.first(name)
        if not len(first):
            raise UserError(f"{log.source.log}: column {name!r} holds no time", mend="check the log: has it any rows?")
        return first


@dataclass(frozen=True, slots=True)
class ByUser:
    """A share of users validates, another tests, the rest trains: by a stable hash of the raw user and `seed`."""

    valid: float
    test: float
    seed: int = 0

    def label(self, log: Log) -> pl.Expr:
        """0 train, 1 valid, 2 test, the same for all rows of a user; :raises UserError: without a user column."""
        user = log.source.user
        if user is None:
            raise UserError("split: by user, but [data] names no user column", mend="add user = 'COLUMN' under [data]")
        if min(self.valid, self.test) <= 0 or self.valid + self.test >= 1:
            raise UserError(f"split: shares valid = {self.valid}, test = {self.test}", mend="both above 0, their sum below 1")
        check_plain(log.first(user), "data.user")
        return pl.col(user).map_batches(self._parts, return_dtype=pl.Int8, is_elementwise=True)

    def _parts(self, users: pl.Series) -> pl.Series:
        share = uniform(stable(users), self.seed)
        parts = np.where(share < self.valid, 1, np.where(share < self.valid + self.test, 2, 0))
        return pl.Series(users.name, parts.astype(np.int8))


@dataclass(frozen=True, slots=True)
class ByColumn:
    """A column says the part: its value is `train`, `valid` or `test`; rows with any other value are dropped."""

    column: str
    valid: str
    test: str
    train: str = "train"

    def label(self, log: Log) -> pl.Expr:
        """0 train, 1 valid, 2 test, null otherwise; :raises UserError: if there is no such column, or two parts have one value."""
        names = [self.train, self.valid, self.test]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise UserError(f"split: {twice[0]!r} is the value of two parts", mend="give train, valid and test a value each")
        check_plain(log.first(self.column), "split.column")
        text = pl.col(self.column).cast(pl.String)
        return text.replace_strict(names, [0, 1, 2], default=None, return_dtype=pl.Int8)


Split = ByTime | ByUser | ByColumn


def mend(split: Split, log: Log) -> str:
    """What may help where no row falls into a part: of dates, the unit of the times that they are compared with was guessed."""
    if not isinstance(split, ByTime) or (isinstance(split.valid, int) and isinstance(split.test, int)):
        return MOVE
    first = split.first(log)
    if not first.dtype.is_numeric():
        return MOVE
    value = first.item()
    return f"{MOVE}, or write them as numbers ({first.name!r} was read as {counted(float(value))}, by its first value {value})"


def uniform(groups: Int64[np.ndarray, "rows"], seed: int) -> Float64[np.ndarray, "rows"]:
    """A number in [0, 1) for each group, the same on every machine."""
    return (mixed(groups, seed) >> np.uint64(11)) / 2.0**53


def _border(moment: Moment, first: pl.Series, *, zone: str) -> Moment:
    """The moment as a value of the column's type."""
    kind = first.dtype
    if (isinstance(moment, int) and kind.is_numeric()) or (isinstance(moment, str) and kind == pl.String):
        return moment
    if isinstance(moment, int):
        what = f"split: a time column of type {kind.base_type()} cannot be compared with {moment}"
        raise UserError(what, mend="write a date, YYYY-MM-DD")
    when = _aware(moment, zone)
    if kind == pl.Date:
        return when.date()
    if isinstance(kind, pl.Datetime):
        return _in(when, kind.time_zone)
    if kind == pl.String:
        return when.isoformat() if isinstance(moment, dt.datetime) else when.date().isoformat()
    if kind.is_numeric():
        return _number(when, float(first.item()))
    what = f"split: a time column of type {kind.base_type()} cannot be compared with {moment}"
    raise UserError(what, mend="give dates, datetimes or epoch numbers")


def _aware(moment: Moment, zone: str) -> dt.datetime:
    """The moment with a time zone; a date is its midnight."""
    try:
        value = dt.datetime.fromisoformat(str(moment))
        return value if value.tzinfo else value.replace(tzinfo=ZoneInfo(zone))
    except (ValueError, ZoneInfoNotFoundError, OSError) as error:  # of a folder of zones, the system's own
        raise UserError(f"split: {str(moment)!r} in zone {zone!r} is no moment", mend="write YYYY-MM-DD and a zone such as UTC") from error


def _in(when: dt.datetime, zone: str | None) -> dt.datetime:
    """The moment in a column's zone; in UTC, without saying so, where the column has none."""
    try:
        return when.astimezone(ZoneInfo(zone)) if zone else when.astimezone(dt.UTC).replace(tzinfo=None)
    except OverflowError as error:
        what = f"split: {when.date()} lies before or after all years in {zone or 'UTC'}"
        raise UserError(what, mend="write a later or earlier day") from error


def _number(when: dt.datetime, first: float) -> int:
    """The moment in the unit of the column, told by the size of its first value."""
    if is_day(first):
        return int(when.strftime("%Y%m%d"))
    return round(when.timestamp() * 1000) * a_second(first) // 1000
