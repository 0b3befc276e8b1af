"""What a fusion is chosen for: one task as good as can be, the others no worse than they may be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from umbel.errors import UserError, nearest
from umbel.fusion.shapes import Direction

KEPT = 0.01  # what a task may lose of the start's figure where no bound is given


@dataclass(frozen=True, slots=True)
class Aim:
    """A task that policies are judged by, and whether its figure should be high (1) or low (-1)."""

    task: str
    direction: Direction


@dataclass(frozen=True, slots=True)
class Bound:
    """The worst figure that a task may have: a number, or a share of the start's."""

    number: float
    share: bool

    def limit(self, start: float) -> float:
        """The figure itself."""
        return start + (self.number - 1) * abs(start) if self.share else self.number

    def __str__(self) -> str:
        return f"{self.number:.4g} of the start" if self.share else f"{self.number:.4g}"


@dataclass(frozen=True, slots=True)
class Goal:
    """The primary task, and the limit of each other one: a least figure where it is wanted, a greatest where it is not."""

    aims: tuple[Aim, ...]
    primary: str
    limits: Mapping[str, float]

    @property
    def place(self) -> int:
        """The place of the primary among the tasks."""
        return [aim.task for aim in self.aims].index(self.primary)

    def gain(self, values: Float[np.ndarray, "tasks"]) -> float:
        """The primary's figure, greater for better."""
        return float(self.aims[self.place].direction * values[self.place])

    def short(self, values: Float[np.ndarray, "tasks"]) -> float:
        """By how much limits are missed, in shares of them; 0 where all are kept, infinite where one cannot be told."""
        total = 0.0
        for aim, value in zip(self.aims, values, strict=True):
            if (limit := self.limits.get(aim.task)) is not None:
                lacking = aim.direction * (limit - float(value))
                total += np.inf if np.isnan(lacking) else max(0.0, lacking) / (abs(limit) or 1.0)
        return total

    def better(self, one: Float[np.ndarray, "tasks"], other: Float[np.ndarray, "tasks"]) -> bool:
        """Whether one set of figures is nowhere worse than another, and somewhere better."""
        signs = np.array([aim.direction for aim in self.aims])
        difference = signs * (one - other)
        return bool((difference >= 0).all() and (difference > 0).any())


def goal(aims: Sequence[Aim], *, primary: str | None, bounds: Mapping[str, Bound], start: Float[np.ndarray, "tasks"]) -> Goal:
    """The goal with limits as figures, given those of the start; tasks without a bound keep 99 % (unwanted ones: 101 % at most).

    :raises UserError: for a task that is not judged, or a bound on the primary.
    """
    names = [aim.task for aim in aims]
    first = names[0] if primary is None else primary
    for name, where in [(first, "--primary"), *((task, "--bound") for task in bounds)]:
        if name not in names:
            raise UserError(f"{where} {name}: no such task in the fusion", mend=nearest(name, names))
    if first in bounds:
        raise UserError(f"--bound {first}: it is the primary task", mend="bound the others, or name another --primary")
    limits = {}
    for aim, figure in zip(aims, start.tolist(), strict=True):
        if aim.task != first:
            limits[aim.task] = bounds.get(aim.task, Bound(1 - aim.direction * KEPT, share=True)).limit(figure)
    return Goal(tuple(aims), first, limits)


def read_bounds(texts: Sequence[str]) -> dict[str, Bound]:
    """Bounds as they are written on the command line; :raises UserError: for one that is none, or a task named twice.

    Example
    -------
    >>> read_bounds(["like=99%", "hate=0.002"])
    {'like': Bound(number=0.99, share=True), 'hate': Bound(number=0.002, share=False)}
    """
    found: dict[str, Bound] = {}
    for text in texts:
        match = re.fullmatch(r"(.+)=([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(%?)", text.strip())
        if match is None:
            raise UserError(f"--bound {text}: not TASK=FIGURE", mend="write like=0.02, or like=99% of the start's figure")
        if match[1] in found:
            raise UserError(f"--bound {match[1]}: given twice", mend="keep one")
        share = bool(match[3])
        found[match[1]] = Bound(float(match[2]) / (100 if share else 1), share=share)
    return found
