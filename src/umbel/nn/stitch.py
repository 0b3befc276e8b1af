"""Cross-Stitch: a network a task, whose hidden layers exchange what they found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.nn.bank import Linears, Part
from umbel.nn.drop import dropped
from umbel.nn.heads import Taught
from umbel.nn.layer import Layer, Lessons
from umbel.nn.reach import Tasks, union

OWN = 0.9  # what a cell gives a task of its own at the start; the others share the rest


class CrossStitch(Layer):
    """A network a task, and after each of its hidden layers a cell: what a task reads next is a learned sum of what all found.

    `x_t^(l+1) = sum_s a_ts^l ReLU(W_s^l x_s^l + b_s^l)`, `a^l` a tasks x tasks matrix of free numbers, no softmax and no row's
    own (https://arxiv.org/abs/1604.03539, which has it for two tasks and convolutions). One task has no cell.

    `reads[task]` is the input of a task's network; `widths` are the inputs' and the hidden layers'.
    """

    def __init__(self, reads: tuple[int, ...], widths: tuple[int, ...], *, dropout: float = 0.0) -> None:
        super().__init__()
        self.reads, self.dropout, self.width = reads, dropout, widths[-1]
        self.voice = tuple(range(len(reads)))
        self.maps = nn.ModuleList(Linears(len(reads), pair) for pair in pairwise(widths))
        self.cells = nn.ParameterList(_cell(len(reads)) for _ in self.maps if len(reads) > 1)

    def forward(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> tuple[Float[Tensor, "rows hidden"], ...]:
        """What each task's network comes to."""
        x = torch.stack([inputs[read] for read in self.reads])
        for level, linears in enumerate(self.maps):
            x = dropped(linears(x).relu(), self.dropout, training=self.training)
            if self.cells:
                x = (self.cells[level] @ x.flatten(1)).view_as(x)
        return x.unbind(0)

    def lessons(self, readers: Sequence[Tasks]) -> Lessons:
        """A task teaches its row of the last cell, and all networks through it; every task teaches what is below another's row."""
        groups: dict[str, Taught] = {}
        taught = list(readers)
        for level in reversed(range(len(self.maps))):
            for task in self.voice if self.cells else ():
                groups[f"cell {level} {task}"] = ((Part(f"cells.{level}", (slice(task, task + 1),)),), taught[task])
            taught = [union(taught)] * len(taught)
            linears = self.maps[level]
            assert isinstance(linears, Linears)
            groups |= {f"expert {task} layer {level}": (tuple(part.under(f"maps.{level}") for part in linears.parts(task)), taught[task])
                       for task in self.voice}
        inputs = range(max(self.reads) + 1)
        return Lessons(groups, tuple(union(taught[task] for task, read in enumerate(self.reads) if read == one) for one in inputs))


def _cell(tasks: int) -> Tensor:
    own = torch.eye(tasks)
    return OWN * own + (1 - OWN) / (tasks - 1) * (1 - own)
