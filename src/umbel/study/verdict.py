"""Who is better than whom: every run of a comparison judged on the same resamples of the same test rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from umbel.data.table import Table
from umbel.evaluate.intervals import Interval, Resamples, Sampled, resample
from umbel.evaluate.judge import evaluate
from umbel.evaluate.kinds import measures
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import MARGIN, Paired, Verdict, paired, verdicts
from umbel.evaluate.unit import constant_error
from umbel.run.coldstart import section_of
from umbel.run.run import happened
from umbel.run.settings import Settings
from umbel.study.asked import Drawn, by_scenario, load_asked, units
from umbel.study.entrants import APART, TREES
from umbel.study.new_users import NewUsers
from umbel.study.seeds import LOST, Seeds, bounds
from umbel.study.seeds import Line as Line
from umbel.study.trial import ANSWERS, PREDICTIONS, Trial
from umbel.study.variants import controlled

LEFT_OUT = ("pr_auc", "ece", "calibration_ratio", "decile_slope", "r2")  # stand in a run's own report


@dataclass(frozen=True, slots=True)
class Standing:
    """One entrant, judged: per task and metric the mean over seeds with its interval over users, and what it cost.

    `draws` are the resampled values of each seed, behind the paired differences, and `valid` each seed's validation score. A seed
    whose run was lost has no value there and takes no part in means and differences. `new` is of a cold-start method.
    """

    name: str
    chosen: Mapping[str, float | int | str]
    tasks: Mapping[str, Mapping[str, Interval | Undefined]]
    seeds: Mapping[str, Mapping[str, tuple[float | None, ...]]]
    cost: Trial
    draws: Mapping[str, tuple[Sampled | Undefined, ...]] = field(repr=False)
    valid: tuple[float | None, ...] = ()
    control: str = ""
    new: NewUsers | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One entrant minus another on one task, by the task's first metric (AUC of an event, RMSE of a regression).

    `margin` is what is called equal, in the metric's unit.
    """

    task: str
    recipe: str
    against: str
    metric: str
    paired: Paired
    verdict: Verdict
    margin: float = MARGIN


@dataclass(frozen=True, slots=True)
class Comparison:
    """All entrants on the same rows, and differences: to the separate models (or the first recipe), to the width controls, to trees.

    `lines` say where each entrant's runs lie; `lost` are the runs that diverged, by name, and why. `by_size` are differences of new users
    with supports of each size, the task of each named by `umbel.run.compared.at_size`.
    """

    rows: Mapping[str, int]
    recipes: tuple[Standing, ...]
    paired: tuple[Difference, ...]
    lines: tuple[Line, ...] = ()
    lost: Mapping[str, str] = field(default_factory=dict)
    by_size: tuple[Difference, ...] = ()

    def to_json(self) -> dict[str, object]:
        """`compare.json`."""
        recipes = {one.name: _standing_to_json(one) for one in self.recipes}
        paired, by_size = ([_difference_to_json(one) for one in ones] for ones in (self.paired, self.by_size))
        sized = {"paired_by_size": by_size} if by_size else {}
        return {"rows": dict(self.rows), "recipes": recipes, "paired": paired, "lost": dict(self.lost), **sized}


def judge(table: Table, lines: tuple[Line, ...], *, resamples: int, margin: float, lost: Mapping[str, str] | None = None) -> Comparison:
    """Read every run's predictions of the test rows and compare; who lost every run is left out, and `lost` passed on.

    Users are resampled once for all entrants and seeds. Differences to one and the same entrant, over all tasks, share
    Holm's rule. The margin is of AUC and whatever has no unit; of an error in the label's unit it is so many times the error of the
    best constant on the same rows.
    """
    by = resample(table.groups("test"), resamples=resamples)
    lines = tuple(line for line in lines if line.finished)
    standings = tuple(_standing(table, line, by) for line in lines)
    units = _units(table, lines[0]) if lines else {}
    found = tuple(one for against in _references(standings) for one in _against(standings, against, margin=margin, units=units))
    return Comparison({part: len(rows) for part, rows in table.parts.items()}, standings, found, lines, lost or {})


def judge_methods(table: Table, lines: tuple[Line, ...], settings: Settings, *, lost: Mapping[str, str]) -> Comparison:
    """The same of cold-start methods: each task in each scenario stands as a task, users are drawn once for all.

    Beside it stand each one's curve over the support and its groups of users (`Standing.new`).
    `[compare] against` names the methods that the others are judged by.
    """
    standings = tuple(_method(table, line, settings) for line in lines if line.finished)
    lines = tuple(line for line in lines if line.finished)
    names = [one.name for one in standings if one.name in settings.compare.against]
    of = units(load_asked(lines[0].finished[0] / ANSWERS, table.schema)) if lines else {}
    found = tuple(one for name in names for one in _against(standings, name, margin=settings.compare.margin, units=of))
    sized = tuple(_sized(one, one.new) for one in standings if one.new is not None)
    by_size = tuple(one for name in names for one in _against(sized, name, margin=settings.compare.margin, units=of))
    return Comparison({part: len(rows) for part, rows in table.parts.items()}, standings, found, lines, lost, by_size)


