"""The items of a catalogue at one moment: who they are, what is known of them, and which of them rules leave."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, final

import numpy as np
from jaxtyping import Bool, Int64

from umbel.serve.reader import names
from umbel.serve.recommend.values import Values
from umbel.serve.records import Known, Value, wrong_id

HIDDEN = "hidden"  # the attribute of items that are never shown
Rule = Mapping[str, object]  # of an attribute: the value, or a list of those, that it may have
Mask = Bool[np.ndarray, "items"]
Was = Int64[np.ndarray, "items"]  # where each item stood in an earlier stock; -1 for what is new there, or has changed since
Kept = TypeVar("Kept", bound=np.ndarray)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Stock:
    """Items in an order that does not change, numbered by their places in it; made `of` what is known, or out of an earlier one.

    Example
    -------
    >>> stock = Stock.of([Known(id="a", fields={"genre": ["war", "love"]}), Known(id="b", fields={"genre": "war", "hidden": True})])
    >>> stock.having({"genre": "war"}).tolist(), stock.having({"genre": ["love", "art"]}).tolist(), stock.shown.tolist()
    ([True, True], [True, False], [True, False])
    """

    ids: tuple[str, ...]
    fields: Sequence[Mapping[str, Value]]
    times: Int64[np.ndarray, "items"]
    shown: Mask
    places: Mapping[str, int]
    names: frozenset[str]  # of attributes that any of them has, or had
    _by: dict[str, Values] = field(default_factory=dict)

    @staticmethod
    def of(known: Iterable[Known]) -> Stock:
        """Those whose ids a request may name."""
        usable = [one for one in known if wrong_id(one.id) is None]
        fields, times = [one.fields for one in usable], np.array([one.time for one in usable], np.int64)
        places = {one.id: place for place, one in enumerate(usable)}
        return Stock(tuple(places), fields, times, _open(fields), places, names(fields))

    def __len__(self) -> int:
        return len(self.ids)

    def changed(self, written: Iterable[Known], deleted: Collection[str]) -> tuple[Stock, Was]:
        """The stock after some items were written and others deleted; nothing is done again for those that stay as they were.

        What changes keeps its place, what is new stands behind all others. The stock itself is given back if nothing is new in it.
        """
        new = {one.id: one for one in written if not self._has(one) and wrong_id(one.id) is None}
        out = sorted(self.places[one] for one in set(deleted) if one in self.places and one not in new)
        if not new and not out:
            return self, np.arange(len(self))
        added = [one for name, one in new.items() if name not in self.places]
        stay = np.delete(np.arange(len(self)), out)
        was = np.concatenate([stay, np.full(len(added), -1, np.int64)])
        ids, fields, times = list(self.ids), list(self.fields), np.append(self.times[stay], [one.time for one in added]).astype(np.int64)
        for place in reversed(out):
            del ids[place], fields[place]
        ids += [one.id for one in added]
        fields += [one.fields for one in added]
        places = {one: place for place, one in enumerate(ids)} if out else self._with(added)
        at = {places[name]: one for name, one in new.items()}
        for place, one in at.items():
            fields[place], times[place], was[place] = one.fields, one.time, -1
        shown = renewed(self.shown, was, _open([fields[place] for place in sorted(at)]))
        known = self.names | names(one.fields for one in at.values())
        by = {} if out else {name: one.changed(name, list(at), before=self.fields, now=fields) for name, one in self._by.copy().items()}
        return Stock(tuple(ids), fields, times, shown, places, known, by), was

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

    def _has(self, one: Known) -> bool:
        place = self.places.get(one.id)
        return place is not None and int(self.times[place]) == one.time and self.fields[place] == one.fields

    def _with(self, added: Sequence[Known]) -> Mapping[str, int]:
        return {**self.places, **{one.id: len(self) + at for at, one in enumerate(added)}} if added else self.places

    def _any(self, name: str, wanted: object) -> Mask:
        found = np.zeros(len(self), bool)
        if name not in self.names:
            return found
        if name not in self._by:  # worked out when it is first asked for
            self._by[name] = Values.of(name, self.fields)
        found[self._by[name].places(wanted)] = True
        return found


def renewed(before: Kept, was: Was, new: Kept) -> Kept:
    """What was known of the items that stay, in their new places, and in the places of the others what is new, in their order.

    Example
    -------
    >>> renewed(np.array([5, 6, 7]), np.array([0, -1, 2, -1]), np.array([8, 9])).tolist()
    [5, 8, 7, 9]
    """
    found, stay = np.empty((len(was), *new.shape[1:]), new.dtype), was >= 0
    found[stay] = before[was[stay]]
    found[~stay] = new
    return found  # type: ignore[return-value]


def _open(fields: Iterable[Mapping[str, Value]]) -> Mask:
    return np.array([one.get(HIDDEN) is not True for one in fields], bool)
