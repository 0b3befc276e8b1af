"""A run's report: what was run, what came of it, and `report.json` to and from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from umbel.data.aside import Aside
from umbel.errors import UserError
from umbel.evaluate.judge import TaskReport
from umbel.run.kept import Kept
from umbel.run.record import task_from_json, task_to_json


@dataclass(frozen=True, slots=True)
class Moment:
    """One epoch: each task's mean training loss and, with a balancer, weight (schema order), rows and seconds.

    `scores` are each task's on validation, `score` the number that the rule which keeps an epoch makes of them. `compile_seconds` are
    those in which the model was compiled, which `seconds` do not count.
    """

    epoch: int
    losses: tuple[float | None, ...]
    score: float | None
    rows: int
    seconds: float
    weights: tuple[float | None, ...] = ()
    scores: Mapping[str, float | None] = field(default_factory=dict)
    compile_seconds: float = 0.0

    @staticmethod
    def of(line: Mapping[str, object]) -> Moment:
        """From a line of `log.jsonl`; a number that is not finite becomes None."""
        epoch, losses, score, rows, seconds = (line[key] for key in ("epoch", "losses", "score", "rows", "seconds"))
        weights, scores, compiling = line.get("weights", ()), line.get("scores", {}), line.get("compile_seconds", 0.0)
        assert isinstance(scores, Mapping)
        assert isinstance(losses, list | tuple)
        assert isinstance(weights, list | tuple)
        assert isinstance(seconds, int | float)
        assert isinstance(compiling, int | float)
        own, weighed = tuple(_finite(loss) for loss in losses), tuple(_finite(weight) for weight in weights)
        return Moment(int(str(epoch)), own, _finite(score), int(str(rows)), float(seconds), weighed, dict(scores), float(compiling))

    def to_json(self) -> dict[str, object]:
        """The line again; no weights where there was no balancer, no scores where none were told, no seconds of compiling without."""
        told = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {key: value for key, value in told.items() if value or key not in ("weights", "scores", "compile_seconds")}


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a run leaves to read; `to_json` is `report.json`.

    `rows` are counts of train, valid and test; `tasks` are judged on test, `validation` on validation (cross-fitted).
    `parameters` counts weights, embeddings included; `rows_per_second` is training's, once compiled; `settings` is the resolved run
    file, `versions` those of the libraries; `kept` is the epoch whose weights these are, and by which rule.
    `aside` counts what is odd about the log's rows: those left out, without a user, or against their `given`.
    `until` is the time of the latest training row, in the unit of `umbel.data.table.Table.times`.
    `peak_memory_bytes` are those of the process that held the most.
    `episodes`, of a run that adapts to new users, is what `umbel.run.newcomers` tells of them; `retrieval` what `umbel.run.recalls` does.
    """

    recipe: str
    seed: int
    rows: Mapping[str, int]
    tasks: tuple[TaskReport, ...]
    parameters: int
    seconds: float
    rows_per_second: float
    peak_memory_bytes: int
    validation: tuple[TaskReport, ...] = ()
    history: tuple[Moment, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    kept: Kept | None = None
    until: int | None = None
    aside: Aside = field(default_factory=Aside)
    episodes: Mapping[str, object] = field(default_factory=dict)
    retrieval: Mapping[str, object] = field(default_factory=dict)

    @property
    def compile_seconds(self) -> float:
        """How long the model was compiled, in all processes that trained it one after the other."""
        return sum(moment.compile_seconds for moment in self.history)

    def to_json(self) -> dict[str, object]:
        """Plain JSON; a metric that cannot be had is null beside its reason."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {
            **plain,
            "compile_seconds": self.compile_seconds,
            "tasks": {task.name: task_to_json(task) for task in self.tasks},
            "validation": {task.name: task_to_json(task) for task in self.validation},
            "history": [moment.to_json() for moment in self.history],
            "kept": None if self.kept is None else self.kept.to_json(),
            "until": self.until,
            **self.aside.to_json(),
            **({"episodes": dict(self.episodes)} if self.episodes else {}),
            **({"retrieval": dict(self.retrieval)} if self.retrieval else {}),
        }

    @staticmethod
    def from_json(saved: Mapping[str, object], *, where: str = "report") -> Report:
        """The report `to_json` wrote; :raises UserError: that names `where` if a part is missing or of another shape."""
        try:
            tasks, validation, history = (saved[name] for name in ("tasks", "validation", "history"))
            assert isinstance(tasks, dict)
            assert isinstance(validation, dict)
            assert isinstance(history, list)
            plain: dict[str, Any] = {name: saved[name] for name in _PLAIN}
            return Report(
                **plain,
                tasks=tuple(task_from_json(name, task) for name, task in tasks.items()),
                validation=tuple(task_from_json(name, task) for name, task in validation.items()),
                history=tuple(Moment.of(line) for line in history),
                kept=Kept.from_json(kept) if isinstance(kept := saved.get("kept"), Mapping) else None,
                until=until if isinstance(until := saved.get("until"), int) else None,
                aside=Aside.from_json(saved),
                episodes=episodes if isinstance(episodes := saved.get("episodes"), Mapping) else {},
                retrieval=retrieval if isinstance(retrieval := saved.get("retrieval"), Mapping) else {},
            )
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            raise UserError(f"{where}: not one of ours ({error!r})", mend="make it again with umbel train") from error


def read_report(path: Path) -> Report:
    """The report in a file; :raises UserError: if there is none, or it is broken."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such report", mend="give the folder of a finished run") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({error})", mend="make it again with umbel train") from error
    return Report.from_json(saved if isinstance(saved, dict) else {}, where=str(path))


_PLAIN = ("recipe", "seed", "rows", "parameters", "seconds", "rows_per_second", "peak_memory_bytes", "settings", "versions", "commit")


def _finite(number: object) -> float | None:
    return float(number) if isinstance(number, int | float) and math.isfinite(number) else None
