"""A stock as one bundle knows it, and the sources that bring candidates out of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float32, Int, Int64

from umbel.retrieve.index import Index, index
from umbel.retrieve.queries import RECENT, placed
from umbel.serve.reader import Raw
from umbel.serve.recommend.forms import Forms
from umbel.serve.recommend.stock import Mask, Stock, Was, renewed
from umbel.serve.recommend.vectors import Raws, Vectors
from umbel.serve.served import Served

LOG = logging.getLogger("umbel.serve")
Places = Int[np.ndarray, "_"]


@dataclass(frozen=True, slots=True, eq=False)
class Visitor:
    """Whom candidates are for: the fields of user and context, and the items of the user's latest events, the latest first."""

    shared: Raw
    recent: Sequence[str] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """What a bundle makes of each item: in which forms it can be read, its code, and the rows of training that had it."""

    forms: Forms
    codes: Int[np.ndarray, "items"]
    rows: Int[np.ndarray, "items"]

    def changed(self, was: Was, new: _Read) -> _Read:
        """The same of a stock after this one."""
        return _Read(self.forms.changed(was, new.forms), renewed(self.codes, was, new.codes), renewed(self.rows, was, new.rows))


@final
class Shelf:
    """The sources of one bundle over one stock.

    `popular` are the items with the most positives in training (of a bundle without retrieval, rows), `new` those that the bundle does not
    know, the latest written first; to a visitor `nearest` are those whose vectors have the greatest product with the visitor's,
    `similar` those that go together with the visitor's latest. It never changes: other items, or another bundle, are another shelf; one
    that is made after `before`, out of which `was` says where items stood, encodes only what is new or has changed. `shown` are the
    items that are not hidden and whose attributes the bundle can read: one that it cannot would fail every request.
    """

    def __init__(self, served: Served, stock: Stock, *, before: Shelf | None = None, was: Was | None = None) -> None:
        self.stock, raws = stock, Raws(served.reader)
        stood = np.full(len(stock), -1, np.int64) if was is None else was
        fresh = np.flatnonzero(stood < 0).tolist()
        ids, forms = [stock.ids[place] for place in fresh], raws.forms([stock.fields[place] for place in fresh])
        new = _Read(forms, served.codes(ids), served.popularity(ids))
        self._read: _Read = new if before is None else before._read.changed(stood, new)
        read, readable = self._read, self._read.forms.readable
        self.shown: Mask = stock.shown & readable
        if unread := [one for one, place in zip(ids, fresh, strict=True) if not readable[place]]:
            LOG.warning("%s items are not shown, since the bundle cannot read their attributes: %s ...", len(unread), unread[:3])
        retrieval = served.bundle.retrieval
        earlier = None if before is None or before._near is None else (before._near, stood)
        self._near: _Near | None = None
        if retrieval is not None:
            self._near = _Near(Vectors(raws, retrieval), stock, codes=read.codes, readable=readable, earlier=earlier)
        positives = np.zeros_like(read.rows) if self._near is None else self._near.positives
        met, unmet = np.flatnonzero(read.rows), np.flatnonzero(read.rows == 0)
        self._popular: Places = met[np.lexsort((-read.rows[met], -positives[met]))]
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

    def __init__(
        self, vectors: Vectors, stock: Stock, *, codes: Int[np.ndarray, "items"], readable: Mask, earlier: tuple[_Near, Was] | None,
    ) -> None:
        retrieval = self._retrieval = vectors.retrieval
        self._vectors, self._stock, self._readable = vectors, stock, readable
        self._place = placed(codes, retrieval.codes)
        known = np.flatnonzero(self._place >= 0)
        self.positives: Int64[np.ndarray, "items"] = np.zeros(len(codes), np.int64)
        self.positives[known] = retrieval.positives[self._place[known]]
        same, every = np.full(len(codes), -1, np.int64), np.empty((len(codes), retrieval.sizes.width), np.float32)
        if earlier is not None:
            before, was = earlier
            # What else is in the store may change which form of a column is read, and so an item that itself stays.
            same = np.where((was >= 0) & (before._readable[was] == readable), was, -1)
            every[same >= 0] = before._every[same[same >= 0]]
        every[known] = retrieval.vectors[self._place[known]]
        if anew := np.flatnonzero((same < 0) & (self._place < 0)).tolist():
            every[anew] = vectors.items([stock.fields[place] if readable[place] else {} for place in anew])
        self._every: Float32[np.ndarray, "items width"] = every
        self._index: Index = index(every) if earlier is None else earlier[0]._index.changed(every, same)

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
