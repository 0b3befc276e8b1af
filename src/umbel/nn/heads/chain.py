"""A chain of events, each given the one before: its chance in log space, and its loss on every row whose outcome is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from umbel.errors import UserError
from umbel.nn.losses import Denominator, Labelled, masked_mean
from umbel.objectives import LIKELIHOOD
from umbel.schema import BINARY, Schema


@dataclass(frozen=True, slots=True)
class Chain:
    """The tasks of a chain by number, the outermost first, and the columns of the logits whose chances multiply to the chain's."""

    tasks: tuple[int, ...]
    columns: tuple[int, ...]

    @property
    def above(self) -> Chain:
        """The chain without its last task: what that task is given."""
        return Chain(self.tasks[:-1], self.columns[:-1])


def chain(schema: Schema, task: int) -> Chain:
    """The chain that ends in a task; of that task alone where it is given nothing."""
    place = {one.name: number for number, one in enumerate(schema.tasks)}
    tasks = tuple(place[name] for name in schema.chain(schema.tasks[task].name))
    return Chain(tasks, tuple(schema.outputs[number].start for number in tasks))


def chains(schema: Schema) -> dict[int, Chain]:
    """The chains of the binary tasks that are given another, by number."""
    return {number: chain(schema, number) for number, task in enumerate(schema.tasks) if task.given is not None and task.kind == BINARY}


def required_chains(schema: Schema, head: str) -> dict[int, Chain]:
    """The same for a head that is of no use without.

    :raises UserError: if there are none, or if the chances of one would not be those of its events: a task that keeps a share of its
        rows without the event or counts those with it more often, a loss that is not least at the chance, and one beside likelihood where
        the chain's own is paid.
    """
    found = chains(schema)
    if not found:
        names = ", ".join(repr(task.name) for task in schema.tasks)
        raise UserError(f"model.head: {head!r} needs a binary task given another (of {names} none is)",
                        mend="add given = TASK to the task that follows another, or use head = 'independent'")
    for number in sorted({number for steps in found.values() for number in steps.tasks}):
        task = schema.tasks[number]
        if task.raised or not task.loss.proper or (number in found and task.loss != LIKELIHOOD):
            raise UserError(f"tasks.{task.name}: head {head!r} multiplies chances, and takes no 'loss' or 'negatives' of a task in a chain",
                            mend="leave them out, or use head = 'independent'")
    return found


def log_chances(logits: Float[Tensor, "rows steps"]) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """The logarithms of the chance that every step holds and of the chance that one fails, exact however small either is.

    `log p = sum_k log s(z_k)`; the chain fails at exactly one step, so `1 - p = sum_k s(-z_k) prod_{j<k} s(z_j)`, which is
    summed in log space and never taken from 1.

    Example
    -------
    >>> holds, fails = log_chances(torch.tensor([[0.0, 0.0], [90.0, 120.0]]))
    >>> holds.exp().tolist(), [round(one, 4) for one in fails.tolist()]
    ([0.25, 1.0], [-0.2877, -90.0])
    """
    steps = nn.functional.logsigmoid(logits)
    before = nn.functional.pad(torch.cumsum(steps[:, :-1], 1), (1, 0))
    return steps.sum(1), torch.logsumexp(before + nn.functional.logsigmoid(-logits), 1)


def columns(x: Shaped[Tensor, "rows _"], some: tuple[int, ...]) -> Shaped[Tensor, "rows some"]:
    """Some of the columns, taken one by one: a list of them would have to be sent to where they lie."""
    return torch.stack([x[:, one] for one in some], 1)


def settled(batch: Labelled, tasks: tuple[int, ...]) -> tuple[Bool[Tensor, "rows"], Bool[Tensor, "rows"]]:
    """Where a chain's last event held, and where it is known whether it did.

    It did not wherever an event before it was seen not to hold, whatever its own label says or lacks; else its own label
    decides. A row that lacks the label of an event before it decides nothing, since there the batch has the last one unseen.
    """
    seen, labels = columns(batch.seen, tasks), columns(batch.labels, tasks)
    failed = (seen & (labels == 0)).any(1)
    held = seen[:, -1] & (labels[:, -1] == 1) & ~failed
    return held, held | failed


def marginal_loss(
    logits: Float[Tensor, "rows outputs"], batch: Labelled, steps: Chain, *, denominator: Denominator,
) -> Float[Tensor, ""]:
    """Cross entropy of the chance of a whole chain, `-y log p - (1 - y) log(1 - p)`, on the rows where its outcome is known."""
    held, known = settled(batch, steps.tasks)
    holds, fails = log_chances(torch.where(known[:, None], columns(logits, steps.columns), 0.0))
    weight = None if batch.weight is None else batch.weight[:, steps.tasks[-1]]
    return masked_mean(-torch.where(held, holds, fails), known, weight, denominator=denominator)


def paid(batch: Labelled, chains: Iterable[Chain]) -> Bool[Tensor, "rows tasks"]:
    """The rows that tasks pay for, where those that chains end in pay for the chains: each chain's outcome is known there."""
    columns = list(batch.seen.unbind(1))
    for steps in chains:
        columns[steps.tasks[-1]] = settled(batch, steps.tasks)[1]
    return torch.stack(columns, 1)
