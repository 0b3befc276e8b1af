"""Watching a bundle on the rows that it met in service: fields, predictions, quality and calibration, and skew."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from umbel import durable
from umbel.bundle import Bundle
from umbel.data.files import column_names, open_file
from umbel.data.labels import events
from umbel.data.raw import rows as raw_rows
from umbel.data.source import Source
from umbel.errors import UserError
from umbel.evaluate.figures import Figures
from umbel.evaluate.intervals import Interval, resample
from umbel.evaluate.judge import Predictions, TaskReport, calibrate_all, evaluate
from umbel.evaluate.metrics import FALLS
from umbel.learn.predict import predict
from umbel.manifest import name_of
from umbel.run.drifting import Drifting, Finding
from umbel.run.record import measured_to_json
from umbel.run.report import Report
from umbel.run.use import source_of

SIZE = 16384
RESAMPLES = 200
LOGGED = "predicted_"      # before the name of a prediction, in a collected log
ADAPTED = ("adapted", "adapted_rows")  # the rung of the ladder that answered, and the rows known of the user, in such a log
SHARED = "id"              # the rung on which the shared model answers a user with rows
SKEW = 1e-4                # by which a logged prediction may differ from the same row scored now
POSITIVES = 30             # that a task must have to be judged, rows where it is no event
CALIBRATED = (0.9, 1.1)


@dataclass(frozen=True, slots=True)
class Watched:
    """All findings on so many rows, and every task's figures."""

    rows: int
    findings: tuple[Finding, ...]
    tasks: tuple[TaskReport, ...]

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """Those that somebody should look at."""
        return tuple(one for one in self.findings if one.alarm)

    def to_json(self) -> dict[str, object]:
        """Plain JSON."""
        tasks = {task.name: {name: measured_to_json(one) for name, one in task.figures.metrics.items()} for task in self.tasks}
        return {"rows": self.rows, "alarms": len(self.alarms), "findings": [asdict(one) for one in self.findings], "tasks": tasks}


def monitor(bundle: Path, log: str, *, joins: Sequence[str] = (), out: Path | None = None) -> Watched:
    """Hold a log of what a bundle met against what it was trained on; labels are those that are settled, others are left out.

    Fields, predictions and gates (which experts a task listens to) have drifted as `umbel.evaluate.drift.moved` says. Skew: a row's
    prediction as it was logged (`predicted_NAME`) and as the bundle gives it now differ by more than 1e-4; rows that another bundle
    answered are not compared, nor those that were adapted to their user (`adapted`), which are counted: the log alone does not have what
    they were adapted by. A task is worse where its interval lies below that of the run's test rows, and miscalibrated where the ratio of
    what was predicted and what was observed lies outside .9 to 1.1 with its whole interval.

    :raises UserError: for a bundle without a profile, or a log that cannot be read.
    """
    made = Bundle.load(bundle)
    logged, adapted = _logged(log, made, name_of(bundle))
    seen = _Seen(made, Drifting(made, where=str(bundle)), logged, adapted=adapted)
    seen.read(source_of(made, log, joins=joins, labels=False))
    tasks = seen.tasks()
    found = Watched(seen.rows, (*seen.drifting.findings(), *seen.skew(), *_qualities(made, tasks)), tasks)
    if out is not None:
        durable.write(out, json.dumps(found.to_json(), indent=1))
    return found


