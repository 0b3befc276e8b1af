"""Processes that train one model together: each scores a slice of every batch, and in every step their gradients become one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar, final

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributed import ProcessGroup

from umbel.data.batch import Batch

Told = TypeVar("Told")


class Processes(ABC):
    """Who takes part in a step. Every process holds the whole batch and the whole model, and ends the step with the same weights.

    A process scores its `part` of the rows; `whole` puts the logits of all rows together, so that every loss is that of the whole
    batch, whatever it is a mean over; `mean` and `touched` make one gradient of those that the parts left.
    """

    @abstractmethod
    def part(self, batch: Batch) -> Batch:
        """The rows that this process scores; there may be none."""

    @abstractmethod
    def whole(self, own: Float[Tensor, "some outputs"], rows: int) -> Float[Tensor, "rows outputs"]:
        """The logits of all rows of the batch, of which this process's own have a gradient."""

    @abstractmethod
    def mean(self, leaves: Sequence[Tensor]) -> None:
        """Make the gradients of leaves that all processes hold those of the whole batch."""

    @abstractmethod
    def touched(
        self, ids: Int[Tensor, "own"], leaf: Float[Tensor, "own width"], *, table: Float[Tensor, "all width"],
    ) -> tuple[Int[Tensor, "touched"], Float[Tensor, "touched width"]]:
        """The rows of the table that any process touched, each once and in order, and a leaf of them with the gradient of the batch."""

    @abstractmethod
    def agreed(self, numbers: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The first process's numbers, in every process."""

    @abstractmethod
    def gramian(self, own: Float[Tensor, "tasks tasks"]) -> Float[Tensor, "tasks tasks"]:
        """Inner products of gradients at all rows, from those at this process's own."""

    @abstractmethod
    def draw_apart(self, *at: int) -> None:
        """From here (counters that say where) on, draw other random numbers than the other processes."""


@final
class One(Processes):
    """A process by itself."""

    def part(self, batch: Batch) -> Batch:
        """All rows."""
        return batch

    def whole(self, own: Float[Tensor, "some outputs"], rows: int) -> Float[Tensor, "rows outputs"]:
        """Its own."""
        return own

    def mean(self, leaves: Sequence[Tensor]) -> None:
        """Nothing: they are."""

    def touched(
        self, ids: Int[Tensor, "own"], leaf: Float[Tensor, "own width"], *, table: Float[Tensor, "all width"],
    ) -> tuple[Int[Tensor, "touched"], Float[Tensor, "touched width"]]:
        """Its own."""
        return ids, leaf

    def agreed(self, numbers: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """They themselves."""
        return numbers

    def gramian(self, own: Float[Tensor, "tasks tasks"]) -> Float[Tensor, "tasks tasks"]:
        """Its own."""
        return own

    def draw_apart(self, *at: int) -> None:
        """Nothing: there is no other."""


ALONE = One()


@final
class Several(Processes):
    """The processes of a group: data parallelism over replicas, tables included.

    A process's own logits pass their gradient on `world` times, and gradients are means over processes: so what depends on rows adds
    up to the gradient of the whole batch, and what does not (a price on parameters) counts once. Sums are taken in the order of the
    ranks in every process, so that replicas stay equal to the byte on equal machines.
    A step sends, per process: the logits, the dense gradients once around the ring, and the touched rows with their gradients to all.
    """

    def __init__(self, group: ProcessGroup) -> None:
        self.group, self.rank, self.world = group, dist.get_rank(group), dist.get_world_size(group)

    def part(self, batch: Batch) -> Batch:
        """Neighbouring rows, as many as any other process's or one more."""
        bounds = self._bounds(len(batch.labels))
        return batch.take(slice(bounds[self.rank], bounds[self.rank + 1]))

    def whole(self, own: Float[Tensor, "some outputs"], rows: int) -> Float[Tensor, "rows outputs"]:
        """In the order of the batch."""
        bounds = self._bounds(rows)
        every = self._gather(own.detach(), np.diff(bounds).tolist())
        if own.requires_grad:
            own.register_hook(lambda gradient: gradient * self.world)  # type: ignore[no-untyped-call]
        return torch.cat([own if rank == self.rank else other for rank, other in enumerate(every)])

    def mean(self, leaves: Sequence[Tensor]) -> None:
        """One message for all of them."""
        gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat, group=self.group)
        for gradient, found in zip(gradients, flat.div_(self.world).split_with_sizes([one.numel() for one in gradients]), strict=True):
            gradient.copy_(found.view_as(gradient))

    def touched(
        self, ids: Int[Tensor, "own"], leaf: Float[Tensor, "own width"], *, table: Float[Tensor, "all width"],
    ) -> tuple[Int[Tensor, "touched"], Float[Tensor, "touched width"]]:
        """What all processes touched."""
        sizes = self._sizes(len(ids))
        every = self._gather(ids, sizes)
        own = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        gradients = self._gather(own, sizes)
        return summed(table, every, gradients)

    def agreed(self, numbers: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Those of rank 0."""
        dist.broadcast(numbers, group=self.group, group_src=0)
        return numbers

    def gramian(self, own: Float[Tensor, "tasks tasks"]) -> Float[Tensor, "tasks tasks"]:
        """Their sum: no row is in two parts, and each part's gradients are `world` times those of the batch."""
        dist.all_reduce(own, group=self.group)
        return own / self.world**2

    def draw_apart(self, *at: int) -> None:
        """The first goes on with what it has."""
        if self.rank:
            seed = np.random.SeedSequence([torch.initial_seed(), self.rank, *at]).generate_state(1, np.uint64)[0]
            torch.manual_seed(int(seed >> np.uint64(1)))

    def _bounds(self, rows: int) -> list[int]:
        return [rows * rank // self.world for rank in range(self.world + 1)]

    def _sizes(self, own: int) -> list[int]:
        found = torch.zeros(self.world, dtype=torch.int64)
        found[self.rank] = own
        dist.all_reduce(found, group=self.group)
        return found.tolist()

    def _gather(self, own: Tensor, sizes: list[int]) -> list[Tensor]:
        """Every process's tensor, of so many rows; sent at the length of the longest, as not every engine sends unequal ones."""
        padded = own.new_zeros((max(sizes), *own.shape[1:]))
        padded[: len(own)] = own
        found = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(found, padded, group=self.group)
        return [one[:size] for one, size in zip(found, sizes, strict=True)]


def processes(group: ProcessGroup | None) -> Processes:
    """Who takes part in the steps of a training: the group's, or this process alone."""
    return ALONE if group is None else Several(group)


def summed(
    table: Float[Tensor, "held width"], ids: Sequence[Int[Tensor, "_"]], gradients: Sequence[Float[Tensor, "_ width"]],
) -> tuple[Int[Tensor, "touched"], Float[Tensor, "touched width"]]:
    """The rows that processes name, each once and in order, and a leaf of them with the mean of their gradients, added up by rank."""
    found, places = torch.unique(torch.cat(list(ids)), return_inverse=True)
    leaf = table.detach().index_select(0, found).requires_grad_()
    leaf.grad = torch.zeros_like(leaf)
    # The ids of one process differ, so that no sum depends on an order that threads or a GPU choose.
    for some, gradient in zip(places.split_with_sizes([len(one) for one in ids]), gradients, strict=True):
        leaf.grad.index_add_(0, some, gradient, alpha=1 / len(ids))
    return found, leaf


def is_first(group: ProcessGroup | None) -> bool:
    """Whether this process writes files and speaks: every group has one that does."""
    return group is None or dist.get_rank(group) == 0


def told(group: ProcessGroup | None, what: Told) -> Told:
    """What the first process has, in all of them."""
    if group is None:
        return what
    message = [what]
    dist.broadcast_object_list(message, group=group, group_src=0)
    return message[0]


def every(group: ProcessGroup | None, here: bool) -> bool:
    """Whether it is so in all of them."""
    if group is None:
        return here
    count = torch.tensor(int(here))
    dist.all_reduce(count, group=group)
    return int(count) == dist.get_world_size(group)


def most(group: ProcessGroup | None, here: int) -> int:
    """The greatest of the numbers that they have."""
    found = torch.tensor(here)
    if group is not None:
        dist.all_reduce(found, dist.ReduceOp.MAX, group=group)
    return int(found)
