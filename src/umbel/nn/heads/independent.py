"""Towers that know nothing of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from umbel.nn.heads.head import Head, Taught, tower_groups, towers
from umbel.nn.losses import Denominator, Labelled, task_losses
from umbel.schema import Schema


@final
class Independent(Head):
    """A tower a task, which knows nothing of the others: `logits_t = MLP_t(h_t)`, ReLU on hidden layers."""

    def __init__(self, schema: Schema, voice: tuple[int, ...], *, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.schema = schema
        self.hears = tuple((task,) for task in range(len(schema.tasks)))
        self.towers = towers(schema, voice, widths=widths, dropout=dropout)

    def forward(self, voices: Sequence[Float[Tensor, "rows hidden"]]) -> Float[Tensor, "rows outputs"]:
        """Logits, in the order of the schema's outputs."""
        return torch.cat(self.towers(voices), 1)

    def hidden(self, voices: Sequence[Float[Tensor, "rows hidden"]]) -> tuple[Float[Tensor, "rows last"], ...]:
        """What the last layer of each task's tower reads: its logits are linear in it."""
        return self.towers.hidden(voices)

    def losses(
        self, logits: Float[Tensor, "rows outputs"], batch: Labelled, schema: Schema, *, denominator: Denominator,
    ) -> Float[Tensor, "tasks"]:
        """Each task's own loss where its label was seen: `umbel.nn.losses.task_losses`."""
        return task_losses(logits, batch, schema, denominator=denominator)

    def paid(self, batch: Labelled) -> Bool[Tensor, "rows tasks"]:
        """Those whose label was seen."""
        return batch.seen

    def groups(self) -> dict[str, Taught]:
        """Each tower with its task."""
        return tower_groups(self.towers, self.schema, self.hears)


@final
@dataclass(frozen=True, slots=True)
class MakeIndependent:
    """`independent`: nothing to choose."""

    name: ClassVar[str] = "independent"

    def __call__(self, schema: Schema, voice: tuple[int, ...], *, widths: tuple[int, ...], dropout: float) -> Head:
        """See `Independent`."""
        return Independent(schema, voice, widths=widths, dropout=dropout)
