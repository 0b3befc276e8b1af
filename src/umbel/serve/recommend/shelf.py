"""A stock as one bundle knows it, and the sources that bring candidates out of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int, Int64

from umbel.retrieve.index import index
from umbel.retrieve.queries import RECENT, placed
from umbel.serve.reader import Raw
from umbel.serve.recommend.stock import Mask, Stock
from umbel.serve.recommend.vectors import Raws, Vectors
from umbel.serve.served import Served

LOG = logging.getLogger("umbel.serve")
Places = Int[np.ndarray, "_"]


@dataclass(frozen=True, slots=True, eq=False)
class Visitor:
    """Whom candidates are for: the fields of user and context, and the items of the user's latest events, the latest first."""

    shared: Raw
    recent: Sequence[str] = ()


@final
class Shelf:
    """The sources of one bundle over one stock.

    `popular` are the items with the most positives in training (of a bundle without retrieval, rows), `new` those that the bundle does not
    know, the latest written first; to a visitor `nearest` are those whose vectors have the greatest product with the visitor's,
    `similar` those that go together with the visitor's latest. It never changes: other items, or another bundle, are another shelf.
    `shown` are the items that are not hidden and whose attributes the bundle can read: one that it cannot would fail every request.
    """

    def __init__(self, served: Served, stock: Stock) -> None:
        self.stock, raws = stock, Raws(served.reader)
        readable = raws.readable(stock.fields)
        self.shown: Mask = stock.shown & readable
        if not readable.all():
            unread = [one for one, holds in zip(stock.ids, readable, strict=True) if not holds]
            LOG.warning("%s items are not shown, since the bundle cannot read their attributes: %s ...", len(unread), unread[:3])
        codes, rows = served.codes(stock.ids), served.popularity(stock.ids)
        retrieval = served.bundle.retrieval
        self._near = None if retrieval is None else _Near(Vectors(raws, retrieval), stock, codes, readable=readable)
        positives = np.zeros_like(rows) if self._near is None else self._near.positives
        met, unmet = np.flatnonzero(rows), np.flatnonzero(rows == 0)
        self._popular: Places = met[np.lexsort((-rows[met], -positives[met]))]
        self._new: Places = unmet[np.argsort(-stock.times[unmet], kind="stable")]

    def found(self, whom: Visitor | None, among: Mask, most: int) -> dict[str, Places]:
        """What each source brings, its best first, at most `most` items; to nobody in particular without a visitor.

        :raises UserError: for a field of the visitor's that cannot be read.
        """
        own = {} if whom is None or self._near is None else self._near.found(whom, among, most)
        return {**own, "popular": _first(self._popular, among, most), "new": _first(self._new, among, most)}


@final
class _Near:
    """The sources that a bundle's retrieval gives: vectors of items that it knows are its own, of others those of their attributes."""

    def __init__(self, vectors: Vectors, stock: Stock, codes: Int[np.ndarray, "items"], *, readable: Mask) -> None:
        retrieval = self._retrieval = vectors.retrieval
        self._vectors, self._stock = vectors, stock
        self._place = placed(codes, retrieval.codes)
        known, new = np.flatnonzero(self._place >= 0), np.flatnonzero(self._place < 0)
        self.positives: Int64[np.ndarray, "items"] = np.zeros(len(codes), np.int64)
        self.positives[known] = retrieval.positives[self._place[known]]
        every = np.empty((len(codes), retrieval.sizes.width), np.float32)
        every[known] = retrieval.vectors[self._place[known]]
        if len(new):
            every[new] = vectors.items([stock.fields[place] if readable[place] else {} for place in new.tolist()])
        self._index = index(every)

    def found(self, whom: Visitor, among: Mask, most: int) -> dict[str, Places]:
        nearest = self._index.nearest(self._vectors.user(whom.shared), among, most)
        return {"nearest": nearest, "similar": self._similar(whom.recent, among, most)}

    def _similar(self, recent: Sequence[str], among: Mask, most: int) -> Places:
        places = [self._place[self._stock.places[one]] for one in recent if one in self._stock.places][:RECENT]
        known = np.array([place for place in places if place >= 0], np.int64)
        scores = np.append(self._retrieval.neighbours.scores(known), 0.0)[self._place]  # of an item that is not known, the last
        liked = np.flatnonzero((scores > 0) & among)
        found: Places = liked[np.argsort(-scores[liked], kind="stable")][:most]
        return found


def united(found: Mapping[str, Places], most: int) -> dict[int, list[str]]:
    """The places that any source brought, each once with all its sources: the first of every source, then the second, to `most` in all.

    Example
    -------
    >>> united({"popular": np.array([4, 2, 7]), "new": np.array([2, 9])}, 3)
    {4: ['popular'], 2: ['new', 'popular'], 9: ['new']}
    """
    united: dict[int, list[str]] = {}
    for rank in range(max(map(len, found.values()), default=0)):
        for name, places in found.items():
            if rank < len(places) and ((place := int(places[rank])) in united or len(united) < most):
                united.setdefault(place, []).append(name)
    return united


def _first(order: Places, among: Mask, most: int) -> Places:
    found: Places = order[among[order]][:most]
    return found
