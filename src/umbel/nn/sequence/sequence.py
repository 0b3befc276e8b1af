"""How a list of values becomes one embedding a view: what every sequence encoder keeps, and the mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from umbel.errors import UserError
from umbel.nn.bank import Part
from umbel.nn.pool import mean_rows
from umbel.schema import FieldKind, Schema

Shape = tuple[int, int]  # views, dim


@dataclass(frozen=True, slots=True)
class SequenceSizes:
    """How large a sequence encoder is; each reads the numbers that it has a use for.

    `hidden` is the width of the unit that weighs an entry (din). `layers` counts blocks (sasrec), `heads` divide `dim` (sasrec).

    :raises UserError: for a number below 1.
    """

    hidden: int = 16
    layers: int = 1
    heads: int = 1

    def __post_init__(self) -> None:
        for name, number in (("hidden", self.hidden), ("layers", self.layers), ("heads", self.heads)):
            if number < 1:
                raise UserError(f"model.sequence_sizes.{name} = {number}", mend="give 1 or more")


@dataclass(frozen=True, slots=True)
class Listing:
    """Where one list stands among the slots: its first one, its length, its target's slot if it has one, and if order means anything."""

    name: str
    start: int
    length: int
    target: int | None
    ordered: bool


def listings(schema: Schema) -> tuple[Listing, ...]:
    """The lists of a schema, in its order; a target of several values is none.

    Example
    -------
    >>> from umbel.schema import Field, Task
    >>> item, seen = Field("item", FieldKind.ID), Field("seen", FieldKind.SEQUENCE, like="item", target="item", length=3)
    >>> listings(Schema((item, seen), (Task("click"),)))
    (Listing(name='seen', start=1, length=3, target=0, ordered=True),)
    """
    coded = [field for field in schema.fields if field.coded]
    starts = dict(zip([field.name for field in coded], accumulate([field.size for field in coded], initial=0), strict=False))
    singles = {field.name: starts[field.name] for field in coded if not field.many}
    return tuple(
        Listing(field.name, starts[field.name], field.length, singles.get(field.target or ""), field.kind is FieldKind.SEQUENCE)
        for field in coded if field.many
    )  # fmt: skip


class SequenceEncoder(nn.Module, ABC):
    """Turns each list of each row into `dim` numbers a view, with weights per view and list: no view sees another.

    Padding (-1), wherever it stands, changes nothing, and a list that holds nothing gives zeros.
    """

    @abstractmethod
    def forward(self, table: Float[Tensor, "all width"], place: Int[Tensor, "rows slots"]) -> Float[Tensor, "rows lists views dim"]:
        """From the table (views side by side) and the places of all slots, -1 for padding."""

    @abstractmethod
    def parts(self, view: int) -> tuple[Part, ...]:
        """The parameters that belong to a view."""


MakeSequence = Callable[[tuple[Listing, ...], Shape], SequenceEncoder]


@final
class Mean(SequenceEncoder):
    """The mean of a list's entries, without a tensor of all of them; order and candidate are not looked at."""

    slots: Tensor

    def __init__(self, lists: tuple[Listing, ...], shape: Shape) -> None:
        super().__init__()
        self.shape, self.lengths = shape, tuple(one.length for one in lists)
        slots = [slot for one in lists for slot in range(one.start, one.start + one.length)]
        self.register_buffer("slots", torch.tensor(slots, dtype=torch.int64), persistent=False)

    def forward(self, table: Float[Tensor, "all width"], place: Int[Tensor, "rows slots"]) -> Float[Tensor, "rows lists views dim"]:
        """Per list the mean of the table's rows."""
        means = mean_rows(table, place.index_select(1, self.slots), self.lengths)
        return means.view(place.shape[0], len(self.lengths), *self.shape)

    def parts(self, view: int) -> tuple[Part, ...]:
        """None."""
        return ()
