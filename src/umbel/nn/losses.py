"""One masked loss a task; what it is divided by has a name."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from umbel.schema import BINARY, REGRESSION, Schema


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


def binary(outputs: Float[Tensor, "rows 1"], labels: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """Cross entropy of a logit: `log(1 + e^z) - y z`."""
    return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], labels, reduction="none")


def regression(outputs: Float[Tensor, "rows 1"], labels: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """Squared error: `(z - y)^2`."""
    return (outputs[:, 0] - labels).square()


def probability(outputs: Float[Tensor, "rows 1"]) -> Float[Tensor, "rows"]:
    """The chance that a logit stands for."""
    return outputs[:, 0].sigmoid()


def plain(outputs: Float[Tensor, "rows 1"]) -> Float[Tensor, "rows"]:
    """The output itself."""
    return outputs[:, 0]


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {BINARY.name: binary, REGRESSION.name: regression}
LINKS: dict[str, Callable[[Tensor], Tensor]] = {BINARY.name: probability, REGRESSION.name: plain}


def task_losses(
    logits: Float[Tensor, "rows outputs"], batch: Labelled, schema: Schema, *, denominator: Denominator = Denominator.SEEN,
) -> Float[Tensor, "tasks"]:
    """Per task `weight_t * sum over seen rows of w_rt loss(z_rt, y_rt) / n_t`, n_t the rows seen or all rows.

    Row weights multiply and do not enter n_t. A label that was not seen may hold anything, NaN included: neither it nor
    its logits enter the value or the gradient. A task nobody saw has loss 0 and gradient 0.
    Outputs after the tasks' own (a head's auxiliary ones) are not read.
    """
    losses = []
    for number, (task, own) in enumerate(zip(schema.tasks, schema.outputs, strict=True)):
        seen = batch.seen[:, number]
        outputs = torch.where(seen[:, None], logits[:, own], 0.0)
        loss = LOSSES[task.kind.name](outputs, torch.where(seen, batch.labels[:, number], 0.0))
        weight = None if batch.weight is None else batch.weight[:, number]
        losses.append(task.weight * masked_mean(loss, seen, weight, denominator=denominator))
    return torch.stack(losses)


def masked_mean(
    loss: Float[Tensor, "rows"], seen: Bool[Tensor, "rows"], weight: Float[Tensor, "rows"] | None = None, *, denominator: Denominator,
) -> Float[Tensor, ""]:
    """`sum over seen rows of w_r loss_r / n`, n the rows seen or all rows; 0 where nothing was seen."""
    own = loss if weight is None else loss * weight
    count = seen.sum().clamp(min=1) if denominator is Denominator.SEEN else max(len(seen), 1)
    return torch.where(seen, own, 0.0).sum() / count
