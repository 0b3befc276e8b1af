"""All figures of one task on one set of rows, each with its interval: what a report's cell holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from umbel.evaluate import metrics
from umbel.evaluate.intervals import Interval, Resamples, Sampled, follow, resampled_sums, user_sums
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.ranking import user_aucs

CURVE_BINS = 10
METRICS = (*metrics.RANKING, "gauc", *metrics.PROBABILITY)
REGRESSION_METRICS = tuple(metrics.REGRESSION)


@dataclass(frozen=True, slots=True)
class Point:
    """One bin of a reliability curve: mean prediction, mean label, rows."""

    predicted: float
    observed: float
    rows: int


@dataclass(frozen=True, slots=True)
class Figures:
    """One task on one set of rows: counts, metrics by name, the reliability curve.

    `positives` is None for all but events. `draws` are the resampled values behind the intervals; they are for paired
    differences and are not written to the report.
    """

    rows: int
    users: int
    positives: int | None
    metrics: Mapping[str, Interval | Undefined]
    curve: tuple[Point, ...] = ()
    draws: Mapping[str, Sampled | Undefined] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Rows:
    """What a task's figures need of its rows: labels, what ranks them, what predicts them, and the draws of their users."""

    labels: Float[np.ndarray, "rows"]
    scores: Float[np.ndarray, "rows"]
    predictions: Float[np.ndarray, "rows *answers"]
    groups: Int[np.ndarray, "rows"]
    by: Resamples

    def where(self, rows: Int[np.ndarray, "some"]) -> Rows:
        """Some of the rows, by number."""
        return Rows(self.labels[rows], self.scores[rows], self.predictions[rows], self.groups[rows], self.by.of(rows))


def binary_figures(rows: Rows) -> Figures:
    """AUC, GAUC and PR-AUC of the scores; log-loss, NE, ECE and calibration ratio of the predictions, a probability each."""
    positives = int(rows.labels.sum())
    return figures(rows, {**_ranked(rows), **_summed(rows)}, curve=curve(rows.labels, rows.predictions), positives=positives)


def regression_figures(rows: Rows) -> Figures:
    """RMSE, MAE and R2 of the predictions, in the label's unit."""
    labels, predictions = rows.labels.astype(np.float64), rows.predictions
    draws = _squared(rows, {name: metric(labels, predictions) for name, metric in metrics.REGRESSION.items()})
    return figures(rows, draws, curve=curve(labels, predictions))


def figures(
    rows: Rows, draws: Mapping[str, Sampled | Undefined], *, curve: tuple[Point, ...] = (), positives: int | None = None
) -> Figures:
    """The figures of these rows from their resampled values."""
    intervals = {name: sampled if isinstance(sampled, Undefined) else sampled.interval() for name, sampled in draws.items()}
    return Figures(len(rows.labels), rows.by.users, positives, intervals, curve, draws)


def curve(labels: Float[np.ndarray, "rows"], predictions: Float[np.ndarray, "rows"]) -> tuple[Point, ...]:
    """Mean prediction against mean label in ten bins of equal mass (fewer where predictions coincide)."""
    if not len(labels) or np.isnan(predictions).any():
        return ()
    place = metrics.bin_of(predictions, metrics.equal_mass_edges(predictions, CURVE_BINS))
    count = np.bincount(place)
    used = np.flatnonzero(count)
    predicted, observed = (np.bincount(place, column.astype(np.float64))[used] / count[used] for column in (predictions, labels))
    return tuple(Point(float(p), float(y), int(n)) for p, y, n in zip(predicted, observed, count[used], strict=True))


def _ranked(rows: Rows) -> dict[str, Sampled | Undefined]:
    ranking = metrics.ordered(rows.labels, rows.scores)
    if isinstance(ranking, Undefined):
        return dict.fromkeys(("auc", "pr_auc", "gauc"), ranking)
    values = metrics.ranked(rows.labels, ranking)
    tracks = follow(ranking.curves, rows.by.of(ranking.order), count=2).T
    area, precision = (sampled(value, track, rows) for value, track in zip(values, tracks, strict=True))
    return {"auc": area, "pr_auc": precision, "gauc": _gauc(rows)}