class _Seen:
    """What a log comes to, read once in pieces: shares in the bundle's bins, predictions, labels, and how predictions differ."""

    def __init__(self, bundle: Bundle, drifting: Drifting, logged: pl.DataFrame | None, *, adapted: int) -> None:
        self.bundle, self.drifting, self.logged, self.adapted = bundle, drifting, logged, adapted
        self.rows, self.compared, self.skewed, self.worst = 0, 0, 0, 0.0
        self.logits: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []
        self.groups: list[np.ndarray] = []

    def read(self, source: Source) -> None:
        """:raises UserError: for a log without rows."""
        for frame, batch in raw_rows(source, self.bundle.encoder, SIZE):
            logits = predict(self.bundle.model, [batch])
            predictions = self.bundle.calibrated(logits)
            self.drifting.count(batch, predictions)
            self._compare(predictions)
            self.logits.append(logits)
            self.labels.append(events(frame, self.bundle.schema, self.rows))
            assert batch.group is not None
            self.groups.append(batch.group.numpy())
            self.rows += len(batch.index)
        if not self.rows:
            raise UserError(f"{source.log}: no rows", mend="give a log that has some")

    def skew(self) -> Iterator[Finding]:
        """How many logged predictions are not those of now; nothing where none could be compared, and none was a user's own."""
        own = f"; {self.adapted:,} that were adapted to their user are left out" if self.adapted else ""
        if self.compared:
            differ = f"{self.skewed:,} of {self.compared:,} logged predictions differ from the same rows scored now"
            yield Finding("skew", self.skewed > 0, f"skew: {differ}, at most by {self.worst:.2g}{own}", self.skewed / self.compared)
        elif own:
            yield Finding("skew", False, f"skew: no logged prediction can be compared{own}")

    def tasks(self) -> tuple[TaskReport, ...]:
        """Every task's figures on rows whose labels are settled."""
        labels, groups = np.concatenate(self.labels), np.concatenate(self.groups)
        observed = ~np.isnan(labels)
        told = Predictions(self.bundle.schema, np.concatenate(self.logits), np.nan_to_num(labels), observed, groups)
        given = calibrate_all(told.schema, told.logits, self.bundle.calibrators)
        return evaluate(told, given, by=resample(groups, resamples=RESAMPLES))

    def _compare(self, predictions: Float[np.ndarray, "rows columns"]) -> None:
        """Logged predictions beside those of now; the log is read in the same order."""
        if self.logged is None:
            return
        told = self.logged.slice(self.rows, len(predictions)).select(f"{LOGGED}{name}" for name in self.bundle.columns).to_numpy()
        gap = np.abs(told - predictions).max(axis=1)
        known = ~np.isnan(gap)
        self.compared += int(known.sum())
        self.skewed += int((gap[known] > SKEW).sum())
        self.worst = max(self.worst, float(gap[known].max(initial=0.0)))


def _logged(log: str, bundle: Bundle, name: str) -> tuple[pl.DataFrame | None, int]:
    """The logged predictions of a collected log, and how many of this bundle were adapted to their user; None where it has none.

    Those of other bundles are null, and so are adapted ones.
    """
    there = set(column_names(log))
    if not {"bundle", *(f"{LOGGED}{column}" for column in bundle.columns)} <= there:
        return None, 0
    scan = open_file(log)
    ours, personal = pl.col("bundle") == name, pl.lit(value=False)
    if {*ADAPTED} <= there:  # by id, or without a row, it is the shared model that answers
        personal = ours & (pl.col(ADAPTED[1]) > 0) & (pl.col(ADAPTED[0]) != SHARED)
    personal = personal.fill_null(value=False)
    own = (pl.col(f"{LOGGED}{column}").cast(pl.Float64) for column in bundle.columns)
    adapted = int(scan.select(personal.sum()).collect().item())
    return scan.select(pl.when(ours & ~personal).then(one).alias(one.meta.output_name()) for one in own).collect(), adapted


def _qualities(bundle: Bundle, tasks: Sequence[TaskReport]) -> Iterator[Finding]:
    trained = {task.name: task for task in Report.from_json(bundle.report).tasks}
    for task in tasks:
        then = trained.get(task.name)
        yield from quality(task.name, task.figures, None if then is None else then.figures)


def quality(name: str, figures: Figures, trained: Figures | None) -> Iterator[Finding]:
    """Whether a task's figures are below those of the run's test rows, and whether its chances are right."""
    count, what = (figures.rows, "rows") if figures.positives is None else (figures.positives, "positives")
    if count < POSITIVES:
        yield Finding(name, False, f"{name}: {count} {what} are too few to judge")
        return
    metric, now = next(iter(figures.metrics.items()))
    then = None if trained is None else trained.metrics.get(metric)
    if isinstance(now, Interval) and isinstance(then, Interval):
        says = f"{name}: {metric} {_told(now)}, at training {_told(then)}"
        yield Finding(f"{name} {metric}", _worse(metric, now, then), says, now.value)
    ratio = figures.metrics.get("calibration_ratio")
    if isinstance(ratio, Interval):
        low, high = CALIBRATED
        outside = (ratio.low is not None and ratio.low > high) or (ratio.high is not None and ratio.high < low)
        yield Finding(f"{name} calibration", outside, f"{name}: predicted over observed {_told(ratio)}", ratio.value)


def _worse(metric: str, now: Interval, then: Interval) -> bool:
    if metric in FALLS:
        return now.low is not None and then.high is not None and now.low > then.high
    return now.high is not None and then.low is not None and now.high < then.low


def _told(one: Interval) -> str:
    return f"{one.value:.4f}" if one.low is None else f"{one.value:.4f} ({one.low:.4f} to {one.high:.4f})"
