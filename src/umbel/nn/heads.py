"""How what the readers heard becomes logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.nn.bank import Fan, Part
from umbel.nn.losses import Denominator, Labelled, task_losses
from umbel.schema import Schema

Taught = tuple[tuple[Part, ...], tuple[int, ...]]  # parameters, and the tasks that teach them


class Head(nn.Module, ABC):
    """What stands on the last mixture: one tensor a voice in, logits out, the tasks' outputs first and auxiliary ones after.

    `hears[task]` are the readers whose output the task's loss teaches. Towers that speak to each other, and losses that
    read several tasks' outputs, teach more than their own reader and declare it here: the gradient law holds them to it.
    """

    hears: tuple[tuple[int, ...], ...]

    @abstractmethod
    def forward(self, voices: Sequence[Float[Tensor, "rows hidden"]]) -> Float[Tensor, "rows outputs"]:
        """Logits, in the order of the schema's outputs."""

    @abstractmethod
    def losses(
        self, logits: Float[Tensor, "rows outputs"], batch: Labelled, schema: Schema, *, denominator: Denominator,
    ) -> Float[Tensor, "tasks"]:
        """What each task pays for these logits, task and row weights in it, and a task's auxiliary terms too."""

    @abstractmethod
    def groups(self) -> dict[str, Taught]:
        """Its parameters by name, each with the tasks that teach it."""


@runtime_checkable
class MakeHead(Protocol):
    """`voice[reader]` is where a reader's output stands among the inputs; `widths` are theirs and the hidden layers'."""

    def __call__(self, schema: Schema, voice: tuple[int, ...], *, widths: tuple[int, ...], dropout: float) -> Head:
        """The head of a model."""
        ...


class Independent(Head):
    """A tower a task, which knows nothing of the others: `logits_t = MLP_t(h_t)`, ReLU on hidden layers."""

    def __init__(self, schema: Schema, voice: tuple[int, ...], *, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.names = tuple(task.name for task in schema.tasks)
        self.hears = tuple((task,) for task in range(len(self.names)))
        self.towers = Fan(voice[:len(self.names)], widths, lasts=tuple(task.kind.outputs for task in schema.tasks), dropout=dropout)

    def forward(self, voices: Sequence[Float[Tensor, "rows hidden"]]) -> Float[Tensor, "rows outputs"]:
        """Logits, in the order of the schema's outputs."""
        return torch.cat(self.towers(voices), 1)

    def losses(
        self, logits: Float[Tensor, "rows outputs"], batch: Labelled, schema: Schema, *, denominator: Denominator,
    ) -> Float[Tensor, "tasks"]:
        """Each task's own loss where its label was seen: `umbel.nn.losses.task_losses`."""
        return task_losses(logits, batch, schema, denominator=denominator)

    def groups(self) -> dict[str, Taught]:
        """Each tower with its task."""
        own = [tuple(part.under("towers") for part in self.towers.parts(task)) for task in range(len(self.names))]
        return {f"tower {name}": (own[task], (task,)) for task, name in enumerate(self.names)}


HEADS: Mapping[str, MakeHead] = {"independent": Independent}
