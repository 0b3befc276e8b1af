"""How often each value of a field occurs, counted batch by batch, and the order of a vocabulary."""

from __future__ import annotations

import numpy as np
import polars as pl
from jaxtyping import Int64

from umbel.data.keys import DTYPES, Key, bits, canonical, key_of
from umbel.data.lookup import Hashed

VALUE = "value"
COUNT = "count"
SPAN = 1 << 22  # values within a span up to this are counted in an array
Times = int | Int64[np.ndarray, "values"]
FRESH = 1_000_000  # counts of text that wait before they are merged
_NUMPY = {Key.INTEGER: np.int64, Key.UNSIGNED: np.uint64, Key.FLOAT: np.float64}


def in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Values by count (descending), then by the UTF-8 bytes of their text."""
    values = frame[VALUE]
    if key_of(values) is not Key.INTEGER:
        return frame.sort(-pl.col(COUNT), pl.col(VALUE).cast(pl.String))
    order = text_order(values.to_numpy())
    return frame[order[np.argsort(-frame[COUNT].to_numpy()[order], kind="stable")]]


def text_order(values: Int64[np.ndarray, "rows"]) -> Int64[np.ndarray, "rows"]:
    """The order of distinct integers by their decimal text, ten times faster than by the text.

    A minus sign comes before digits; after it, digits compare from the left: by the number moved left to 19 digits, and
    where these are equal (1, 10, 100) the shorter comes first.
    """
    size = np.where(values < 0, (-(values + 1)).view(np.uint64) + np.uint64(1), values.view(np.uint64))
    digits = np.maximum(np.searchsorted(_POWERS, size, side="right"), 1)
    by_size = np.argsort(size, kind="stable")
    left = (size * _POWERS[19 - digits])[by_size]
    order = by_size[np.argsort(left, kind="stable")]
    return order[np.argsort(values[order] >= 0, kind="stable")]


_POWERS = np.uint64(10) ** np.arange(20, dtype=np.uint64)


class _Array:
    """Integers within a small span: one count a value of the span."""

    def __init__(self) -> None:
        self._least = 0
        self._counts = np.zeros(0, np.int64)

    def holds(self, values: pl.Series) -> bool:
        """Whether the span with these values is still small; makes room for them if it is."""
        if not len(values):
            return True
        keys = values.to_numpy()
        least, most = int(keys.min()), int(keys.max())
        if len(self._counts):
            least, most = min(least, self._least), max(most, self._least + len(self._counts) - 1)
        if most - least + 1 > SPAN:
            return False
        if most - least + 1 > len(self._counts):
            counts = np.zeros(most - least + 1, np.int64)
            counts[self._least - least :][: len(self._counts)] = self._counts
            self._least, self._counts = least, counts
        return True

    def add(self, values: pl.Series, times: Times) -> None:
        places = values.to_numpy() - self._least
        if len(self._counts) < len(places) and isinstance(times, int):
            self._counts += times * np.bincount(places, minlength=len(self._counts))
        else:
            np.add.at(self._counts, places, times)

    def counted(self) -> tuple[Int64[np.ndarray, "values"], Int64[np.ndarray, "values"]]:
        places = np.flatnonzero(self._counts)
        return places + self._least, self._counts[places]

    def spread(self) -> _Table:
        """The same counts in a hash table."""
        table = _Table()
        table.fill(*self.counted())
        return table


class _Table:
    """Integers and floats anywhere: a hash table over their bits."""

    def __init__(self) -> None:
        self._table = Hashed()
        self._counts = np.zeros(0, np.int64)

    def fill(self, keys: Int64[np.ndarray, "values"], counts: Int64[np.ndarray, "values"]) -> None:
        """Start from counts of distinct keys."""
        self._table.add(keys)
        self._counts = counts

    def add(self, values: pl.Series, times: Times) -> None:
        keys = bits(values)
        places = self._table.find(keys)
        if (places < 0).any():
            self._table.add(np.unique(keys[places < 0]))
            places = self._table.find(keys)
        if self._table.size > len(self._counts):
            room = max(self._table.size, len(self._counts) * 5 // 4)
            self._counts = np.concatenate([self._counts, np.zeros(room - len(self._counts), np.int64)])
        np.add.at(self._counts, places, times)

    def counted(self) -> tuple[Int64[np.ndarray, "values"], Int64[np.ndarray, "values"]]:
        return self._table.keys, self._counts[: self._table.size]


class _Texts:
    """Text: counts of batches, merged when those that wait outgrow the merged ones."""

    def __init__(self) -> None:
        self._merged = pl.DataFrame(schema={VALUE: pl.String, COUNT: pl.Int64})
        self._waiting: list[pl.DataFrame] = []

    def add(self, values: pl.Series, times: Times) -> None:
        keys = pl.DataFrame([values.rename(VALUE), pl.Series(COUNT, np.broadcast_to(np.int64(times), len(values)))])
        self._waiting.append(keys.group_by(VALUE).agg(pl.col(COUNT).sum()))
        if sum(frame.height for frame in self._waiting) > max(FRESH, self._merged.height):
            self._merge()

    def counted(self) -> tuple[pl.Series, Int64[np.ndarray, "values"]]:
        self._merge()
        values, counts = self._merged.sort(VALUE)
        return values, counts.to_numpy()

    def _merge(self) -> None:
        self._merged = pl.concat([self._merged, *self._waiting]).group_by(VALUE).agg(pl.col(COUNT).sum())
        self._waiting = []


_Counter = _Array | _Table | _Texts


class Frequencies:
    """The counts of one field; the type of its values is that of the first batch."""

    def __init__(self) -> None:
        self._key = Key.INTEGER
        self._counter: _Counter | None = None

    def add(self, values: pl.Series, times: Times = 1) -> None:
        """Count the values of a batch, each so many times; missing ones count nothing."""
        if self._counter is None:
            self._key = key_of(values)
            self._counter = _Texts() if self._key is Key.TEXT else _Array() if self._key is Key.INTEGER else _Table()
        known = canonical(values, self._key)
        if known.null_count():
            times = times if isinstance(times, int) else times[known.is_not_null().to_numpy()]
            known = known.drop_nulls()
        if isinstance(self._counter, _Array) and not self._counter.holds(known):
            self._counter = self._counter.spread()
        if len(known):
            self._counter.add(known, times)

    def counted(self) -> pl.DataFrame:
        """The distinct values and their counts, in no order that means anything but always the same."""
        if self._counter is None:
            return pl.DataFrame({VALUE: [], COUNT: []}, schema={VALUE: pl.Int64, COUNT: pl.Int64})
        values, counts = self._counter.counted()
        plain = values if isinstance(values, pl.Series) else pl.Series(values.view(_NUMPY[self._key]))
        return pl.DataFrame({VALUE: plain.cast(DTYPES[self._key]), COUNT: counts})
