"""A table shared out among processes: each holds some of its rows, and the others ask it for them."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar, final, runtime_checkable

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn.utils import get_total_norm

from umbel.learn.held import Held, Touched
from umbel.learn.processes import every, is_first, summed, told
from umbel.nn.encode import SPREAD
from umbel.nn.holder import Holder
from umbel.nn.views import distinct

BLOCK = 1 << 16  # rows that pass through a process at a time; 16 divides it, so that blocks are drawn as one table would be
Some = TypeVar("Some")


@runtime_checkable
class Rows(Protocol):
    """Rows in a file."""

    def get_shape(self) -> list[int]:
        """How many, and how wide."""
        ...

    def __getitem__(self, some: slice) -> Tensor:
        """Some of them."""
        ...


@final
class Shards(Holder, Held):
    """Row i of the table is held by process `i mod N` of the group, which has it as its row `i div N`; without a group there is one.

    So frequent ids, which come first in every vocabulary, are everybody's alike. A step asks the owners for the rows that its part of
    the batch touches, each once, and sends them their gradients; an owner adds those up in the order of the ranks and updates its rows,
    with the optimiser's moments beside them. From each to each go how many ids, ids, rows and gradients; to all, the square of a norm.
    """

    def __init__(self, group: ProcessGroup | None) -> None:
        self.group = group
        self.rank, self.world = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
        self.leads = False  # the others wait for what this process asks

    def drawn(self, rows: int, width: int) -> Float[Tensor, "held width"]:
        """Those held here of the same numbers that one process draws; every process draws them all, a block at a time."""
        held, at = torch.empty(len(range(self.rank, rows, self.world)), width), 0
        for start, stop in _blocks(rows):
            own = nn.init.normal_(torch.empty(stop - start, width), std=SPREAD)[(self.rank - start) % self.world :: self.world]
            held[at : at + len(own)] = own
            at += len(own)
        return held

    def looked(self, table: Float[Tensor, "held width"], place: Int[Tensor, "rows slots"]) -> dict[str, Tensor]:
        """What the owners answer; every process of the group looks up at once, or waits in `answered`.

        Beside table and place: `asked`, the rows that were asked of this process, `sizes`, on the CPU, how many it asked each process
        for and each process it, and `held`, its rows.
        """
        if self.leads:
            told(self.group, True)
        return self._looked(table, place)

    def whole(self, table: Float[Tensor, "held width"], *, rows: int, folder: Path) -> Float[Tensor, "all width"]:
        """In a file of no name, so that no more of it is in memory than the system likes."""
        width = table.shape[1]
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            if sys.platform == "linux":  # else a disk that is full is found out where no error can be raised
                os.posix_fallocate(file.fileno(), 0, max(1, rows * width * table.element_size()))
            every = torch.from_file(file.name, shared=True, size=rows * width, dtype=table.dtype).view(rows, width)
        for start, stop in _blocks(rows):
            found = self.looked(table, torch.arange(start, stop, device=table.device)[:, None])
            every[start:stop] = found["table"].index_select(0, found["place"].flatten())
        return every

    @contextmanager
    def answered(self, table: Float[Tensor, "held width"]) -> Iterator[None]:
        """The first has the block, and may look up in it alone; the others answer, and go on when it has left it."""
        if is_first(self.group):
            self.leads = True
            try:
                yield
            finally:
                self.leads = False
                told(self.group, False)
        else:
            while told(self.group, False):
                self._looked(table, torch.empty(0, 1, dtype=torch.int64, device=table.device))
            yield

    def leaves(self, rows: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Touched]:
        """Had from their owners, who get their gradients."""
        leaf = rows["table"].requires_grad_()
        return {"table": leaf, "place": rows["place"]}, partial(self._touched, leaf, rows)

    def norm(self, dense: Sequence[Tensor], rows: Sequence[Tensor]) -> Float[Tensor, ""]:
        """Every row is in one process, and so is its gradient."""
        own = get_total_norm(dense)
        square = get_total_norm(rows).square()
        if self.group is not None:
            dist.all_reduce(square, group=self.group)
        return (own.square() + square).sqrt()

    def rows(self, here: int) -> int:
        """The sum."""
        counts = torch.tensor(here)
        if self.group is not None:
            dist.all_reduce(counts, group=self.group)
        return int(counts)

    def every(self, here: bool) -> bool:
        """In all of them."""
        return every(self.group, here)

    def gathered(self, here: Some) -> list[Some]:
        """What each process has, in the order of the ranks."""
        found = [here] * self.world
        if self.group is not None:
            dist.all_gather_object(found, here, group=self.group)
        return found

    def picked(self, files: Sequence[Rows]) -> Tensor:
        """The rows held here, out of what as many processes held as there are files; a block is read at a time."""
        lengths, then = [file.get_shape()[0] for file in files], len(files)
        if then == self.world:
            return files[self.rank][: lengths[self.rank]]  # as it lies in the file: read where it is looked at
        empty: Tensor = files[0][:0]
        held = empty.new_empty(len(range(self.rank, sum(lengths), self.world)), *empty.shape[1:])
        for other, (file, length) in enumerate(zip(files, lengths, strict=True)):
            if (other - self.rank) % math.gcd(then, self.world):
                continue  # it has no row of ours
            for start, stop in _blocks(length):
                row = torch.arange(start, stop) * then + other
                own = row % self.world == self.rank
                held[row[own] // self.world] = file[start:stop][own]
        return held

    def _looked(self, table: Tensor, place: Tensor) -> dict[str, Tensor]:
        most = len(table) + 1  # rows of any process
        ids, local = distinct(torch.where(place < 0, place, place % self.world * most + place // self.world), self.world * most)
        bounds = torch.arange(0, (self.world + 1) * most, most, device=ids.device)
        asks = torch.searchsorted(ids, bounds).diff()  # they are in order, and none is of another process than the bounds say
        sizes = torch.stack([asks, self._swapped(asks, [1] * self.world, taken=[1] * self.world)]).cpu()
        given, taken = sizes.tolist()
        wanted = self._swapped(ids % most, given, taken=taken)
        found = self._swapped(table.detach().index_select(0, wanted), taken, taken=given)
        return {"table": found, "place": local, "asked": wanted, "sizes": sizes, "held": table}

    def _touched(self, leaf: Tensor, rows: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        asks, asked = rows["sizes"].tolist()
        gradients = self._swapped(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad, asks, taken=asked)
        return summed(rows["held"], rows["asked"].split_with_sizes(asked), gradients.split_with_sizes(asked))

    def _swapped(self, own: Tensor, given: list[int], *, taken: list[int]) -> Tensor:
        """Of what is here, in the order of the ranks, each process gets so many; what is got from each, in that order."""
        if self.group is None:
            return own
        found = own.new_empty((sum(taken), *own.shape[1:]))
        dist.all_to_all_single(found, own.contiguous(), taken, given, group=self.group)
        return found


def _blocks(rows: int) -> Iterator[tuple[int, int]]:
    """From where to where; the last one is not short, since torch draws fewer than 16 numbers in another way."""
    start = 0
    while start < rows:
        stop = rows if rows - start < BLOCK + 16 else start + BLOCK
        yield start, stop
        start = stop
