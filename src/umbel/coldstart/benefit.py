"""Which of the similar users are a benefit: those who rated alike what is alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from umbel.data.table import Table
from umbel.errors import UserError
from umbel.kinds import BINARY, REGRESSION

LEVELS = 5  # a finer scale is divided into as many steps of one width
Taste = Float[Tensor, "*#users levels width"]
Score = Float[Tensor, "*#users"]


@dataclass(frozen=True, slots=True)
class Scale:
    """The levels of one task's labels, from the bottom: the first task that is a number or an event.

    `edges` lie between levels; a label equal to an edge is above it.
    """

    task: int
    edges: tuple[float, ...]

    @staticmethod
    def of(table: Table) -> Scale:
        """Its levels among training rows; :raises UserError: if every task is of another kind."""
        kinds = [task.kind for task in table.schema.tasks]
        found = [place for place, kind in enumerate(kinds) if kind in (REGRESSION, BINARY)]
        if not found:
            raise UserError("episodes: no task has levels to compare users by", mend="choose filter = 'none'")
        labels, seen = table.labels("train")
        values = np.unique(labels[seen[:, found[0]], found[0]])
        edges = values[1:] if len(values) <= LEVELS else np.linspace(values[0], values[-1], LEVELS + 1)[1:-1]
        return Scale(found[0], tuple(edges.tolist()))

    @property
    def levels(self) -> int:
        """How many there are."""
        return len(self.edges) + 1

    def level(self, labels: Float[Tensor, "*rows"]) -> Int[Tensor, "*rows"]:
        """The level of each label, counted from 0."""
        return torch.bucketize(labels.contiguous(), labels.new_tensor(self.edges), right=True)


def tastes(items: Float[Tensor, "users shots width"], level: Int[Tensor, "users shots"], levels: int) -> Taste:
    """The direction of the mean item that a user gave each level, of length 1; zeros at a level given to none (and of level -1)."""
    marks = torch.nn.functional.one_hot(level + 1, levels + 1)[..., 1:].to(items)
    return torch.nn.functional.normalize(torch.einsum("usl,usw->ulw", marks, items), dim=2)


def opposed(own: Taste, other: Taste) -> Score:
    """`sum over i < j of (j - i) cos(c_u^i, c_w^j)`: what u rated low is like what w rated high."""
    alike, _ = _cosines(own, other)
    step = _steps(alike)
    return (alike * step.clamp(min=0)).sum((-2, -1))


def agreeing(own: Taste, other: Taste) -> Score:
    """Mean cosine at levels that both gave, less the mean over all levels of both, weighted by `|j - i|`: symmetric in u and w."""
    alike, both = _cosines(own, other)
    same, far = torch.eye(alike.shape[-1]).to(alike), _steps(alike).abs()
    return _mean(alike, both * same) - _mean(alike, both * far)


FILTERS: dict[str, Callable[[Taste, Taste], Score] | None] = {
    "agree_minus_conflict": agreeing,
    "omega_published": opposed,  # largest first, as the published code keeps them, though a large value says that the two conflict
    "omega_negated": lambda own, other: -opposed(own, other),
    "none": None,
    "random": None,
}


def _cosines(own: Taste, other: Taste) -> tuple[Float[Tensor, "*#users levels levels"], Float[Tensor, "*#users levels levels"]]:
    """Of every level of one with every of the other, and 1 where both were given."""
    there = [one.square().sum(-1) > 0 for one in (own, other)]
    return own @ other.transpose(-1, -2), (there[0].unsqueeze(-1) & there[1].unsqueeze(-2)).to(own)


def _steps(alike: Tensor) -> Float[Tensor, "levels levels"]:
    level = torch.arange(alike.shape[-1]).to(alike)
    return level[None, :] - level[:, None]


def _mean(values: Tensor, weights: Tensor) -> Score:
    return (values * weights).sum((-2, -1)) / weights.sum((-2, -1)).clamp(min=1e-12)
