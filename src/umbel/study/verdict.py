"""Who is better than whom: every run of a comparison judged on the same resamples of the same test rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from umbel.data.table import Table
from umbel.evaluate.intervals import Interval, Resamples, Sampled, resample
from umbel.evaluate.judge import evaluate
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import Paired, Verdict, average, paired, verdicts
from umbel.run.run import happened
from umbel.study.entrants import CONTROLS, TREES
from umbel.study.trial import Trial

LEFT_OUT = ("pr_auc", "ece", "calibration_ratio", "r2")  # stand in a run's own report


@dataclass(frozen=True, slots=True)
class Line:
    """One entrant of a comparison, before it is judged: what was chosen for it, and the folder of each seed's run."""

    name: str
    folders: tuple[Path, ...]
    chosen: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """One entrant, judged: per task and metric the mean over seeds with its interval over users, and what it cost.

    `draws` are the resampled values of each seed, behind the paired differences.
    """

    name: str
    chosen: Mapping[str, float | int | str]
    tasks: Mapping[str, Mapping[str, Interval | Undefined]]
    seeds: Mapping[str, Mapping[str, tuple[float | None, ...]]]
    cost: Trial
    draws: Mapping[str, tuple[Sampled | Undefined, ...]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Difference:
    """One entrant minus another on one task, by the task's first metric (AUC of an event, RMSE of a regression)."""

    task: str
    recipe: str
    against: str
    metric: str
    paired: Paired
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """All entrants on the same rows, and the differences that were asked: to the separate models, to the width controls, to trees.

    `lines` say where each entrant's runs lie.
    """

    rows: Mapping[str, int]
    recipes: tuple[Standing, ...]
    paired: tuple[Difference, ...]
    lines: tuple[Line, ...] = ()

    def to_json(self) -> dict[str, object]:
        """`compare.json`."""
        recipes = {one.name: _standing_to_json(one) for one in self.recipes}
        return {"rows": dict(self.rows), "recipes": recipes, "paired": [_difference_to_json(one) for one in self.paired]}


def judge(table: Table, lines: tuple[Line, ...], *, resamples: int, margin: float) -> Comparison:
    """Read every run's predictions of the test rows and compare.

    Users are resampled once for all entrants and seeds. Differences to one and the same entrant, over all tasks, share
    Holm's rule.
    """
    by = resample(table.groups("test"), resamples=resamples)
    standings = tuple(_standing(table, line, by) for line in lines)
    found = tuple(one for against in _references(standings) for one in _against(standings, against, margin))
    return Comparison({part: len(rows) for part, rows in table.parts.items()}, standings, found, lines)


def _standing(table: Table, line: Line, by: Resamples) -> Standing:
    reports = [evaluate(happened(table, "test", saved["logits"]), saved["calibrated"], by=by) for saved in map(_saved, line.folders)]
    tasks: dict[str, dict[str, Interval | Undefined]] = {}
    seeds: dict[str, dict[str, tuple[float | None, ...]]] = {}
    draws: dict[str, tuple[Sampled | Undefined, ...]] = {}
    for number, task in enumerate(table.schema.judged):
        figures = [report[number].figures for report in reports]
        names = [name for name in figures[0].metrics if name not in LEFT_OUT]
        each = {name: tuple(one.draws[name] for one in figures) for name in names}
        tasks[task.name] = {name: _mean(values) for name, values in each.items()}
        seeds[task.name] = {name: tuple(_value(one) for one in values) for name, values in each.items()}
        draws[task.name] = each[names[0]]
    return Standing(line.name, line.chosen, tasks, seeds, _cost(line), draws)


def _saved(folder: Path) -> Mapping[str, np.ndarray]:
    with np.load(folder / "predictions.npz") as saved:
        return dict(saved)


def _mean(values: tuple[Sampled | Undefined, ...]) -> Interval | Undefined:
    known = [one for one in values if isinstance(one, Sampled)]
    return average(known).interval() if len(known) == len(values) else next(one for one in values if isinstance(one, Undefined))


def _value(one: Sampled | Undefined) -> float | None:
    return one.value if isinstance(one, Sampled) else None


def _cost(line: Line) -> Trial:
    """The mean over seeds; the memory of the largest."""
    trials = [trial for trial in map(Trial.load, line.folders) if trial is not None]
    return Trial(
        score=float(np.mean([one.score for one in trials])),
        parameters=trials[0].parameters,
        seconds=float(np.mean([one.seconds for one in trials])),
        rows_per_second=float(np.mean([one.rows_per_second for one in trials])),
        peak_memory_bytes=max(one.peak_memory_bytes for one in trials),
    )


def _references(standings: tuple[Standing, ...]) -> Iterator[str]:
    """Separate models first, then each width control, then trees with target means."""
    names = [one.name for one in standings]
    yield from (name for name in names if name == "alone")
    yield from (name for name in names if " x" in name)
    yield from (name for name in names if name == TREES[1])


def _against(standings: tuple[Standing, ...], against: str, margin: float) -> Iterator[Difference]:
    base = next(one for one in standings if one.name == against)
    pairs = {(one.name, task): _pair(one, base, task) for one in standings if _meets(one.name, against) for task in one.draws}
    known = {key: pair for key, pair in pairs.items() if pair is not None}
    for (name, task), verdict in verdicts(known, margin=margin).items():
        metric = next(iter(base.tasks[task]))
        yield Difference(task, name, against, metric, known[name, task], verdict)


def _meets(name: str, against: str) -> bool:
    """A width control meets the recipes it controls; the others meet everyone."""
    if " x" not in against:
        return name != against
    recipe = against.split(" x")[0]
    return CONTROLS.get(name) == recipe


def _pair(one: Standing, base: Standing, task: str) -> Paired | None:
    left = [draw for draw in one.draws[task] if isinstance(draw, Sampled)]
    right = [draw for draw in base.draws[task] if isinstance(draw, Sampled)]
    return paired(left, right) if len(left) == len(right) == len(one.draws[task]) else None


def _standing_to_json(one: Standing) -> dict[str, object]:
    tasks = {
        task: {name: {**_bounds(value), "seeds": list(one.seeds[task][name])} for name, value in metrics.items()}
        for task, metrics in one.tasks.items()
    }
    return {"tasks": tasks, "chosen": dict(one.chosen), "cost": asdict(one.cost)}


def _bounds(value: Interval | Undefined) -> dict[str, object]:
    if isinstance(value, Undefined):
        return {"mean": None, "low": None, "high": None, "reason": value.reason}
    return {"mean": value.value, "low": value.low, "high": value.high}


def _difference_to_json(one: Difference) -> dict[str, object]:
    spread = None if isinstance(one.paired.spread, Undefined) else [one.paired.spread.low, one.paired.spread.high]
    return {
        "task": one.task, "recipe": one.recipe, "against": one.against, "metric": one.metric,
        **_bounds(one.paired.mean), "seeds": list(one.paired.seeds), "spread": spread, "p": one.paired.p, "verdict": one.verdict.value,
    }  # fmt: skip
