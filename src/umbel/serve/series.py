"""Values of a request as raw columns of the types that training saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from umbel.data.columns import empty
from umbel.data.source import Source
from umbel.errors import UserError
from umbel.serve.records import Value

NUMBER, FLAG, TEXT = frozenset((int, float, bool)), frozenset((bool,)), frozenset((str,))
PLAIN = NUMBER | TEXT


def column_types(source: Source) -> pl.DataFrame:
    """The raw columns whose types the source knows, the log's and those of its joined tables, without rows."""
    known = dict(source.types or {})
    for join in source.joins:
        known |= {name: one for name, one in (join.types or {}).items() if name not in known}
    return empty(known)


class Typed:
    """Makes columns of the types of those in `types` (others are what their values say); those of `ids` may be sent as text."""

    def __init__(self, types: pl.DataFrame, ids: Sequence[str]) -> None:
        self._types, self._ids = dict(types.schema), frozenset(ids)

    def knows(self, name: str) -> bool:
        """Whether a column's type is known, so that equal numbers of two types are one value."""
        return name in self._types

    def frame(self, columns: Mapping[str, Sequence[Value]]) -> pl.DataFrame:
        """Those columns; :raises UserError: for a value that is not of its column's type, naming the column."""
        return pl.DataFrame([self.series(name, values) for name, values in columns.items()])

    def series(self, name: str, values: Sequence[Value]) -> pl.Series:
        """One column; an id that does not read as its column's type is missing, so unknown."""
        wanted, found = self._types.get(name), set(map(type, values)) - {type(None)}
        try:
            if list in found and (wanted is None or wanted == pl.String):
                return self._lists(name, values, found)
            if wanted is None:
                return pl.Series(name, values, strict=False) if found else pl.Series(name, values, dtype=pl.Null)
            if name in self._ids and found <= TEXT:
                return pl.Series(name, values, dtype=pl.String).cast(wanted, strict=False)
            allowed, kind = _allowed(pl.Series(dtype=wanted))
            if not found <= allowed:
                wrong = next(value for value in values if value is not None and type(value) not in allowed)
                raise UserError(f"{name}: {wrong!r} is no {kind}", mend=f"it was {wanted} when the model was trained")
            if found and wanted.is_temporal() and found <= TEXT:
                return _moments(pl.Series(name, values, dtype=pl.String), pl.Series(dtype=wanted))
            return pl.Series(name, values, dtype=wanted, strict=False)
        except (pl.exceptions.PolarsError, OverflowError, TypeError) as error:
            raise UserError(f"{name}: {str(error).splitlines()[0]}", mend="send values of one type, that of training") from None

    def _lists(self, name: str, values: Sequence[Value], found: set[type]) -> pl.Series:
        if len(found) > 1:
            raise UserError(f"{name}: a list and a single value", mend="send lists for all items, or for none")
        kinds = {type(one) for value in values if isinstance(value, list) for one in value} - {type(None)}
        if len(kinds) > 1 and not kinds <= NUMBER:
            raise UserError(f"{name}: a list of values of several types", mend="send numbers, or texts")
        return pl.Series(name, values, strict=False) if kinds else pl.Series(name, values, dtype=pl.List(pl.Null))


def _moments(texts: pl.Series, like: pl.Series) -> pl.Series:
    """ISO texts as dates, times or datetimes; null where they are none."""
    if like.dtype == pl.Date:
        return texts.str.to_date(strict=False)
    if like.dtype == pl.Time:
        return texts.str.to_time(strict=False)
    zone = getattr(like.dtype, "time_zone", None)
    moments = texts.str.to_datetime(time_unit="us", strict=False)
    return (moments.dt.replace_time_zone(zone) if zone else moments).cast(like.dtype)


def _allowed(wanted: pl.Series) -> tuple[frozenset[type], str]:
    """The types of JSON that a column may be sent as, and what to call them."""
    if wanted.dtype.is_numeric():
        return NUMBER, "number"
    if wanted.dtype == pl.Boolean:
        return FLAG, "truth value"
    return (TEXT, "text") if wanted.dtype == pl.String else (PLAIN, "text or number")
