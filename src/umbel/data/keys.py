"""Raw values as keys: the types in which they are compared, and where each stands among known ones."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import polars as pl
from jaxtyping import Int32, Int64

from umbel.data.lookup import Lookup, lookup


class Key(StrEnum):
    """The types in which raw values are compared."""

    INTEGER = "integer"
    UNSIGNED = "unsigned"
    FLOAT = "float"
    TEXT = "text"


DTYPES = {Key.INTEGER: pl.Int64, Key.UNSIGNED: pl.UInt64, Key.FLOAT: pl.Float64, Key.TEXT: pl.String}


def key_of(raw: pl.Series) -> Key:
    """The type in which a column's values are compared; dates, times, categories and integers beyond 64 bits compare as text."""
    kind = raw.dtype.inner if isinstance(raw.dtype, pl.List) else raw.dtype
    if kind == pl.UInt64:
        return Key.UNSIGNED
    if kind in (pl.Int128, pl.UInt128):  # no machine word holds them
        return Key.TEXT
    if kind.is_integer() or kind in (pl.Boolean, pl.Null):
        return Key.INTEGER
    return Key.FLOAT if kind.is_float() or kind == pl.Decimal else Key.TEXT


def common(keys: list[Key]) -> Key:
    """One type for all fields of a table: theirs if they agree, FLOAT for integers and floats, else TEXT."""
    if len(set(keys)) == 1:
        return keys[0]
    return Key.FLOAT if set(keys) <= {Key.INTEGER, Key.FLOAT} else Key.TEXT


def canonical(raw: pl.Series, key: Key) -> pl.Series:
    """Values in the type they are compared in; null where a value has no counterpart in it (NaN never has)."""
    if raw.dtype.is_float() or raw.dtype == pl.Decimal:
        raw = raw.cast(pl.Float64).fill_nan(None)
        raw = raw.set(raw == 0, 0.0)  # one zero, not two
        if key in (Key.INTEGER, Key.UNSIGNED):
            raw = raw.set(raw != raw.floor(), None)
    return raw.cast(DTYPES[key], strict=False)


def bits(values: pl.Series) -> Int64[np.ndarray, "rows"]:
    """Canonical values that are no text and not null, as the int64 of the same bits."""
    return values.to_numpy().view(np.int64)


class Finder:
    """Where each value stands among distinct known ones; -1 for others and for missing ones.

    Text is found by a 64-bit hash and then compared, so that what is found is always equal.
    """

    def __init__(self, values: pl.Series) -> None:
        self._key = key_of(values)
        self._values = values
        self._seed = 0
        self._table = self._hashed() if self._key is Key.TEXT else lookup(bits(values))

    def find(self, raw: pl.Series) -> Int32[np.ndarray, "rows"]:
        """The place of each value."""
        values = canonical(raw, self._key)
        missing = values.is_null().to_numpy() if values.null_count() else None
        if self._key is Key.TEXT:
            places = self._table.find(values.hash(self._seed).to_numpy().view(np.int64))
            same = self._values.gather(np.maximum(places, 0)) == values if len(self._values) else pl.Series([False])
            places = np.where(same.fill_null(value=False).to_numpy(), places, np.int32(-1))
        else:
            places = self._table.find(bits(values if missing is None else values.fill_null(0)))
        return places if missing is None else np.where(missing, np.int32(-1), places)

    def _hashed(self) -> Lookup:
        """A lookup over hashes, under the first seed that tells all the values apart."""
        while (hashes := self._values.hash(self._seed)).n_unique() < len(self._values):
            self._seed += 1
        return lookup(hashes.to_numpy().view(np.int64))
