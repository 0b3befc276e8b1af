"""Figures of amounts, quantiles and classes: each metric's value, and its draws as functions of sums over users."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from umbel.evaluate import amounts, classes, metrics
from umbel.evaluate.figures import Figures, Point, Rows, curve, divide, figures, sampled, sampled_ece
from umbel.evaluate.intervals import Sampled, follow, resampled_sums, user_sums
from umbel.evaluate.metrics import Undefined

Values = Mapping[str, float | Undefined]
Draws = Mapping[str, Float[np.ndarray, "draws"]]
AMOUNTS = ("gini", "decile_error", "decile_slope", "rmse", "mae", "calibration_ratio")
COUNTS = ("d2", "deviance", "rmse", "mae", "calibration_ratio")
QUANTILES = ("d2", "pinball", "coverage", "coverage_gap", "width")
CLASSES = ("d2", "logloss", "accuracy", "ece")
GRADES = (*CLASSES, "mae")


def amount_figures(rows: Rows) -> Figures:
    """Of an expected amount: the normalised Gini, the decile error and slope, RMSE, MAE and the calibration ratio."""
    y, p = rows.labels.astype(np.float64), rows.predictions
    found = _figures(_errors(y, p), lambda: _error_draws(rows, y, p), rows)
    more: dict[str, Sampled | Undefined] = {"gini": _gini(rows), **_deciles(rows)}
    return figures(rows, {name: {**more, **found}[name] for name in AMOUNTS}, curve=curve(y, p))


def count_figures(rows: Rows, *, power: float) -> Figures:
    """Of an expected count: explained deviance (that of the Tweedie family with this power), deviance, RMSE, MAE, calibration ratio."""
    y, p = rows.labels.astype(np.float64), rows.predictions
    own = {"d2": amounts.explained_deviance(y, p, power=power), "deviance": amounts.deviance(y, p, power=power)}
    found = _figures(
        {**_errors(y, p), **own}, lambda: {**_error_draws(rows, y, p), **_deviance_draws(rows, power)}, rows
    )
    return figures(rows, {name: found[name] for name in COUNTS}, curve=curve(y, p))


def quantile_figures(rows: Rows, *, levels: tuple[float, ...]) -> Figures:
    """Explained pinball loss, pinball loss, coverage of the widest interval and its gap to the promised one, width."""
    y, q, promised = rows.labels.astype(np.float64), rows.predictions, levels[-1] - levels[0]
    covered = amounts.coverage(y, q)
    values: Values = {
        "d2": amounts.explained_pinball(y, q, levels),
        "pinball": amounts.pinball(y, q, levels),
        "coverage": covered,
        "coverage_gap": covered if isinstance(covered, Undefined) else covered - promised,
        "width": amounts.width(y, q),
    }

    def draws() -> Draws:
        own, constant = amounts.pinballs(y, q, levels), amounts.pinballs(y, amounts.constant_quantiles(y, levels), levels)
        columns = np.ones_like(y), own, constant, amounts.inside(y, q), q[:, -1] - q[:, 0]
        count, loss, whole, inside, wide = _sums(rows, columns)
        share = divide(inside, count)
        found = {"d2": 1 - divide(loss, whole), "pinball": divide(loss, count), "coverage": share}
        return {**found, "coverage_gap": share - promised, "width": divide(wide, count)}

    known = len(y) and not np.isnan(q).any()
    points = [Point(level, float((y <= q[:, at]).mean()), len(y)) for at, level in enumerate(levels)] if known else []
    return figures(rows, _figures(values, draws, rows), curve=tuple(points))


def class_figures(rows: Rows) -> Figures:
    """Explained log-loss, log-loss, accuracy and ECE of the likeliest class."""
    found, hits = _classes(rows, CLASSES)
    return figures(rows, found, curve=curve(hits, rows.predictions.max(axis=1)))


def grade_figures(rows: Rows) -> Figures:
    """The same, and the mean absolute error of the expected grade."""
    found, _ = _classes(rows, GRADES)
    return figures(rows, found, curve=curve(rows.labels, classes.expected_grade(rows.predictions)))


def _classes(rows: Rows, names: tuple[str, ...]) -> tuple[dict[str, Sampled | Undefined], Float[np.ndarray, "rows"]]:
    y, p = rows.labels.astype(np.float64), rows.predictions
    grade = classes.expected_grade(p)
    values: Values = {
        "d2": classes.explained_logloss(y, p),
        "logloss": classes.class_logloss(y, p),
        "accuracy": classes.accuracy(y, p),
        "mae": metrics.mae(y, grade),
    }
    hits = classes.hits(y, p)

    def draws() -> Draws:
        shares = (np.equal(y, one).astype(np.float64) for one in range(p.shape[1]))
        columns = np.ones_like(y), classes.class_losses(y, p), hits, np.abs(grade - y), *shares
        count, loss, hit, error, *each = _sums(rows, columns)
        mean = divide(loss, count)
        found = {"d2": 1 - divide(mean, classes.share_entropy(np.stack(each, axis=1))), "logloss": mean}
        return {**found, "accuracy": divide(hit, count), "mae": divide(error, count)}

    found = dict(_figures(values, draws, rows))
    lost = metrics.broken(y, p)
    top = p.max(axis=1) if len(y) else np.zeros(0)
    found["ece"] = lost if lost is not None else sampled_ece(Rows(hits, top, top, rows.groups, rows.by))
    return {name: found[name] for name in names}, hits


def _figures(values: Values, draws: Callable[[], Draws], rows: Rows) -> dict[str, Sampled | Undefined]:
    """Each value with its draws, which are made only if there is one."""
    if all(isinstance(value, Undefined) for value in values.values()):
        return {name: value for name, value in values.items() if isinstance(value, Undefined)}
    tracks = draws()
    return {name: sampled(value, tracks[name], rows) for name, value in values.items()}


def _errors(y: Float[np.ndarray, "rows"], p: Float[np.ndarray, "rows"]) -> Values:
    return {"rmse": metrics.rmse(y, p), "mae": metrics.mae(y, p), "calibration_ratio": metrics.calibration_ratio(y, p)}


def _error_draws(rows: Rows, y: Float[np.ndarray, "rows"], p: Float[np.ndarray, "rows"]) -> Draws:
    count, square, absolute, promised, own = _sums(rows, (np.ones_like(y), np.square(p - y), np.abs(p - y), p, y))
    return {"rmse": np.sqrt(divide(square, count)), "mae": divide(absolute, count), "calibration_ratio": divide(promised, own)}


def _deviance_draws(rows: Rows, power: float) -> Draws:
    """A constant's deviance is a function of sums too: of the labels, and of their own terms of it."""
    y, p = rows.labels.astype(np.float64), rows.predictions
    own = y * np.log(np.where(y > 0, y, 1.0)) if power == 1 else np.power(y, 2 - power)
    count, loss, total, terms = _sums(rows, (np.ones_like(y), amounts.deviances(y, p, power), y, own))
    mean = np.maximum(divide(total, count), np.finfo(np.float64).tiny)
    if power == 1:
        whole = 2 * (terms - total * np.log(mean))
    else:
        each = terms / (1 - power) - total * mean ** (1 - power) * (2 - power) / (1 - power) + count * mean ** (2 - power)
        whole = 2 * each / (2 - power)
    return {"d2": 1 - divide(loss, whole), "deviance": divide(loss, count)}


