"""What a search for a fusion came to: the chosen policy, what was tried, and the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from umbel.evaluate.metrics import Undefined
from umbel.fuse.goal import Goal
from umbel.fuse.search import Tried
from umbel.fuse.standing import Figure, Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A finished search. `front` are the numbers of those tried that none beats, the best in the primary first.

    `figure` says what a task's figure is, `facts` what it was made from, `verdict` what may be said of the choice, `better` whether it
    is better than what it is to replace by more than chance.
    """

    goal: Goal
    figure: str
    chosen: Tried
    tried: tuple[Tried, ...]
    front: tuple[int, ...]
    test: tuple[Standing, ...]
    facts: Mapping[str, str]
    verdict: str
    better: bool

    def to_json(self) -> dict[str, object]:
        """The content of the report's file."""
        aims = {aim.task: {"direction": aim.direction, "limit": self.goal.limits.get(aim.task)} for aim in self.goal.aims}
        return {
            "primary": self.goal.primary, "tasks": aims, "figure": self.figure, "facts": dict(self.facts), "verdict": self.verdict,
            "better": self.better, "chosen": self.chosen.number, "policy": self.chosen.policy.to_json(), "front": list(self.front),
            "test": [_tested(one) for one in self.test], "tried": [_tried(one, self.goal) for one in self.tried],
        }  # fmt: skip


def _tried(one: Tried, goal: Goal) -> dict[str, object]:
    figures = one.judged.values
    values = None if figures is None else {aim.task: _known(value) for aim, value in zip(goal.aims, figures, strict=True)}
    return {"number": one.number, "note": one.note, "values": values, "reason": one.judged.reason, "keeps limits": not one.short}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _tested(one: Standing) -> dict[str, object]:
    tasks, gains = ({task: _figure(figure) for task, figure in figures.items()} for figures in (one.tasks, one.gains))
    return {"name": one.name, "tasks": tasks, "gains": gains}


def _figure(figure: Figure) -> dict[str, object]:
    if isinstance(figure, Undefined):
        return {"value": None, "reason": figure.reason}
    return {"value": figure.value, "low": figure.low, "high": figure.high, "reason": figure.reason}
