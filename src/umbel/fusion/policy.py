"""Several predictions of a row as one score to rank by: a fusion policy is data, apart from any model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float

from umbel import durable
from umbel.chosen import spell
from umbel.errors import UserError, nearest
from umbel.fusion.shapes import SHAPES, Direction, Shape

FORMAT = 1
STEEPEST = 700.0  # of a product's logarithm, so that it stays a number


class UnfitError(UserError):
    """A policy reads what a bundle does not predict."""


@final
@dataclass(frozen=True, slots=True)
class Term:
    """A prediction, by its column's name in the bundle, whether it is wanted (1) or not (-1), and what it is worth."""

    task: str
    shape: Shape
    direction: Direction = 1


@final
@dataclass(frozen=True, slots=True)
class Fusion:
    """A policy: the tasks it reads, in order, all of one family.

    :raises UserError: without tasks, for one named twice, or for shapes of two families.

    Example
    -------
    >>> from umbel.fusion.shapes import Linear
    >>> policy = Fusion((Term("click", Linear(2.0)), Term("hate", Linear(10.0), -1)))
    >>> policy.contributions(np.array([[0.5, 0.01]])).tolist(), policy.score(np.array([[0.5, 0.01]])).tolist()
    ([[1.0, -0.1]], [0.9])
    """

    terms: tuple[Term, ...]
    name: str = "default"

    def __post_init__(self) -> None:
        if not self.terms:
            raise UserError("fusion: no tasks", mend='name at least one under "tasks"')
        if len(set(self.tasks)) < len(self.terms):
            raise UserError("fusion: a task is named twice", mend="keep one of them")
        if len({type(term.shape) for term in self.terms}) > 1:
            raise UserError("fusion: shapes of several families", mend="keep to one family")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The predictions that it reads, in order."""
        return tuple(term.task for term in self.terms)

    @property
    def family(self) -> str:
        """The name of its shapes."""
        return self.terms[0].shape.name

    @property
    def version(self) -> str:
        """Twelve hexadecimal digits that tell this policy from any other: of the SHA-256 of what it says."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]

    def places(self, columns: Sequence[str]) -> list[int]:
        """Where its tasks stand among the columns of a bundle's predictions; :raises UnfitError: for one that is not there."""
        for task in self.tasks:
            if task not in columns:
                raise UnfitError(f"fusion {self.name!r}: no prediction {task!r}", mend=nearest(task, columns))
        return [list(columns).index(task) for task in self.tasks]

    def contributions(self, predictions: Float[np.ndarray, "rows tasks"]) -> Float[np.ndarray, "rows tasks"]:
        """What each task adds to each row's score, exactly; `predictions` in the order of `tasks`.

        In a product `P = exp(x)`, `x = sum x_t`, task t adds `x_t (P - 1) / x`: the logarithmic mean of P and 1 shares out the
        change without remainder (Ang, 2005, https://doi.org/10.1016/j.enpol.2003.10.010).
        """
        gains = np.empty(predictions.shape)
        for place, term in enumerate(self.terms):
            gains[:, place] = term.direction * term.shape.gain(predictions[:, place].astype(np.float64), term.direction)
        if not self.terms[0].shape.product:
            return gains
        total = gains.sum(1, keepdims=True)
        mean = np.expm1(np.clip(total, -STEEPEST, STEEPEST)) / np.where(total == 0, 1.0, total)
        return gains * np.where(total == 0, 1.0, mean)

    def score(self, predictions: Float[np.ndarray, "rows tasks"]) -> Float[np.ndarray, "rows"]:
        """The fused score of each row: the sum of its contributions."""
        total: Float[np.ndarray, "rows"] = self.contributions(predictions).sum(1)
        return total

    def to_json(self) -> dict[str, object]:
        """The content of its file."""
        tasks = {term.task: {"direction": term.direction, **_parameters(term.shape)} for term in self.terms}
        return {"format": FORMAT, "name": self.name, "family": self.family, "tasks": tasks}

    def save(self, path: Path) -> None:
        """Write the file whole or not at all; :raises UserError: if the disk is full or the place not writable."""
        durable.write(path, json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n")


def equal(family: str, predictions: Mapping[str, Float[np.ndarray, "rows"]], *, unwanted: Sequence[str] = ()) -> Fusion:
    """The policy to start from: every task moves the score (of a product, its logarithm) by as much, 1 / tasks on the average.

    `predictions` are calibrated ones of rows that stand for those to come, by the name of their column.

    :raises UserError: for an unknown family, or an unwanted task that is not among them.
    """
    if family not in SHAPES:
        raise UserError(f"fusion: no family {family!r}", mend=nearest(family, SHAPES))
    for task in unwanted:
        if task not in predictions:
            raise UserError(f"fusion: no prediction {task!r}", mend=nearest(task, predictions))
    share = 1 / max(1, len(predictions))
    start = SHAPES[family].start
    return Fusion(tuple(Term(task, start(own, share), -1 if task in unwanted else 1) for task, own in predictions.items()))


def _parameters(shape: Shape) -> dict[str, object]:
    spelt = spell(shape)
    return {key: value for key, value in spelt.items() if key != "name" and value is not None} if isinstance(spelt, dict) else {}
