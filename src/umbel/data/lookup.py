"""Integers to places, many at once: an array where the values lie close, an open-addressing hash table where they do not."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int32, Int64, UInt64

DENSE = 1 << 20  # a span of values up to this, or eight times their number, is an array


class Span:
    """An array over all values from the least key to the greatest."""

    def __init__(self, keys: Int64[np.ndarray, "keys"]) -> None:
        self._least = keys.min() if len(keys) else np.int64(0)
        span = int(keys.max() - self._least) + 1 if len(keys) else 0
        self._before = np.subtract([self._least], 1)  # an array, so that the least int64 wraps around without a warning
        self._places = np.full(span + 2, -1, np.int32)  # one more at either end for what lies outside
        self._places[keys - self._least + 1] = np.arange(len(keys), dtype=np.int32)

    def find(self, keys: Int64[np.ndarray, "rows"]) -> Int32[np.ndarray, "rows"]:
        """The place of each key; a difference that wraps around still lands outside the span."""
        return self._places.take(keys - self._before, mode="clip")


class Hashed:
    """A hash table that grows: distinct keys get places in the order they are added (linear probing, at most half full)."""

    def __init__(self) -> None:
        self._keys = np.empty(0, np.int64)
        self._slots = np.full(8, -1, np.int32)
        self.size = 0

    @property
    def keys(self) -> Int64[np.ndarray, "keys"]:
        """The keys in order of their places."""
        return self._keys[: self.size]

    def find(self, keys: Int64[np.ndarray, "rows"]) -> Int32[np.ndarray, "rows"]:
        """The place of each key, -1 for unknown ones."""
        slots = self._start(keys)
        places = self._slots.take(slots)
        if not self.size:
            return places
        wrong = np.flatnonzero((places >= 0) & (self._keys.take(places, mode="clip") != keys))
        while len(wrong):
            slots[wrong] = (slots[wrong] + 1) & (len(self._slots) - 1)
            places[wrong] = tried = self._slots.take(slots[wrong])
            wrong = wrong[(tried >= 0) & (self._keys.take(tried, mode="clip") != keys[wrong])]
        return places

    def add(self, keys: Int64[np.ndarray, "keys"]) -> None:
        """Add distinct keys that it does not hold."""
        total = self.size + len(keys)
        if total > len(self._keys):
            self._keys = np.concatenate([self.keys, np.empty(max(total, self.size * 5 // 4) - self.size, np.int64)])
        self._keys[self.size : total] = keys
        first, self.size = self.size, total
        if 2 * total > len(self._slots):
            self._slots = np.full(1 << (2 * total - 1).bit_length(), -1, np.int32)
            first = 0
        self._place(np.arange(first, total, dtype=np.int32))

    def _place(self, waiting: Int32[np.ndarray, "keys"]) -> None:
        slots = self._start(self._keys[waiting])
        while len(waiting):
            free = self._slots.take(slots) < 0
            self._slots[slots[free]] = waiting[free]  # the last of those that want one slot gets it
            lost = self._slots.take(slots) != waiting
            waiting, slots = waiting[lost], (slots[lost] + 1) & (len(self._slots) - 1)

    def _start(self, keys: Int64[np.ndarray, "rows"]) -> Int64[np.ndarray, "rows"]:
        mixed = keys.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        shift = np.uint64(64 - (len(self._slots) - 1).bit_length())
        return (mixed >> shift).view(np.int64)


Lookup = Span | Hashed


def lookup(keys: Int64[np.ndarray, "keys"]) -> Lookup:
    """The places of distinct keys: 4 bytes a value of their span, or 16 to 24 bytes a key where that is wide."""
    span = int(keys.max()) - int(keys.min()) + 1 if len(keys) else 0
    if span <= max(DENSE, 8 * len(keys)):
        return Span(keys)
    table = Hashed()
    table.add(keys)
    return table


def mixed(keys: Int64[np.ndarray, "rows"], seed: int) -> UInt64[np.ndarray, "rows"]:
    """Each key as a number spread over all of uint64, the same on every machine (splitmix64 of the key, shifted by the seed)."""
    out = keys.view(np.uint64) + np.uint64(((seed + 1) * 0x9E3779B97F4A7C15) % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        out = (out ^ (out >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(out ^ (out >> np.uint64(31)))
