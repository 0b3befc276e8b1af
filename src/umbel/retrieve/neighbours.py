"""Item to item: which items the same users liked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32, Int, Int32

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

LONGEST = 500  # positives of a user that count, the latest: one user's pairs grow with their square
BLOCK = 2_048  # items looked at at a time


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The likest items of each, the likest first: their places (-1 where there are no more) and how alike."""

    places: Int32[np.ndarray, "items most"]
    likeness: Float32[np.ndarray, "items most"]

    def scores(self, recent: Int[np.ndarray, "recent"]) -> Float[np.ndarray, "items"]:
        """How alike each item is to some, summed over those."""
        found = np.zeros(len(self.places) + 1)  # the last place takes what is padding
        np.add.at(found, self.places[recent].ravel(), self.likeness[recent].ravel())
        return found[:-1]


def neighbours(
    user: Int[np.ndarray, "positives"], item: Int[np.ndarray, "positives"], items: int, *, most: int = 100, shrink: float = 10.0,
) -> Neighbours:
    """`s_ij = c_ij / (sqrt(c_i c_j) + shrink)`: c_ij users liked both, c_i and c_j either; without a user in common none.

    The cosine of two columns of the matrix of users and items, shrunk where it rests on few users (Sarwar et al., WWW 2001,
    https://doi.org/10.1145/371920.372071, have the cosine). `item` are places from 0. A user's item counts once, and of a user no more
    than the `LONGEST` latest positives, which come last.

    Example
    -------
    >>> found = neighbours(np.array([1, 1, 2, 2]), np.array([0, 1, 0, 2]), 3, most=2, shrink=0.0)
    >>> found.places.tolist(), found.likeness[0].round(3)
    ([[1, 2], [0, -1], [0, -1]], array([0.707, 0.707], dtype=float32))
    """
    liked = _matrix(user, item, items)
    count = np.asarray(liked.sum(axis=0)).ravel()
    places, likeness = np.full((items, most), -1, np.int32), np.zeros((items, most), np.float32)
    for start in range(0, items, BLOCK):
        both = (liked[:, start : start + BLOCK].T @ liked).tocoo()
        apart = both.row + start != both.col
        row, other = both.row[apart] + start, both.col[apart]
        alike = both.data[apart] / (np.sqrt(count[row] * count[other]) + shrink)
        order = np.lexsort((other, -alike, row))
        row, other, alike = row[order], other[order], alike[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        kept = rank < most
        places[row[kept], rank[kept]], likeness[row[kept], rank[kept]] = other[kept], alike[kept]
    return Neighbours(places, likeness)


def _matrix(user: Int[np.ndarray, "positives"], item: Int[np.ndarray, "positives"], items: int) -> csr_matrix:
    """Users by items, 1 where a user's latest positives have the item."""
    from scipy.sparse import csr_matrix

    order = np.argsort(user, kind="stable")
    _, code, count = np.unique(user[order], return_inverse=True, return_counts=True)
    left = np.repeat(np.cumsum(count), count) - np.arange(len(order))  # of the user, from this one on
    late = left <= LONGEST
    held = csr_matrix((np.ones(int(late.sum())), (code[late], item[order][late])), shape=(len(count), items))
    held.data[:] = 1.0
    return held
