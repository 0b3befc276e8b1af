"""Where each value of an attribute stands in a stock, kept up with what changes in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import final

import numpy as np
from jaxtyping import Int64

from umbel.serve.records import Value

Fields = Sequence[Mapping[str, Value]]
Places = Int64[np.ndarray, "_"]
NOWHERE: Places = np.empty(0, np.int64)


@final
class Values:
    """The places of items by their value of one attribute; an attribute that is a list has each of its own.

    Example
    -------
    >>> found = Values.of("genre", [{"genre": ["war", "love"]}, {"genre": "war"}, {}])
    >>> found.places("war").tolist(), found.places(["love", "art"]).tolist(), found.places(None).tolist()
    ([0, 1], [0], [2])
    """

    def __init__(self, by: Mapping[object, Places]) -> None:
        self._by = by

    @staticmethod
    def of(name: str, fields: Fields) -> Values:
        """Those of an attribute."""
        found = _placed(name, fields, range(len(fields)))
        return Values({value: np.array(places, np.int64) for value, places in found.items()})

    def places(self, wanted: object) -> Places:
        """Where items have a value, or any of a list of values; a place may come several times."""
        return np.concatenate([NOWHERE, *(self._by.get(_key(one), NOWHERE) for one in _each(wanted))])

    def changed(self, name: str, at: Sequence[int], *, before: Fields, now: Fields) -> Values:
        """The same after the items at some places have changed, or come: none has gone, so that the others stand where they stood."""
        out, into = _placed(name, before, [place for place in at if place < len(before)]), _placed(name, now, at)
        by = dict(self._by)
        for value in out.keys() | into.keys():
            by[value] = np.union1d(np.setdiff1d(by.get(value, NOWHERE), out.get(value, [])), np.array(into.get(value, []), np.int64))
            if not len(by[value]):
                del by[value]
        return Values(by)


def _placed(name: str, fields: Fields, at: Iterable[int]) -> dict[object, list[int]]:
    found: dict[object, list[int]] = defaultdict(list)
    for place in at:
        for one in _each(fields[place].get(name)):
            found[_key(one)].append(place)
    return found


def _each(value: object) -> Iterator[object]:
    yield from value if isinstance(value, list) else [value]


def _key(value: object) -> object:
    """Python holds true and 1 for one value, JSON does not."""
    return (value,) if isinstance(value, bool) else value