def _standing(table: Table, line: Line, by: Resamples) -> Standing:
    reports = [evaluate(happened(table, "test", saved["logits"]), saved["calibrated"], by=by) for saved in map(_saved, line.finished)]
    judged: list[Drawn] = [{} for _ in reports]
    for number, task in enumerate(table.schema.judged):
        for one, report in zip(judged, reports, strict=True):
            figures = report[number].figures
            one[task.name] = {name: figures.draws[name] for name in figures.metrics if name not in LEFT_OUT}
    return _stood(line, judged)


def _method(table: Table, line: Line, settings: Settings) -> Standing:
    relevant, resamples = section_of(settings).relevant, settings.evaluate.resamples
    asked = [load_asked(folder / ANSWERS, table.schema) for folder in line.finished]
    stood = _stood(line, [by_scenario(one, relevant=relevant, resamples=resamples) for one in asked])
    return replace(stood, new=NewUsers.of(line, asked, relevant=relevant, resamples=resamples))


def _sized(one: Standing, new: NewUsers) -> Standing:
    """The same entrant with new users of each size of support as its tasks."""
    first = new.firsts()
    return replace(one, tasks={task: {name: each.mean} for task, (name, each) in first.items()},
                   draws={task: each.each for task, (_, each) in first.items()})


def _stood(line: Line, judged: list[Drawn]) -> Standing:
    """One entrant from the metrics and draws of each seed that was not lost."""
    tasks: dict[str, dict[str, Interval | Undefined]] = {}
    seeds: dict[str, dict[str, tuple[float | None, ...]]] = {}
    draws: dict[str, tuple[Sampled | Undefined, ...]] = {}
    for task, metrics in judged[0].items():
        each = {name: Seeds.of(line, [one[task][name] for one in judged]) for name in metrics}
        tasks[task] = {name: one.mean for name, one in each.items()}
        seeds[task] = {name: one.values for name, one in each.items()}
        draws[task] = next(iter(each.values())).each
    valid = tuple(None if trial is None else trial.score for trial in map(Trial.load, line.folders))
    return Standing(line.name, line.chosen, tasks, seeds, _cost(line), draws, valid, line.control)


def _saved(folder: Path) -> Mapping[str, np.ndarray]:
    with np.load(folder / PREDICTIONS) as saved:
        return dict(saved)


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


def _units(table: Table, line: Line) -> dict[str, float]:
    """Per task what the margin is of, on the test rows that it is judged on: whose run it is does not matter."""
    told = happened(table, "test", _saved(line.finished[0])["logits"])
    return {task.name: constant_error(measures(task.kind).metrics[0], told.event(task.name)[told.seen(task.name)])
            for task in table.schema.judged}  # fmt: skip


def _against(standings: tuple[Standing, ...], against: str, *, margin: float, units: Mapping[str, float]) -> Iterator[Difference]:
    base = next(one for one in standings if one.name == against)
    pairs = {(one.name, task): _pair(one, base, task) for one in standings if _meets(one, against) for task in one.draws}
    known = {key: pair for key, pair in pairs.items() if pair is not None}
    for (name, task), verdict in verdicts(known, margin=margin, units={key: units[key[1]] for key in known}).items():
        metric = next(iter(base.tasks[task]))
        yield Difference(task, name, against, metric, known[name, task], verdict, margin * units[task])


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
        task: {name: {**bounds(value), "seeds": list(one.seeds[task][name])} for name, value in metrics.items()}
        for task, metrics in one.tasks.items()
    }
    new = {} if one.new is None else one.new.to_json()
    return {"tasks": tasks, "chosen": dict(one.chosen), "cost": asdict(one.cost), **new}


def _difference_to_json(one: Difference) -> dict[str, object]:
    spread = None if isinstance(one.paired.spread, Undefined) else [one.paired.spread.low, one.paired.spread.high]
    return {
        "task": one.task, "recipe": one.recipe, "against": one.against, "metric": one.metric,
        **bounds(one.paired.mean), "seeds": list(one.paired.seeds), "spread": spread, "p": one.paired.p,
        "verdict": one.verdict.value, "margin": one.margin,
    }  # fmt: skip
