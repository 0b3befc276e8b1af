"""The judge: a model's figures per task and slice, on the conditional and the marginal, and the one number that stops training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from umbel.evaluate.calibrate import Calibrator
from umbel.evaluate.crossfit import cross_fitted, fit_calibrator
from umbel.evaluate.figures import Figures, Rows
from umbel.evaluate.intervals import Interval, Resamples, resample
from umbel.evaluate.kinds import Measures, answers, measures
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.slices import Worst, cut, too_small, worst
from umbel.kinds import BINARY
from umbel.schema import Schema, Task


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

    def answers(self, name: str) -> Float[np.ndarray, "rows *answers"]:
        """What the calibration of that task starts from: its output, or the answers of its kind."""
        at = self.place(name)
        return answers(self.schema.tasks[at].kind, self.logits[:, self.schema.outputs[at]])

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

    `slices` are the same figures as `figures`, per slice and label; `worst` the label with the worst first metric (the lowest
    AUC, the highest RMSE) among those with enough rows, or why there is none.
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
    calibrated: Float[np.ndarray, "rows answers"],
    *,
    slices: Mapping[str, np.ndarray] | None = None,
    by: Resamples | None = None,
) -> tuple[TaskReport, ...]:
    """Every task's report, in schema order; an auxiliary task has none.

    AUC, GAUC and PR-AUC of a task read its logits; all other metrics, and all of a marginal, read `calibrated` (from
    `calibrate_all`, or `cross_calibrated` on the part calibrators were fitted on), a marginal's being the product along
    its chain (calibration keeps the order of each factor, not that of their product). `slices` maps a name to a label per
    row; `by` are the draws behind the intervals (`resample(groups)` if None).
    """
    draws = resample(predictions.groups) if by is None else by
    labels = {name: cut(values) for name, values in (slices or {}).items()}
    return tuple(_task_report(predictions, calibrated, task, slices=labels, by=draws) for task in predictions.schema.judged)


def fit_calibrators(predictions: Predictions) -> dict[str, Calibrator]:
    """One calibrator a task, fitted where its conditional is seen."""
    found = {}
    for task in predictions.schema.tasks:
        seen = predictions.seen(task.name)
        found[task.name] = fit_calibrator(predictions.answers(task.name)[seen], predictions.event(task.name)[seen], kind=task.kind)
    return found


def calibrate_all(
    schema: Schema, logits: Float[np.ndarray, "rows outputs"], calibrators: Mapping[str, Calibrator]
) -> Float[np.ndarray, "rows answers"]:
    """Each task's calibrated answers (a conditional probability, a prediction, quantiles, chances), row by row."""
    columns = [calibrators[task.name](answers(task.kind, logits[:, part])) for task, part in zip(schema.tasks, schema.outputs, strict=True)]
    return np.column_stack(columns)


def cross_calibrated(predictions: Predictions, *, folds: int = 5) -> Float[np.ndarray, "rows answers"]:
    """The same for the rows calibrators are fitted on: every row's come from other users (see `cross_fitted`)."""
    columns = [
        cross_fitted(
            predictions.answers(task.name),
            predictions.event(task.name),
            predictions.groups,
            use=predictions.seen(task.name),
            kind=task.kind,
            folds=folds,
        )
        for task in predictions.schema.tasks
    ]
    return np.column_stack(columns)


def marginals(schema: Schema, calibrated: Float[np.ndarray, "rows answers"], name: str) -> Float[np.ndarray, "rows"]:
    """p(task) on any row: the product of calibrated conditionals along its chain, summed as logarithms."""
    place = {task.name: part.start for task, part in zip(schema.tasks, schema.answers, strict=True)}
    at = [place[step] for step in schema.chain(name)]
    chance: Float[np.ndarray, "rows"] = np.exp(np.log(calibrated[:, at]).sum(axis=1))
    return chance


def scores(
    schema: Schema,
    labels: Float[np.ndarray, "rows tasks"],
    seen: Bool[np.ndarray, "rows tasks"],
    *,
    logits: Float[np.ndarray, "rows outputs"],
) -> dict[str, float | Undefined]:
    """Each judged task's figure that training goes by: AUC of an event, else a figure without a unit, 1 at best, 0 for a constant.

    Those are R2 of a regression, the normalised Gini of durations and lifetime values, explained deviance of counts, explained
    pinball loss of quantiles, explained log-loss of classes. A value v under 0 counts as `v / (1 - v)`, above -1: one task's
    bad beginning must not drown the others. An auxiliary task is not judged.
    """
    found: dict[str, float | Undefined] = {}
    for at, (task, part) in enumerate(zip(schema.tasks, schema.outputs, strict=True)):
        if task.auxiliary:
            continue
        rows = seen[:, at]
        value = measures(task.kind).primary(labels[rows, at], answers(task.kind, logits[rows, part]))
        found[task.name] = value / (1 - value) if isinstance(value, float) and value < 0 else value
    return found


def mean_score(
    schema: Schema,
    labels: Float[np.ndarray, "rows tasks"],
    seen: Bool[np.ndarray, "rows tasks"],
    *,
    logits: Float[np.ndarray, "rows outputs"],
) -> float | Undefined:
    """The mean of `scores` over the tasks that have one; if none has, the reason of each is given."""
    values = scores(schema, labels, seen, logits=logits)
    known = [value for value in values.values() if isinstance(value, float)]
    if known:
        return float(np.mean(known))
    return Undefined("; ".join(f"{name}: {value.reason}" for name, value in values.items() if isinstance(value, Undefined)))


def headline(report: TaskReport) -> Interval | Undefined:
    """The metric a task is judged by, the first of its kind: AUC of an event, RMSE of a regression."""
    return next(iter(report.figures.metrics.values()))


def _task_report(
    predictions: Predictions,
    calibrated: Float[np.ndarray, "rows answers"],
    task: Task,
    *,
    slices: Mapping[str, Mapping[str, Bool[np.ndarray, "rows"]]],
    by: Resamples,
) -> TaskReport:
    own, seen = measures(task.kind), predictions.seen(task.name)
    part = predictions.schema.answers[predictions.place(task.name)]
    given = calibrated[:, part] if len(task.kind.answers) > 1 else calibrated[:, part.start]
    rows = Rows(predictions.event(task.name), predictions.output(task.name), given, predictions.groups, by)
    marginal = None
    if task.given is not None and task.kind == BINARY:
        chance = marginals(predictions.schema, calibrated, task.name)  # what `umbel score` writes, and ranks by
        whole = Rows(rows.labels, chance, chance, predictions.groups, by)
        marginal = own.figures(whole.where(np.flatnonzero(predictions.settled(task.name))))
    per_slice = {
        name: {label: _slice_figures(rows.where(np.flatnonzero(seen & mask)), own, task) for label, mask in masks.items()}
        for name, masks in slices.items()
    }
    figures = own.figures(rows.where(np.flatnonzero(seen)))
    return TaskReport(task.name, task.kind.name, task.given, figures, marginal, per_slice, worst(per_slice))


def _slice_figures(rows: Rows, own: Measures, task: Task) -> Figures:
    """A slice's figures; one too small for them keeps its counts and says so."""
    positives = int(rows.labels.sum()) if task.kind == BINARY else None
    small = too_small(len(rows.labels), positives)
    if small is None:
        return own.figures(rows)
    return Figures(len(rows.labels), rows.by.users, positives, dict.fromkeys(own.metrics, small))
