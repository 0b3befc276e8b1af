"""Who is better than whom: every run of a comparison judged on the same resamples of the same test rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from umbel.data.table import Table
from umbel.evaluate.intervals import Interval, Resamples, Sampled, resample
from umbel.evaluate.judge import evaluate
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import Paired, Verdict, average, paired, verdicts
from umbel.run.coldstart import section_of
from umbel.run.run import happened
from umbel.run.settings import Settings
from umbel.study.asked import Drawn, drawn
from umbel.study.entrants import APART, TREES
from umbel.study.trial import PREDICTIONS, Lost, Trial
from umbel.study.variants import controlled

LOST = Undefined("its training diverged")
LEFT_OUT = ("pr_auc", "ece", "calibration_ratio", "decile_slope", "r2")  # stand in a run's own report


@dataclass(frozen=True, slots=True)
class Line:
    """One entrant of a comparison, before it is judged: what was chosen for it, each seed's folder, and its width control's name."""

    name: str
    folders: tuple[Path, ...]
    chosen: Mapping[str, float | int | str] = field(default_factory=dict)
    control: str = ""

    @property
    def finished(self) -> tuple[Path, ...]:
        """The folders of runs that were not lost."""
        return tuple(folder for folder in self.folders if Lost.load(folder) is None)


@dataclass(frozen=True, slots=True)
class Standing:
    """One entrant, judged: per task and metric the mean over seeds with its interval over users, and what it cost.

    `draws` are the resampled values of each seed, behind the paired differences, and `valid` each seed's validation score. A seed
    whose run was lost has no value there and takes no part in means and differences.
    """

    name: str
    chosen: Mapping[str, float | int | str]
    tasks: Mapping[str, Mapping[str, Interval | Undefined]]
    seeds: Mapping[str, Mapping[str, tuple[float | None, ...]]]
    cost: Trial
    draws: Mapping[str, tuple[Sampled | Undefined, ...]] = field(repr=False)
    valid: tuple[float | None, ...] = ()
    control: str = ""


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
    """All entrants on the same rows, and differences: to the separate models (or the first recipe), to the width controls, to trees.

    `lines` say where each entrant's runs lie; `lost` are the runs that diverged, by name, and why.
    """

    rows: Mapping[str, int]
    recipes: tuple[Standing, ...]
    paired: tuple[Difference, ...]
    lines: tuple[Line, ...] = ()
    lost: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """`compare.json`."""
        recipes = {one.name: _standing_to_json(one) for one in self.recipes}
        paired = [_difference_to_json(one) for one in self.paired]
        return {"rows": dict(self.rows), "recipes": recipes, "paired": paired, "lost": dict(self.lost)}


def judge(table: Table, lines: tuple[Line, ...], *, resamples: int, margin: float, lost: Mapping[str, str] | None = None) -> Comparison:
    """Read every run's predictions of the test rows and compare; who lost every run is left out, and `lost` passed on.

    Users are resampled once for all entrants and seeds. Differences to one and the same entrant, over all tasks, share
    Holm's rule.
    """
    by = resample(table.groups("test"), resamples=resamples)
    lines = tuple(line for line in lines if line.finished)
    standings = tuple(_standing(table, line, by) for line in lines)
    found = tuple(one for against in _references(standings) for one in _against(standings, against, margin))
    return Comparison({part: len(rows) for part, rows in table.parts.items()}, standings, found, lines, lost or {})


def judge_methods(table: Table, lines: tuple[Line, ...], settings: Settings, *, lost: Mapping[str, str]) -> Comparison:
    """The same of cold-start methods: each task in each scenario stands as a task, users are drawn once for all.

    `[compare] against` names the methods that the others are judged by.
    """
    lines = tuple(line for line in lines if line.finished)
    draws = partial(drawn, table, relevant=section_of(settings).relevant, resamples=settings.evaluate.resamples)
    standings = tuple(_stood(line, [draws(folder / PREDICTIONS) for folder in line.finished]) for line in lines)
    names = [one.name for one in standings if one.name in settings.compare.against]
    found = tuple(one for name in names for one in _against(standings, name, settings.compare.margin))
    return Comparison({part: len(rows) for part, rows in table.parts.items()}, standings, found, lines, lost)


def _standing(table: Table, line: Line, by: Resamples) -> Standing:
    reports = [evaluate(happened(table, "test", saved["logits"]), saved["calibrated"], by=by) for saved in map(_saved, line.finished)]
    judged: list[Drawn] = [{} for _ in reports]
    for number, task in enumerate(table.schema.judged):
        for one, report in zip(judged, reports, strict=True):
            figures = report[number].figures
            one[task.name] = {name: figures.draws[name] for name in figures.metrics if name not in LEFT_OUT}
    return _stood(line, judged)


def _stood(line: Line, judged: list[Drawn]) -> Standing:
    """One entrant from the metrics and draws of each seed that was not lost."""
    tasks: dict[str, dict[str, Interval | Undefined]] = {}
    seeds: dict[str, dict[str, tuple[float | None, ...]]] = {}
    draws: dict[str, tuple[Sampled | Undefined, ...]] = {}
    for task, metrics in judged[0].items():
        each = {name: _by_seed(line, [one[task][name] for one in judged]) for name in metrics}
        tasks[task] = {name: _mean(values) for name, values in each.items()}
        seeds[task] = {name: tuple(_value(one) for one in values) for name, values in each.items()}
        draws[task] = next(iter(each.values()))
    valid = tuple(None if trial is None else trial.score for trial in map(Trial.load, line.folders))
    return Standing(line.name, line.chosen, tasks, seeds, _cost(line), draws, valid, line.control)


def _saved(folder: Path) -> Mapping[str, np.ndarray]:
    with np.load(folder / PREDICTIONS) as saved:
        return dict(saved)


def _by_seed(line: Line, judged: list[Sampled | Undefined]) -> tuple[Sampled | Undefined, ...]:
    """In the order of seeds, lost ones included."""
    left = iter(judged)
    return tuple(next(left) if folder in line.finished else LOST for folder in line.folders)


def _mean(values: tuple[Sampled | Undefined, ...]) -> Interval | Undefined:
    unknown = [one for one in values if isinstance(one, Undefined) and one != LOST]
    return unknown[0] if unknown else average([one for one in values if isinstance(one, Sampled)]).interval()


def _value(one: Sampled | Undefined) -> float | None:
    return one.value if isinstance(one, Sampled) else None


def _cost(line: Line) -> Trial:
    """The mean over seeds; the memory of the largest, and all steps that were lost."""
    trials = [trial for trial in map(Trial.load, line.folders) if trial is not None]
    return Trial(
        score=float(np.mean([one.score for one in trials])),
        parameters=trials[0].parameters,
        seconds=float(np.mean([one.seconds for one in trials])),
        rows_per_second=float(np.mean([one.rows_per_second for one in trials])),
        peak_memory_bytes=max(one.peak_memory_bytes for one in trials),
        lost_steps=sum(one.lost_steps for one in trials),
    )


def _references(standings: tuple[Standing, ...]) -> Iterator[str]:
    """Separate models, without them the first of several recipes; then each width control; then trees, with target means if there are."""
    names = [one.name for one in standings]
    recipes = [name for name in names if not controlled(name) and name not in TREES]
    if APART in recipes or len(recipes) > 1:
        yield APART if APART in recipes else recipes[0]
    yield from (name for name in names if controlled(name))
    yield from [name for name in TREES if name in names][-1:]


def _against(standings: tuple[Standing, ...], against: str, margin: float) -> Iterator[Difference]:
    base = next(one for one in standings if one.name == against)
    pairs = {(one.name, task): _pair(one, base, task) for one in standings if _meets(one, against) for task in one.draws}
    known = {key: pair for key, pair in pairs.items() if pair is not None}
    for (name, task), verdict in verdicts(known, margin=margin).items():
        metric = next(iter(base.tasks[task]))
        yield Difference(task, name, against, metric, known[name, task], verdict)


def _meets(one: Standing, against: str) -> bool:
    """A width control meets those whose views it is as wide as; the others meet everyone."""
    return one.control == against if controlled(against) else one.name != against


def _pair(one: Standing, base: Standing, task: str) -> Paired | None:
    """Over the seeds that neither lost; None where there is none, or one has no value."""
    both = [pair for pair in zip(one.draws[task], base.draws[task], strict=True) if LOST not in pair]
    known = [(left, right) for left, right in both if isinstance(left, Sampled) and isinstance(right, Sampled)]
    return paired(*zip(*known, strict=True)) if known and len(known) == len(both) else None


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
