"""The types of raw columns, as text: told from a CSV's first rows, kept with what was made of a log, and met again by another CSV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from umbel.errors import UserError, nearest

Types = Mapping[str, str]  # what each raw column is, by name

NUMBERS = tuple(str(one) for one in (pl.Int64, pl.UInt64, pl.Int128, pl.Float64))  # the narrowest first
BOOLEAN, TEXT, NOTHING = str(pl.Boolean), str(pl.String), str(pl.Null)
_MOMENT = str(pl.Datetime)
_PLAIN = {str(one): one for one in (pl.Int64, pl.UInt64, pl.Int128, pl.Float64, pl.Boolean, pl.String, pl.Date, pl.Time)}


def types(frame: pl.LazyFrame, names: Iterable[str]) -> dict[str, str]:
    """The types of those columns: what a CSV can hold of them, numbers at full width, lists and bytes as text.

    Example
    -------
    >>> types(pl.LazyFrame({"a": [[1]], "b": [1.5]}), ["b", "a"])
    {'b': 'Float64', 'a': 'String'}
    """
    columns = frame.collect_schema().to_frame()
    return {name: _type(columns[name]) for name in names}


def empty(types: Types) -> pl.DataFrame:
    """A frame of such columns without rows; :raises UserError: for a type that is not known."""
    for name, one in types.items():
        if one not in _PLAIN and not one.startswith(_MOMENT):
            raise UserError(f"column {name!r}: no type {one!r}", mend=nearest(one, _PLAIN))
    known = {name: _PLAIN[one] if one in _PLAIN else pl.Datetime(*one.split(" ")[1:]) for name, one in types.items()}  # type: ignore[arg-type]
    return pl.DataFrame(schema=known)


def met(trained: str | None, told: str) -> str:
    """How a CSV's column is read that was `trained` at training (None: not known) and is `told` by its first rows (null: no value there).

    Text stays text and a date stays a date. Numbers are read as the wider of both, so that the id 7 may be written 7.0, and
    true and 1 may stand for each other.
    """
    if trained is None or told == NOTHING:
        return trained or (TEXT if told == NOTHING else told)
    if BOOLEAN in (trained, told):
        return told if {trained, told} <= {BOOLEAN, *NUMBERS} else trained
    return wider([trained, told]) if trained in NUMBERS and told in NUMBERS else trained


def wider(told: Sequence[str]) -> str:
    """One type for the same column of several files: the widest of numbers, else text; null where no file tells any."""
    distinct = set(told) - {NOTHING}
    if distinct <= set(NUMBERS):
        return max(distinct, key=NUMBERS.index, default=NOTHING)
    return distinct.pop() if len(distinct) == 1 else TEXT


def _type(column: pl.Series) -> str:
    dtype = column.dtype
    if isinstance(dtype, pl.Datetime):
        return " ".join([_MOMENT, dtype.time_unit, *([dtype.time_zone] if dtype.time_zone else [])])
    if dtype.is_integer():
        wide = str(pl.Int128) if dtype == pl.UInt128 else str(pl.Int64)
        return str(dtype) if str(dtype) in NUMBERS else wide
    if dtype.is_float() or dtype == pl.Decimal:
        return str(pl.Float64)
    return str(dtype) if str(dtype) in _PLAIN else TEXT
