"""The judge: a model's figures per task and slice, on the conditional and the marginal, and the one number that stops training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from umbel.evaluate import metrics
from umbel.evaluate.calibrate import Calibrator, cross_fitted, fit_calibrator
from umbel.evaluate.figures import METRICS, REGRESSION_METRICS, Figures, Rows, binary_figures, regression_figures
from umbel.evaluate.intervals import Interval, Resamples, resample
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.slices import Worst, cut, too_small, worst
from umbel.schema import BINARY, Schema, Task


@dataclass(frozen=True, slots=True)
class Predictions:
    """A model's logits on the rows of one part, beside what happened: plain events, which were observed, raw users.

    An event is plain: `buy` is 0 where there was no click, not unseen. Unobserved labels may hold anything.
    """

    schema: Schema
    logits: Float[np.ndarray, "rows outputs"]
    events: Float[np.ndarray, "rows tasks"]
    observed: Bool[np.ndarray, "rows tasks"]
    groups: Int[np.ndarray, "rows"]

    def output(self, name: str) -> Float[np.ndarray, "rows"]:
        """The first output of that task: its logit, or a regression's prediction."""
        return self.logits[:, self.schema.outputs[self.place(name)].start]

    def event(self, name: str) -> Float[np.ndarray, "rows"]:
        """The task's plain event; 0 where it was not observed."""
        at = self.place(name)
        return np.where(self.observed[:, at], self.events[:, at], 0.0)

    def seen(self, name: str) -> Bool[np.ndarray, "rows"]:
        """Rows of the conditional: the label observed, and every event of its chain observed and 1."""
        *before, last = self.schema.chain(name)
        holds = self.observed[:, self.place(last)]
        for step in before:
            holds = holds & self.observed[:, self.place(step)] & (self.events[:, self.place(step)] == 1)
        return holds

    def settled(self, name: str) -> Bool[np.ndarray, "rows"]:
        """Rows of the marginal: the label observed, or an event of its chain observed and 0, after which it cannot happen."""
        *before, last = self.schema.chain(name)
        known = self.observed[:, self.place(last)].copy()
        for step in before:
            known |= self.observed[:, self.place(step)] & (self.events[:, self.place(step)] == 0)
        return known

    def place(self, name: str) -> int:
        """The task's number."""
        return [task.name for task in self.schema.tasks].index(name)


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One task: its figures on the rows where `given` holds (all rows without one), and its marginal on all rows.

    `slices` are the same figures as `figures`, per slice and label; `worst` the label with the lowest AUC (the highest
    RMSE of a regression) among those with enough rows, or why there is none.
    """

    name: str
    kind: str
    given: str | None
    figures: Figures
    marginal: Figures | None
    slices: Mapping[str, Mapping[str, Figures]]
    worst: Worst | Undefined


def evaluate(
    predictions: Predictions,
    calibrated: Float[np.ndarray, "rows tasks"],
    *,
    slices: Mapping[str, np.ndarray] | None = None,
    by: Resamples | None = None,
) -> tuple[TaskReport, ...]:
    """Every task's report, in schema order; an auxiliary task has none.

    AUC, GAUC and PR-AUC read the logits (a marginal's are `schema.marginal`); the other metrics read `calibrated` (from
    `calibrate_all`, or `cross_calibrated` on the part calibrators were fitted on), a marginal's being the product along
    its chain. `slices` maps a name to a label per row; `by` are the draws behind the intervals
    (`resample(groups)` if None).
    """
    draws = resample(predictions.groups) if by is None else by
    labels = {name: cut(values) for name, values in (slices or {}).items()}
    return tuple(_task_report(predictions, calibrated, task, slices=labels, by=draws) for task in predictions.schema.judged)


def fit_calibrators(predictions: Predictions) -> dict[str, Calibrator]:
    """One calibrator a task, fitted where its conditional is seen."""
    found = {}
    for task in predictions.schema.tasks:
        seen = predictions.seen(task.name)
        found[task.name] = fit_calibrator(predictions.output(task.name)[seen], predictions.event(task.name)[seen], kind=task.kind)
    return found


def calibrate_all(
    schema: Schema, logits: Float[np.ndarray, "rows outputs"], calibrators: Mapping[str, Calibrator]
) -> Float[np.ndarray, "rows tasks"]:
    """Each task's calibrated conditional probability (or prediction), row by row."""
    columns = [calibrators[task.name](logits[:, part.start]) for task, part in zip(schema.tasks, schema.outputs, strict=True)]
    return np.stack(columns, axis=1)


