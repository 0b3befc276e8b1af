"""What a finished trial came to, and the objectives that read it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from umbel import durable
from umbel.errors import UserError, nearest
from umbel.study.trial import Trial

FILE = "outcome.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trial on validation: what it cost, each task's score in the kept epoch (None where undefined), ms for 200 rows on one thread."""

    trial: Trial
    tasks: Mapping[str, float | None]
    epochs: int
    latency: float

    @property
    def mean(self) -> float | None:
        """The mean over the tasks that have a score."""
        known = [score for score in self.tasks.values() if score is not None]
        return fmean(known) if known else None

    def save(self, folder: Path) -> None:
        """Write `outcome.json`: the sign that the trial is finished."""
        durable.write(folder / FILE, json.dumps(asdict(self)))

    @staticmethod
    def of(saved: Mapping[str, object]) -> Outcome:
        """Back from JSON."""
        known: dict[str, object] = dict(saved)
        return Outcome(**{**known, "trial": Trial(**known["trial"])})  # type: ignore[arg-type]

    @staticmethod
    def load(folder: Path) -> Outcome | None:
        """The outcome in a folder, if its trial is finished."""
        path = folder / FILE
        return Outcome.of(json.loads(path.read_text())) if path.exists() else None


@dataclass(frozen=True, slots=True)
class Objective:
    """One number of an outcome, and whether more of it is better."""

    name: str
    rises: bool
    of: Callable[[Outcome], float | None]

    def better(self, one: float, other: float) -> bool:
        """Whether the first is better than the second."""
        return one > other if self.rises else one < other


MEAN = Objective("mean", True, lambda outcome: outcome.mean)
COSTS = (
    Objective("latency", False, lambda outcome: outcome.latency),
    Objective("parameters", False, lambda outcome: outcome.trial.parameters),
)


def objectives(names: Iterable[str], tasks: Iterable[str]) -> tuple[Objective, ...]:
    """The objectives of a run file by name: `mean` of the tasks' scores, the score of a task, `latency`, `parameters`.

    The words come before tasks of the same name.

    :raises UserError: for a name that is none of them, or stands there twice.
    """
    known = {task: Objective(task, True, _score(task)) for task in tasks} | {one.name: one for one in (MEAN, *COSTS)}
    asked = tuple(names)
    for at, name in enumerate(asked):
        if name not in known:
            raise UserError(f"tune.objectives: no {name!r}", mend=nearest(name, known))
        if name in asked[:at]:
            raise UserError(f"tune.objectives: {name!r} stands there twice", mend="name each once")
    return tuple(known[name] for name in asked)


def _score(task: str) -> Callable[[Outcome], float | None]:
    return lambda outcome: outcome.tasks.get(task)