def _gini(rows: Rows) -> Sampled | Undefined:
    value = amounts.gini(rows.labels, rows.predictions)
    if isinstance(value, Undefined):
        return value
    ranked = amounts.Concentration(rows.labels, rows.predictions)
    return sampled(value, follow(ranked.gini, rows.by, count=1)[:, 0], rows)


def _deciles(rows: Rows) -> dict[str, Sampled | Undefined]:
    """Under every resample in the tenths of the rows as they are; the error's noise as `Sampled` wants it of a sum of gaps."""
    y, p = rows.labels.astype(np.float64), rows.predictions
    values = {"decile_error": amounts.decile_error(y, p), "decile_slope": amounts.decile_slope(y, p)}
    lost = metrics.broken(y, p)
    if lost is not None:
        return dict.fromkeys(values, lost)
    edges = amounts.decile_edges(p)
    place, users, bins = metrics.bin_of(p, edges), rows.by.count.shape[1], len(edges) + 1
    columns = np.ones_like(y), y, p
    sums = [np.bincount(rows.by.code * bins + place, column, minlength=users * bins).reshape(users, bins) for column in columns]
    count, own, promised = (resampled_sums(one, rows.by) for one in sums)
    slope = sampled(values["decile_slope"], amounts.slopes(np.stack([count, own, promised])), rows)
    error = values["decile_error"]
    if isinstance(error, Undefined):
        return {"decile_error": error, "decile_slope": slope}
    with np.errstate(invalid="ignore", divide="ignore"):
        gaps = np.where(own > 0, (promised - own) / own, np.nan)
    here, there = (one.sum(axis=0) for one in sums[1:])
    whole = np.divide(there - here, here, out=np.zeros(bins), where=here > 0)
    used = here > 0
    found = Sampled(error, np.abs(gaps[:, used]).mean(axis=1), rows.by.users, np.abs(gaps - whole)[:, used].mean(axis=1))
    return {"decile_error": found, "decile_slope": slope}


def _sums(rows: Rows, columns: tuple[Float[np.ndarray, "rows"], ...]) -> Float[np.ndarray, "columns draws"]:
    return resampled_sums(user_sums(columns, rows.by), rows.by).T