def _gauc(rows: Rows) -> Sampled | Undefined:
    users = user_aucs(rows.labels, rows.scores, rows.by.code)
    weight = np.where(users.both, users.rows, 0).astype(np.float64)
    sums = np.zeros((rows.by.count.shape[1], 2))
    sums[users.user] = np.stack([weight * users.auc, weight], axis=1)
    won, total = resampled_sums(sums, rows.by).T
    return sampled(metrics.user_average(users), divide(won, total), rows)


def _summed(rows: Rows) -> dict[str, Sampled | Undefined]:
    """The metrics of probabilities: functions of sums over users."""
    labels, p = rows.labels.astype(np.float64), rows.predictions
    values: dict[str, float | Undefined] = {name: metric(labels, p) for name, metric in metrics.PROBABILITY.items()}
    if isinstance(values["logloss"], Undefined):
        return {name: value for name, value in values.items() if isinstance(value, Undefined)}
    sums = user_sums((np.ones_like(p), labels, p, metrics.row_logloss(labels, p)), rows.by)
    count, positives, promised, loss = resampled_sums(sums, rows.by).T
    tracks = {
        "logloss": divide(loss, count),
        "ne": divide(divide(loss, count), metrics.entropy(divide(positives, count))),
        "calibration_ratio": divide(promised, positives),
    }
    return {name: sampled(values[name], tracks[name], rows) if name in tracks else sampled_ece(rows) for name in values}


def sampled_ece(rows: Rows) -> Sampled:
    """ECE under every resample, in the bins of the rows as they are."""
    labels, p = rows.labels.astype(np.float64), rows.predictions
    place = metrics.bin_of(p, metrics.equal_mass_edges(p))
    users = rows.by.count.shape[1]
    sums = np.bincount(rows.by.code * metrics.ECE_BINS + place, labels - p, minlength=users * metrics.ECE_BINS).reshape(users, -1)
    counts = np.bincount(rows.by.code, minlength=users).astype(np.float64)
    gaps = resampled_sums(sums, rows.by) / np.maximum(resampled_sums(counts[:, None], rows.by), 1)
    own = sums.sum(axis=0) / len(p)
    return Sampled(float(np.abs(own).sum()), np.abs(gaps).sum(axis=1), rows.by.users, np.abs(gaps - own).sum(axis=1))


def _squared(rows: Rows, values: Mapping[str, float | Undefined]) -> dict[str, Sampled | Undefined]:
    if all(isinstance(value, Undefined) for value in values.values()):
        return {name: value for name, value in values.items() if isinstance(value, Undefined)}
    error, centred = rows.predictions - rows.labels, rows.labels - rows.labels.mean(dtype=np.float64)
    columns = np.ones_like(error), np.square(error), np.abs(error), centred, np.square(centred)
    count, square, absolute, first, second = resampled_sums(user_sums(columns, rows.by), rows.by).T
    spread = second - divide(np.square(first), count)
    tracks = {"rmse": np.sqrt(divide(square, count)), "mae": divide(absolute, count), "r2": 1 - divide(square, spread)}
    return {name: sampled(value, tracks[name], rows) for name, value in values.items()}


def sampled(value: float | Undefined, track: Float[np.ndarray, "draws"], rows: Rows) -> Sampled | Undefined:
    """A value with its draws, those that are not finite left out."""
    if isinstance(value, Undefined):
        return value
    return Sampled(value, np.where(np.isfinite(track), track, np.nan), rows.by.users)


def divide(above: Float[np.ndarray, "draws"], below: Float[np.ndarray, "draws"]) -> Float[np.ndarray, "draws"]:
    """The ratio of two sums, NaN where nothing is below."""
    ratio: Float[np.ndarray, "draws"] = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
    return ratio
