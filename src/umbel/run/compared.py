"""What `compare.json` says, read back: who took part, what each came to, and the differences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from umbel.errors import UserError
from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined
from umbel.run import markup as html
from umbel.run.names import FALLS

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Across:
    """A number over seeds as `compare.json` has it: mean, bounds over users, each seed's value."""

    mean: float | None
    low: float | None = None
    high: float | None = None
    seeds: Sequence[float | None] = ()
    reason: str = ""

    @property
    def measured(self) -> Interval | Undefined:
        """The same as an interval, or why there is none."""
        return Undefined(self.reason) if self.mean is None else Interval(self.mean, self.low, self.high, self.reason)

    @property
    def note(self) -> str:
        """The value of each seed."""
        return "seeds " + ", ".join("—" if value is None else html.number(value) for value in self.seeds) if self.seeds else ""


@dataclass(frozen=True, slots=True)
class Size:
    """New users with a support of one size: how many, their query rows, and each task's numbers; none of these, and why."""

    users: int
    rows: int
    tasks: Mapping[str, Mapping[str, Across]]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Entrant:
    """One recipe of `compare.json`: numbers per task and metric, what was chosen for it on validation, what it cost.

    Of a cold-start method also the `curve` over sizes of the support, and `groups` of users by task and grouping, as a report has them.
    """

    name: str
    tasks: Mapping[str, Mapping[str, Across]]
    chosen: Mapping[str, object] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    curve: Mapping[int, Size] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)

    @property
    def control(self) -> bool:
        """Whether it stands in only for its width: a shared view as wide as another recipe's views together."""
        return re.fullmatch(rf"(.+, )?{re.escape(str(self.chosen.get('recipe', self.name)))} x\d+", self.name) is not None


@dataclass(frozen=True, slots=True)
class Pair:
    """One difference of `compare.json`: `recipe` minus `against` on a task, with its verdict, and within which `margin` it were equal."""

    task: str
    recipe: str
    against: str
    metric: str
    mean: float
    low: float | None
    high: float | None
    seeds: Sequence[float]
    spread: Sequence[float] | None
    p: float
    verdict: str
    reason: str = ""
    margin: float | None = None

    @property
    def better(self) -> bool | None:
        """Whether `recipe` is better, or None where nothing can be said."""
        return None if self.verdict not in ("higher", "lower") else (self.verdict == "lower") == (self.metric in FALLS)


def at_size(task: str, shots: int) -> str:
    """What a task is called in a difference of new users with a support of one size."""
    return f"{task}, {shots} known"


@dataclass(frozen=True, slots=True)
class Compared:
    """All of `compare.json`: who took part, the differences, those of new users by the size of the support, the rows of each part."""

    entrants: Sequence[Entrant]
    pairs: Sequence[Pair]
    by_size: Sequence[Pair]
    rows: Mapping[str, int]

    @staticmethod
    def of(saved: Mapping[str, object]) -> Compared:
        """What was read from the file; :raises UserError: if it is of another shape."""
        try:
            recipes, rows = saved["recipes"], saved.get("rows", {})
            assert isinstance(recipes, dict)
            assert isinstance(rows, dict)
            paired, by_size = (_pairs(saved.get(key, [])) for key in ("paired", "paired_by_size"))
            return Compared([_entrant(name, entry) for name, entry in recipes.items()], paired, by_size, rows)
        except (AssertionError, AttributeError, KeyError, TypeError) as error:
            raise UserError(f"comparison: not one of ours ({error!r})", mend="make it again with umbel compare") from error

    @property
    def tasks(self) -> list[str]:
        """Every task that an entrant has a figure of."""
        return list(dict.fromkeys(task for one in self.entrants for task in one.tasks))


def _pairs(saved: object) -> list[Pair]:
    assert isinstance(saved, list)
    return [Pair(**pair) for pair in saved]


def _entrant(name: str, saved: Json) -> Entrant:
    curve = {int(shots): Size(**{**one, "tasks": _cells(one["tasks"] or {})}) for shots, one in saved.get("curve", {}).items()}
    tasks, chosen, cost, groups = (saved.get(key, {}) for key in ("tasks", "chosen", "cost", "groups"))
    return Entrant(name, _cells(tasks), chosen, cost, curve, groups)


def _cells(saved: Mapping[str, Mapping[str, Json]]) -> dict[str, dict[str, Across]]:
    return {task: {metric: Across(**cell) for metric, cell in cells.items()} for task, cells in saved.items()}