def cross_calibrated(predictions: Predictions, *, folds: int = 5) -> Float[np.ndarray, "rows tasks"]:
    """The same for the rows calibrators are fitted on: every row's come from other users (see `cross_fitted`)."""
    columns = [
        cross_fitted(
            predictions.output(task.name),
            predictions.event(task.name),
            predictions.groups,
            use=predictions.seen(task.name),
            kind=task.kind,
            folds=folds,
        )
        for task in predictions.schema.tasks
    ]
    return np.stack(columns, axis=1)


def marginals(schema: Schema, calibrated: Float[np.ndarray, "rows tasks"], name: str) -> Float[np.ndarray, "rows"]:
    """p(task) on any row: the product of calibrated conditionals along its chain, summed as logarithms."""
    at = [[task.name for task in schema.tasks].index(step) for step in schema.chain(name)]
    chance: Float[np.ndarray, "rows"] = np.exp(np.log(calibrated[:, at]).sum(axis=1))
    return chance


def mean_auc(
    schema: Schema,
    labels: Float[np.ndarray, "rows tasks"],
    seen: Bool[np.ndarray, "rows tasks"],
    *,
    logits: Float[np.ndarray, "rows outputs"],
) -> float | Undefined:
    """The mean over tasks of AUC (R2 for a regression: also without a unit, also higher is better).

    A task whose figure is undefined is left out, and an auxiliary one is; if all are, the reason of each is given.
    """
    values: dict[str, float | Undefined] = {}
    for at, (task, part) in enumerate(zip(schema.tasks, schema.outputs, strict=True)):
        if task.auxiliary:
            continue
        rows, metric = seen[:, at], metrics.auc if task.kind is BINARY else metrics.r2
        values[task.name] = metric(labels[rows, at], logits[rows, part.start])
    known = [value for value in values.values() if isinstance(value, float)]
    if known:
        return float(np.mean(known))
    return Undefined("; ".join(f"{name}: {value.reason}" for name, value in values.items() if isinstance(value, Undefined)))


def headline(report: TaskReport) -> Interval | Undefined:
    """The metric a task is judged by: AUC, or RMSE for a regression."""
    return next(iter(report.figures.metrics.values()))


def _task_report(
    predictions: Predictions,
    calibrated: Float[np.ndarray, "rows tasks"],
    task: Task,
    *,
    slices: Mapping[str, Mapping[str, Bool[np.ndarray, "rows"]]],
    by: Resamples,
) -> TaskReport:
    measure = binary_figures if task.kind is BINARY else regression_figures
    at, seen = predictions.place(task.name), predictions.seen(task.name)
    rows = Rows(predictions.event(task.name), predictions.output(task.name), calibrated[:, at], predictions.groups, by)
    marginal = None
    if task.given is not None and task.kind is BINARY:
        chance = marginals(predictions.schema, calibrated, task.name)
        ranked = predictions.schema.marginal(predictions.logits, task.name)
        whole = Rows(rows.labels, ranked, chance, predictions.groups, by)
        marginal = measure(whole.where(np.flatnonzero(predictions.settled(task.name))))
    per_slice = {
        name: {label: _slice_figures(rows.where(np.flatnonzero(seen & mask)), measure) for label, mask in masks.items()}
        for name, masks in slices.items()
    }
    figures = measure(rows.where(np.flatnonzero(seen)))
    return TaskReport(task.name, task.kind.name, task.given, figures, marginal, per_slice, worst(per_slice))


def _slice_figures(rows: Rows, measure: Callable[[Rows], Figures]) -> Figures:
    """A slice's figures; one too small for them keeps its counts and says so."""
    positives = int(rows.labels.sum()) if measure is binary_figures else None
    small = too_small(len(rows.labels), positives)
    if small is None:
        return measure(rows)
    names = REGRESSION_METRICS if positives is None else METRICS
    return Figures(len(rows.labels), rows.by.users, positives, dict.fromkeys(names, small))
