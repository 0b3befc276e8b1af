"""What a store has of users and items and a bundle cannot read, told from what it can: it is read as missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import final

from umbel.errors import UserError
from umbel.serve.reader import Raw, Reader, names
from umbel.serve.recommend.vectors import Raws
from umbel.serve.records import Value

TRIES = 64  # of a column: beyond them, what has not been read yet is left out unread, so that no catalogue holds a service up


def legible(reader: Reader, rows: Sequence[Raw], told: Sequence[Collection[str | None]]) -> tuple[list[Raw], int]:
    """Rows without the values that cannot be read, alone or beside the others of their column, and how many those were.

    What of a row was `told` stays, readable or not. Of values of several types that do not go together the commonest stay.
    """
    raws, out = Raws(reader), set[tuple[int, str]]()
    for name in sorted(names(rows) & reader.columns):
        values = {place: value for place, row in enumerate(rows) if (value := row.get(name)) is not None}
        known = [place for place in values if name not in told[place]]
        out |= {(place, name) for place in _Column(raws, name, values).unread(known)}
    kept: list[Raw] = [{name: value for name, value in row.items() if (place, name) not in out} for place, row in enumerate(rows)]
    return kept, len(out)


@final
class _Column:
    """The values of one column, by the places of their rows."""

    def __init__(self, raws: Raws, name: str, values: Mapping[int, Value]) -> None:
        self._raws, self._name, self._values, self._left = raws, name, values, TRIES
        self._fields = [field for field, columns in raws.reads.items() if name in columns]

    def unread(self, known: Sequence[int]) -> set[int]:
        """Those of the known places whose values cannot be read beside the others."""
        if not known or self._read(list(self._values)):
            return set()
        beside = [places[0] for places in self._by_type(set(self._values) - set(known))]
        good: set[int] = set()
        for places in sorted(self._by_type(known), key=len, reverse=True):
            if found := self._good(places, beside):
                good |= set(found)
                beside = [*beside, found[0]]
        return set(known) - good

    def _by_type(self, places: Collection[int]) -> list[list[int]]:
        found: dict[object, list[int]] = {}
        for place in sorted(places):
            value = self._values[place]
            inside = frozenset(map(type, value)) if isinstance(value, list) else frozenset()
            found.setdefault((type(value), inside), []).append(place)
        return list(found.values())

    def _good(self, places: list[int], beside: list[int]) -> list[int]:
        """Those of the places that can be read beside others: halves, until one is alone that cannot be."""
        if self._left <= 0:
            return []
        if self._read([*beside, *places]):
            return places
        middle = len(places) // 2
        return [one for half in (places[:middle], places[middle:]) for one in self._good(half, beside)] if middle else []

    def _read(self, places: Sequence[int]) -> bool:
        self._left -= 1
        try:
            self._raws.fields([{self._name: self._values[place]} for place in places], self._fields)
        except UserError:
            return False
        return True
