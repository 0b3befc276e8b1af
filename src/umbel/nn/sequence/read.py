"""Lists read entry by entry: the rows they name, all views at once, handed to a reader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from umbel.nn.bank import Part
from umbel.nn.sequence.sequence import Listing, Mean, SequenceEncoder, Shape


class Reader(nn.Module, ABC):
    """Turns entries into a summary, each list of each view with weights of its own.

    A batch is a view's list, views outermost; where `known` is false stands padding, whose entry is anything.
    """

    @abstractmethod
    def forward(
        self, entries: Float[Tensor, "batches rows length dim"], known: Bool[Tensor, "batches rows length"],
        target: Float[Tensor, "batches rows dim"],
    ) -> Float[Tensor, "batches rows dim"]:
        """One summary a row, zeros where nothing is known; `target` is what the list's target field holds, if it has one."""

    @abstractmethod
    def parts(self, view: int) -> tuple[Part, ...]:
        """The parameters that belong to a view."""


def of_lists(reader: Reader, view: int, count: int) -> tuple[Part, ...]:
    """One view's parts where every parameter has batches first, `count` lists a view."""
    own = (slice(view * count, (view + 1) * count),)
    return tuple(Part(name, own) for name, _ in reader.named_parameters())


MakeReader = Callable[[tuple[Listing, ...], Shape], Reader]


@final
class Read(SequenceEncoder):
    """Lists that `reads` picks go to a reader, the others are meant (`Mean`); what a list names is looked up entry by entry.

    The look-up takes `rows lists length views dim` numbers of memory, and its gradient as much again.
    """

    order: Tensor
    slots: Tensor
    padding: Tensor
    targets: Tensor
    spread: Tensor

    def __init__(self, lists: tuple[Listing, ...], shape: Shape, *, reads: Callable[[Listing], bool], make: MakeReader) -> None:
        super().__init__()
        self.views, self.dim = shape
        read, rest = [one for one in lists if reads(one)], [one for one in lists if not reads(one)]
        self.count, self.longest = len(read), max((one.length for one in read), default=0)
        self.mean = Mean(tuple(rest), shape) if rest else None
        self.reader = make(tuple(read), shape) if read else None
        slots = [[one.start + min(step, one.length - 1) for step in range(self.longest)] for one in read]
        padding = [[step >= one.length for step in range(self.longest)] for one in read]
        self.register_buffer("slots", torch.tensor(slots, dtype=torch.int64).flatten(), persistent=False)
        self.register_buffer("padding", torch.tensor(padding, dtype=torch.bool).view(self.count, 1, self.longest), persistent=False)
        self.register_buffer("targets", torch.tensor([one.target or 0 for one in read], dtype=torch.int64), persistent=False)
        self.register_buffer("spread", torch.arange(self.views, dtype=torch.int32).view(-1, 1, 1, 1), persistent=False)
        self.register_buffer("order", torch.tensor([[*read, *rest].index(one) for one in lists]), persistent=False)

    def forward(self, table: Float[Tensor, "all width"], place: Int[Tensor, "rows slots"]) -> Float[Tensor, "rows lists views dim"]:
        """Per list the reader's summary, or the mean."""
        found = [self._read(table, place)] if self.reader is not None else []
        found += [self.mean(table, place)] if self.mean is not None else []
        return torch.cat(found, 1).index_select(1, self.order) if len(found) > 1 else found[0]

    def parts(self, view: int) -> tuple[Part, ...]:
        """The reader's, for the lists of one view."""
        return tuple(part.under("reader") for part in self.reader.parts(view)) if self.reader is not None else ()

    def _read(self, table: Tensor, place: Tensor) -> Float[Tensor, "rows read views dim"]:
        assert self.reader is not None
        entry = place.index_select(1, self.slots).view(-1, self.count, self.longest).transpose(0, 1)
        entry = entry.masked_fill(self.padding, -1)
        known = (entry >= 0).expand(self.views, *entry.shape).flatten(0, 1)
        target = place.index_select(1, self.targets).t().unsqueeze(2)
        entries, targets = self._looked(table, entry), self._looked(table, target).squeeze(2)
        summary: Tensor = self.reader(entries, known, targets)
        return summary.view(self.views, self.count, -1, self.dim).permute(2, 1, 0, 3)

    def _looked(self, table: Tensor, place: Int[Tensor, "read rows length"]) -> Float[Tensor, "batches rows length dim"]:
        """Each view's piece of the table's rows; row 0 stands in for padding."""
        shape = (self.views * self.count, *place.shape[1:], self.dim)
        if not len(table):  # a batch that names nothing
            return table.new_zeros(shape)
        pieces = place.clamp(min=0).unsqueeze(0) * self.views + self.spread
        return table.view(-1, self.dim).index_select(0, pieces.flatten()).view(shape)
