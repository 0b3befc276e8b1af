"""A stock as one bundle knows it, and the sources that bring candidates out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int

from umbel.serve.recommend.stock import Mask, Stock
from umbel.serve.served import Served

Places = Int[np.ndarray, "_"]


@dataclass(frozen=True, slots=True, eq=False)
class Visitor:
    """Whom candidates are for: the items of the user's latest events, the latest first."""

    recent: Sequence[str] = ()


@final
class Shelf:
    """The sources of one bundle over one stock: `popular` items, those that the bundle does not know (`new`), the latest written first.

    It never changes: other items, or another bundle, are another shelf.
    """

    def __init__(self, served: Served, stock: Stock) -> None:
        self.stock = stock
        codes, count = served.codes(stock.ids), served.popularity(stock.ids)
        met = np.flatnonzero(codes)
        self._popular: Places = met[np.argsort(-count[met], kind="stable")]
        unmet = np.flatnonzero(codes == 0)
        self._new: Places = unmet[np.argsort(-stock.times[unmet], kind="stable")]

    def found(self, whom: Visitor | None, among: Mask, most: int) -> dict[str, Places]:
        """What each source brings, its best first, at most `most` items; of nobody in particular without a visitor."""
        return {"popular": _first(self._popular, among, most), "new": _first(self._new, among, most)}


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
