"""Rows met before: what the views see of them and what weights made of that, row by row, until the first are dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear

from umbel.nn.pieced import Piece, Slices

FEWEST = 1024  # rows that there is room for from the first


@final
class Shelf:
    """Rows by number, in the order in which they came, with a view's columns side by side; room is made as it is needed.

    A product with a weight is computed when it is first asked for, and from then on as rows are put.
    """

    def __init__(self, columns: Int[Tensor, "own"], slices: Slices) -> None:
        self.columns, self.slices, self.count = columns, slices, 0
        self._seen = torch.empty(0)
        self._fields: dict[str, Tensor] = {}
        self._products: dict[tuple[tuple[int, ...], int], tuple[Tensor, Tensor]] = {}

    def put(self, seen: Float[Tensor, "rows views own"], fields: Mapping[str, Tensor]) -> Int[Tensor, "rows"]:
        """Add rows, with the fields that they are made of; their numbers."""
        start, self.count = self.count, self.count + len(seen)
        if self.count > len(self._seen):
            room = max(FEWEST, self.count, 2 * len(self._seen))
            self._seen = _grown(self._seen, seen, room)
            self._fields = {name: _grown(self._fields.get(name, one[:0]), one, room) for name, one in fields.items()}
            self._products = {key: (weight, _grown(made, made, room)) for key, (weight, made) in self._products.items()}
        own = slice(start, self.count)
        self._seen[own] = seen
        for name, one in fields.items():
            self._fields[name][own] = one
        for (views, _), (weight, made) in self._products.items():
            made[own] = self._product(views, weight, own)
        return torch.arange(start, self.count)

    def drop(self, rows: int) -> None:
        """Forget so many rows, those that came first; the numbers of the others fall by as many, and the room stays."""
        left = slice(rows, self.count)
        self.count -= rows
        for made in (self._seen, *self._fields.values(), *[made for _, made in self._products.values()]):
            made[: self.count] = made[left].clone()  # from where they are to where they go may overlap

    def seen(self, views: tuple[int, ...], numbers: Int[Tensor, "rows"]) -> Float[Tensor, "rows own"]:
        """What the sum of some views sees of those rows."""
        found = self._seen[:, views[0]].index_select(0, numbers)
        for view in views[1:]:
            found = found + self._seen[:, view].index_select(0, numbers)
        return found

    def every(self, numbers: Int[Tensor, "rows"]) -> Float[Tensor, "rows views own"]:
        """What each view sees of those rows."""
        return self._seen.index_select(0, numbers)

    def fields(self, numbers: Int[Tensor, "rows"]) -> dict[str, Tensor]:
        """The fields of those rows."""
        return {name: one.index_select(0, numbers) for name, one in self._fields.items()}

    def product(self, views: tuple[int, ...], weight: Tensor, numbers: Int[Tensor, "rows"]) -> Float[Tensor, "rows out"]:
        """`x W'` of those rows, x the sum of some views."""
        key = (views, id(weight))  # the weight is held, so that no other takes its identity
        if key not in self._products:
            made = torch.empty(len(self._seen), weight.shape[0])
            made[: self.count] = self._product(views, weight, slice(0, self.count))
            self._products[key] = (weight, made)
        return self._products[key][1].index_select(0, numbers)

    def _product(self, views: tuple[int, ...], weight: Tensor, own: slice) -> Float[Tensor, "rows out"]:
        x = self._seen[own, views[0]]
        for view in views[1:]:
            x = x + self._seen[own, view]
        return linear(x, self.slices(weight, self.columns))


@final
class Shelved(Piece):
    """Some rows of a shelf, as the sum of some views sees them."""

    def __init__(self, shelf: Shelf, views: tuple[int, ...], numbers: Int[Tensor, "rows"]) -> None:
        self.shelf, self.views, self.numbers, self.columns = shelf, views, numbers, shelf.columns

    def rows(self) -> Float[Tensor, "rows own"]:
        """Fetched."""
        return self.shelf.seen(self.views, self.numbers)

    def times(self, weight: Tensor) -> Float[Tensor, "rows out"]:
        """Fetched, once the rows have met that weight."""
        return self.shelf.product(self.views, weight, self.numbers)

    def plus(self, other: Piece) -> Piece:
        """The same rows in more views."""
        assert isinstance(other, Shelved)
        return Shelved(self.shelf, (*self.views, *other.views), self.numbers)


def _grown(old: Tensor, like: Tensor, room: int) -> Tensor:
    made = torch.empty(room, *like.shape[1:], dtype=like.dtype)
    if len(old):
        made[: len(old)] = old
    return made
