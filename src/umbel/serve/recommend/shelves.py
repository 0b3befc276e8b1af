"""Shelves of the bundles in service, kept to what the store knows of items."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from threading import Lock
from typing import final

from umbel.serve.recommend.shelf import Shelf
from umbel.serve.recommend.stock import Stock
from umbel.serve.records import Known
from umbel.serve.served import Served
from umbel.serve.store.catalogue import Catalogue


@final
class Shelves:
    """A shelf a bundle, of the store's items; where the store has none, of those that the bundle met in training.

    The whole catalogue is held in memory. What `follow` is told is on the shelves afterwards, in one step for all bundles; a shelf may be
    put up meanwhile by another thread.
    """

    def __init__(self, items: Catalogue) -> None:
        self._stock, self._lock = Stock.of(items.all()), Lock()
        self._shelves: dict[str, Shelf] = {}

    def of(self, served: Served) -> Shelf:
        """The shelf of a bundle; put up now if it was not yet."""
        found = self._shelves.get(served.name)
        if found is None:
            stock = self._stock
            found = _new(served, stock)
            with self._lock:
                if stock is not self._stock:  # what was written meanwhile would be missing
                    found = _new(served, self._stock)
                self._shelves = {**self._shelves, served.name: found}
        return found

    def follow(self, written: Iterable[Known], deleted: Collection[str], serving: Iterable[Served]) -> None:
        """Put on what was written, take off what was deleted, and take down the shelves of what serves no longer."""
        with self._lock:
            self._follow(written, deleted, serving)

    def _follow(self, written: Iterable[Known], deleted: Collection[str], serving: Iterable[Served]) -> None:
        before = self._stock
        stock, was = before.changed(written, deleted)
        shelves = {served.name: (served, shelf) for served in serving if (shelf := self._shelves.get(served.name)) is not None}
        if stock is not before:
            for name, (served, shelf) in shelves.items():
                of_store = shelf.stock is before and len(stock)  # else it is of what the bundle met in training, or shall be
                shelves[name] = served, Shelf(served, stock, before=shelf, was=was) if of_store else _new(served, stock)
        self._stock, self._shelves = stock, {name: shelf for name, (_, shelf) in shelves.items()}


def _new(served: Served, stock: Stock) -> Shelf:
    return Shelf(served, stock if len(stock) else Stock.of(map(_trained, served.items)))


def _trained(one: str) -> Known:
    return Known(id=one)
