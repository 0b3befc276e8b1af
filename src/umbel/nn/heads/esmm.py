"""A purchase learned from every impression: the head of the entire space multi-task model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from umbel.nn.heads.chain import marginal_loss, paid, required_chains
from umbel.nn.heads.head import Head, Taught, pupils, tower_groups, towers
from umbel.nn.losses import Denominator, Labelled, task_losses
from umbel.schema import Schema


@final
class Esmm(Head):
    """A tower a task; a task given another is learned from all rows, as the product along its chain.

    `logits_t = MLP_t(h_t)` is the logit of p(t | given) as everywhere, and the loss of a binary t behind `c_1 .. c_k` is the
    cross entropy of `p(c_1) p(c_2 | c_1) .. p(t | c_k)` on every row where it is known whether t happened (a row without
    a click has no purchase). The other tasks pay their own loss. So the loss of a purchase also teaches the tower of the
    click, and whatever that hears.

    ESMM (https://arxiv.org/abs/1804.07931). Differences: chains of any length and any number of them; the product is
    taken in log space; the mixture below is free (in the paper, towers over one shared embedding: the recipe `esmm`).

    :raises UserError: if no binary task is given another, or one of a chain asks for a loss that the product would not be the chance of.
    """

    def __init__(self, schema: Schema, voice: tuple[int, ...], *, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.schema, self.chains = schema, required_chains(schema, "esmm")
        self.hears = tuple(self.chains[task].tasks if task in self.chains else (task,) for task in range(len(schema.tasks)))
        self.towers = towers(schema, voice, widths=widths, dropout=dropout)

    def forward(self, voices: Sequence[Float[Tensor, "rows hidden"]]) -> Float[Tensor, "rows outputs"]:
        """Logits of the conditionals, in the order of the schema's outputs."""
        return torch.cat(self.towers(voices), 1)

    def losses(
        self, logits: Float[Tensor, "rows outputs"], batch: Labelled, schema: Schema, *, denominator: Denominator,
    ) -> Float[Tensor, "tasks"]:
        """The marginal's cross entropy for a task at the end of a chain, a task's own loss for the others."""
        own = list(task_losses(logits, batch, schema, denominator=denominator))
        for task, steps in self.chains.items():
            own[task] = schema.tasks[task].weight * marginal_loss(logits, batch, steps, denominator=denominator)
        return torch.stack(own)

    def paid(self, batch: Labelled) -> Bool[Tensor, "rows tasks"]:
        """Those where the outcome of a chain is known, for the task that it ends in; else those whose label was seen."""
        return paid(batch, self.chains.values())

    def groups(self) -> dict[str, Taught]:
        """Each tower with the tasks whose chain it stands in."""
        return tower_groups(self.towers, self.schema, pupils(self.hears, len(self.schema.tasks)))


@final
@dataclass(frozen=True, slots=True)
class MakeEsmm:
    """`esmm`: nothing to choose."""

    name: ClassVar[str] = "esmm"

    def __call__(self, schema: Schema, voice: tuple[int, ...], *, widths: tuple[int, ...], dropout: float) -> Head:
        """See `Esmm`."""
        return Esmm(schema, voice, widths=widths, dropout=dropout)
