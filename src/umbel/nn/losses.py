"""One masked loss a task; what it is divided by has a name."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from umbel.nn.objectives import Own, pay
from umbel.schema import Schema


class Denominator(StrEnum):
    """What a task's summed loss is divided by: all rows of the batch, or those whose label was seen."""

    ROWS = "rows"
    SEEN = "seen"


@runtime_checkable
class Labelled(Protocol):
    """What a loss needs of a batch."""

    @property
    def labels(self) -> Float[Tensor, "rows tasks"]: ...  # noqa: D102

    @property
    def seen(self) -> Bool[Tensor, "rows tasks"]: ...  # noqa: D102

    @property
    def weight(self) -> Float[Tensor, "rows tasks"] | None: ...  # noqa: D102

    @property
    def group(self) -> Int[Tensor, "rows"] | None: ...  # noqa: D102


def task_losses(
    logits: Float[Tensor, "rows outputs"], batch: Labelled, schema: Schema, *, denominator: Denominator = Denominator.SEEN,
) -> Float[Tensor, "tasks"]:
    """Per task `weight_t * sum over seen rows of w_rt loss(z_rt, y_rt) / n_t`, n_t the rows seen or all rows.

    The loss is the task's choice (`umbel.objectives`) for its kind (`umbel.nn.kinds`). Row weights multiply and do not enter n_t.
    A label that was not seen may hold anything, NaN included: neither it nor its logits enter the value or the gradient.
    A task nobody saw has loss 0 and gradient 0.
    Outputs after the tasks' own (a head's auxiliary ones) are not read.
    """
    losses = []
    for number, task in enumerate(schema.tasks):
        own = task_rows(logits, batch, schema, number=number)
        losses.append(task.weight * masked_mean(pay(task.loss, task.kind, own), own.seen, denominator=denominator))
    return torch.stack(losses)


def task_rows(logits: Float[Tensor, "rows outputs"], batch: Labelled, schema: Schema, *, number: int) -> Own:
    """One task's side of a batch; what was not seen is replaced by an allowed label, and its outputs and weight by zeros."""
    seen, task = batch.seen[:, number], schema.tasks[number]
    outputs = torch.where(seen[:, None], logits[:, schema.outputs[number]], 0.0)
    labels = torch.where(seen, batch.labels[:, number], task.kind.labels.some)
    weight = None if batch.weight is None else torch.where(seen, batch.weight[:, number], 0.0)
    return Own(outputs, labels, seen, weight, batch.group)


def masked_mean(
    loss: Float[Tensor, "rows"], seen: Bool[Tensor, "rows"], weight: Float[Tensor, "rows"] | None = None, *, denominator: Denominator,
) -> Float[Tensor, ""]:
    """`sum over seen rows of w_r loss_r / n`, n the rows seen or all rows; 0 where nothing was seen."""
    own = loss if weight is None else loss * weight
    count = seen.sum().clamp(min=1) if denominator is Denominator.SEEN else max(len(seen), 1)
    return torch.where(seen, own, 0.0).sum() / count
