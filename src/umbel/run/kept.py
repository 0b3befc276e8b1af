"""Which epoch a run kept and why, and for each task its own best epoch and how much better it knows rows it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from umbel.chosen import spell
from umbel.learn.history import Scores, number, peak
from umbel.learn.keep import Keep


@dataclass(frozen=True, slots=True)
class Fared:
    """One task: its own best epoch (from 1), and its scores of the kept weights on validation and on as many training rows.

    The scores are those that training goes by (AUC of an event); None where there is none.
    """

    best: int | None
    valid: float | None
    train: float | None

    @property
    def gap(self) -> float | None:
        """Training minus validation: what was learned by heart, or has changed since."""
        return None if self.valid is None or self.train is None else self.train - self.valid


@dataclass(frozen=True, slots=True)
class Kept:
    """The rule (as a run file spells it), the epoch that it kept (from 1) and why, the epochs it chose among, and each task."""

    rule: str | dict[str, object]
    epoch: int
    why: str
    among: tuple[int, ...]
    tasks: Mapping[str, Fared]

    @staticmethod
    def of(rule: Keep, history: Sequence[Scores], *, train: Scores) -> Kept:
        """From every epoch's scores, and those of the kept weights on training rows."""
        best, among = rule.best(history), rule.contenders(history)
        tasks = {task: Fared(_peak(history, task), value, train.get(task)) for task, value in history[best].items()}
        return Kept(spell(rule), best + 1, rule.why(history), tuple(epoch + 1 for epoch in among), tasks)

    def to_json(self) -> dict[str, object]:
        """Plain JSON; what cannot be had is null."""
        return asdict(self) | {"among": list(self.among)}

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> Kept:
        """What `to_json` wrote."""
        rest = {"among": tuple(saved["among"]), "tasks": {task: Fared(**one) for task, one in saved["tasks"].items()}}
        return Kept(**{**saved, **rest})


def _peak(history: Sequence[Scores], task: str) -> int | None:
    series = [number(scores, task) for scores in history]
    return peak(series) + 1 if any(scores.get(task) is not None for scores in history) else None
