"""The items whose vectors have the greatest products with one: exactly, or by an index of faiss where there are very many."""

from __future__ import annotations

import copy
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64

EXACT = 200_000  # items up to which all are looked at
LOOKED = 8       # of the cells of an index of faiss, the share that is looked at is one in so many, and
FEWEST = 16      # no fewer cells than these
SAMPLE = 64      # vectors a cell that cells are made from,
ROUNDS = 10      # in so many rounds of k-means,
ANEW = 5         # and made anew when one vector in so many has come or gone
Vectors = Float32[np.ndarray, "items width"]
Vector = Float32[np.ndarray, "width"]
Mask = Bool[np.ndarray, "items"]
Places = Int64[np.ndarray, "_"]
Was = Int64[np.ndarray, "items"]


@runtime_checkable
class Index(Protocol):
    """Finds items by vector."""

    def nearest(self, vector: Vector, among: Mask, most: int) -> Places:
        """The places of at most `most` items of a mask, by falling product with the vector."""
        ...

    def changed(self, vectors: Vectors, was: Was) -> Index:
        """The index of other vectors; `was` says where those stood here that are the same, -1 of the others."""
        ...


@final
class Exact:
    """Looks at every item; of equal products the first place comes first.

    Example
    -------
    >>> exact = Exact(np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32))
    >>> exact.nearest(np.array([0.0, 1.0], np.float32), np.array([True, False, True]), 5).tolist()
    [2, 0]
    """

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors

    def nearest(self, vector: Vector, among: Mask, most: int) -> Places:
        """All products, of which those of the mask are sorted as far as they are wanted."""
        products = np.where(among, self.vectors @ vector, -np.inf)
        least = np.partition(products, -most)[-most] if most < len(products) else -np.inf
        places = np.flatnonzero((products >= least) & among)
        return places[np.argsort(-products[places], kind="stable")][:most]

    def changed(self, vectors: Vectors, was: Was) -> Index:
        """A new one: there is nothing to keep."""
        return index(vectors)


@final
class Cells:
    """Looks at the items in the cells of vectors that are nearest (faiss's inverted file); with `looked` cells of all, at all items.

    As many cells as the root of the items, made of a sample of them in ten rounds; an eighth of them is looked at. What is new after a
    change is put into the cells there are, under a number of its own, and what has gone stays in them under one that no search may find;
    cells are made anew once a fifth of their vectors has gone or come.
    """

    def __init__(self, vectors: Vectors, *, cells: int | None = None, looked: int | None = None) -> None:
        faiss = self._faiss = _faiss()
        count = min(cells or int(np.sqrt(len(vectors))), len(vectors))
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], count, faiss.METRIC_INNER_PRODUCT)
        sample = np.random.default_rng(0).permutation(len(vectors))[: SAMPLE * count]
        self._index.cp.min_points_per_centroid, self._index.cp.niter = 1, ROUNDS
        self._index.train(vectors[sample])
        self._index.add(np.ascontiguousarray(vectors))
        self._looked = looked or max(min(FEWEST, count), count // LOOKED)
        self._first, self._numbers = len(vectors), np.arange(len(vectors))  # vectors at first; the number of each place in the cells

    def nearest(self, vector: Vector, among: Mask, most: int) -> Places:
        """The nearest of the mask inside the cells looked at, which may be fewer than there are."""
        chosen, numbers = np.zeros(self._index.ntotal, bool), self._numbers[among]
        chosen[numbers] = True
        own = self._faiss.IDSelectorBitmap(np.packbits(chosen, bitorder="little"))
        parameters = self._faiss.SearchParametersIVF(sel=own, nprobe=self._looked)
        _, found = self._index.search(vector[None], most, params=parameters)
        placed = np.empty(self._index.ntotal, np.int64)
        placed[numbers] = np.flatnonzero(among)
        places: Places = placed[found[0][found[0] >= 0]]
        return places

    def changed(self, vectors: Vectors, was: Was) -> Index:
        """A copy with what is new put in: the cells themselves may be being looked at."""
        fresh = was < 0
        total = self._index.ntotal + int(fresh.sum())
        if len(vectors) <= EXACT or total - self._first + total - len(vectors) > self._first // ANEW:
            return index(vectors)
        found = copy.copy(self)
        found._index = self._faiss.clone_index(self._index)
        found._index.add(np.ascontiguousarray(vectors[fresh]))
        found._numbers = np.where(fresh, np.cumsum(fresh) - 1 + self._index.ntotal, self._numbers[was])
        return found


def _faiss() -> Any:  # noqa: ANN401
    """The library: imported where it is used, and without types that all its releases share."""
    return import_module("faiss")


def index(vectors: Vectors) -> Index:
    """Exact up to 200,000 items, by cells beyond that where faiss is installed (`umbel[retrieve]`), and exact where it is not."""
    return Cells(vectors) if len(vectors) > EXACT and find_spec("faiss") is not None else Exact(vectors)
