"""Shelves of the bundles in service, kept to what the store knows of items."""

from __future__ import annotations

from collections.abc import Collection
from typing import final

from umbel.serve.known import OVERLAP
from umbel.serve.recommend.shelf import Shelf
from umbel.serve.recommend.stock import Stock
from umbel.serve.records import Known
from umbel.serve.served import Served
from umbel.serve.store.catalogue import Catalogue


@final
class Shelves:
    """A shelf a bundle, of the store's items; where the store has none, of those that the bundle met in training.

    The whole catalogue is held in memory. What any process writes is on the shelves after the next `refresh`, in one step a bundle.
    """

    def __init__(self, items: Catalogue, *, now: int) -> None:
        self._items, self._since = items, now - OVERLAP
        self._known: dict[str, Known] = {one.id: one for one in items.all()}
        self._stock = Stock(self._known.values())
        self._shelves: dict[str, Shelf] = {}

    def of(self, served: Served) -> Shelf:
        """The shelf of a bundle; put up now if it was not yet."""
        found = self._shelves.get(served.name)
        return found if found is not None else self.prepare(served)

    def prepare(self, served: Served) -> Shelf:
        """Put up the shelf of a bundle before it answers."""
        shelf = Shelf(served, self._stock if len(self._stock) else Stock(map(_trained, served.items)))
        self._shelves = {**self._shelves, served.name: shelf}
        return shelf

    def refresh(self, now: int, serving: Collection[Served]) -> None:
        """Follow what was written since the last time, and take down what serves no longer."""
        changed, deleted = self._items.changed(self._since)
        self._since = now - OVERLAP
        new = {one.id: one for one in changed if self._known.get(one.id) != one}
        gone = [one for one in deleted if one in self._known]
        if new or gone:
            known = {**self._known, **new}
            self._known = {one: kept for one, kept in known.items() if one not in set(gone)}
            self._stock = Stock(self._known.values())
            for served in serving:
                self.prepare(served)
        names = {served.name for served in serving}
        self._shelves = {name: shelf for name, shelf in self._shelves.items() if name in names}


def _trained(one: str) -> Known:
    return Known(id=one)
