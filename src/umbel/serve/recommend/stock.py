"""The items of a catalogue at one moment: who they are, what is known of them, and which of them rules leave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import final

import numpy as np
from jaxtyping import Bool, Int64

from umbel.serve.reader import names
from umbel.serve.records import Known, Value, wrong_id

HIDDEN = "hidden"  # the attribute of items that are never shown
Rule = Mapping[str, object]  # of an attribute: the value, or a list of those, that it may have
Mask = Bool[np.ndarray, "items"]


@final
class Stock:
    """Items in an order that does not change, numbered by their places in it.

    Example
    -------
    >>> stock = Stock([Known(id="a", fields={"genre": ["war", "love"]}), Known(id="b", fields={"genre": "war", "hidden": True})])
    >>> stock.having({"genre": "war"}).tolist(), stock.having({"genre": ["love", "art"]}).tolist(), stock.shown.tolist()
    ([True, True], [True, False], [True, False])
    """

    def __init__(self, known: Iterable[Known]) -> None:
        usable = [one for one in known if wrong_id(one.id) is None]
        self.ids: tuple[str, ...] = tuple(one.id for one in usable)
        self.fields: Sequence[Mapping[str, Value]] = [one.fields for one in usable]
        self.times: Int64[np.ndarray, "items"] = np.array([one.time for one in usable], np.int64)
        self.places = {one: place for place, one in enumerate(self.ids)}
        self.shown: Mask = np.array([one.get(HIDDEN) is not True for one in self.fields], bool)
        self._names = names(self.fields)
        self._by: dict[str, dict[object, list[int]]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def having(self, rules: Rule) -> Mask:
        """The items of which every attribute named is what its rule wants."""
        found = np.ones(len(self), bool)
        for name, wanted in rules.items():
            found &= self._any(name, wanted)
        return found

    def lacking(self, rules: Rule) -> Mask:
        """The items of which no attribute named is what its rule says."""
        found = np.ones(len(self), bool)
        for name, wanted in rules.items():
            found &= ~self._any(name, wanted)
        return found

    def without(self, ids: Iterable[str]) -> Mask:
        """All items but these."""
        found = np.ones(len(self), bool)
        found[[self.places[one] for one in ids if one in self.places]] = False
        return found

    def _any(self, name: str, wanted: object) -> Mask:
        found, by = np.zeros(len(self), bool), self._values(name)
        for value in wanted if isinstance(wanted, list) else [wanted]:
            found[by.get(_key(value), [])] = True
        return found

    def _values(self, name: str) -> dict[object, list[int]]:
        """Where each value of an attribute stands; worked out when it is first asked for, and for no name that no item has."""
        if name not in self._names:
            return {}
        if name not in self._by:
            by: dict[object, list[int]] = defaultdict(list)
            for place, fields in enumerate(self.fields):
                value = fields.get(name)
                for one in value if isinstance(value, list) else [value]:
                    by[_key(one)].append(place)
            self._by[name] = dict(by)
        return self._by[name]


def _key(value: object) -> object:
    """Python holds true and 1 for one value, JSON does not."""
    return (value,) if isinstance(value, bool) else value
