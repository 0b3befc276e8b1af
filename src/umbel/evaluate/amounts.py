"""Metrics of numbers that are no plain regression: amounts and counts (never negative), and quantiles."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Num

from umbel.evaluate.metrics import Undefined, bin_of, broken, equal_mass_edges

DECILES = 10
Levels = tuple[float, ...]


def gini(
    labels: Float[np.ndarray, "rows"], predictions: Float[np.ndarray, "rows"], weight: Float[np.ndarray, "rows"] | None = None
) -> float | Undefined:
    """Normalised Gini: how well predictions rank amounts, 1 as well as the amounts themselves, 0 no better than chance.

    `cov(y, F(prediction)) / cov(y, F(y))`, F the rank (ties share theirs). Of 0 and 1 it is `2 AUC - 1`.

    Example
    -------
    >>> round(gini(np.array([0.0, 1.0, 9.0]), np.array([0.1, 0.3, 0.2])), 4), gini(np.ones(2), np.ones(2))
    (0.1111, Undefined(reason='the label is constant'))
    """
    lost = broken(labels, predictions)
    if lost is not None:
        return lost
    found = Concentration(labels, predictions).gini(np.ones(len(labels)) if weight is None else weight)[0]
    return Undefined("the label is constant") if np.isnan(found) else found


class Concentration:
    """Rows in the order of their predictions and of their labels, ready for the Gini under any weights."""

    def __init__(self, labels: Float[np.ndarray, "rows"], predictions: Float[np.ndarray, "rows"]) -> None:
        self._labels = labels.astype(np.float64)
        self._ranks = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in (predictions, labels)]

    def gini(self, weight: Num[np.ndarray, "rows"]) -> tuple[float]:
        """The normalised Gini under these weights, NaN where the labels do not differ."""
        weight = weight.astype(np.float64)
        total = weight.sum()
        centred = weight * (self._labels - np.einsum("i,i", weight, self._labels) / total if total > 0 else 0.0)
        found, best = (self._covariance(centred, weight, rank) for rank in self._ranks)
        # what is left of a constant label is rounding
        floor = 1e-12 * float(np.abs(self._labels).max(initial=0.0)) * float(total) ** 2
        return (found / best if best > floor else float("nan"),)

    @staticmethod
    def _covariance(centred: Float[np.ndarray, "rows"], weight: Float[np.ndarray, "rows"], rank: np.ndarray) -> float:
        mass = np.bincount(rank, weight)
        middle = np.cumsum(mass) - mass / 2
        return float(np.einsum("i,i", np.bincount(rank, centred), middle))  # no threads within those of resamples


def decile_error(labels: Float[np.ndarray, "rows"], predictions: Float[np.ndarray, "rows"]) -> float | Undefined:
    """The mean over tenths of the rows, by prediction, of `|sum p - sum y| / sum y` (decile-level MAPE, Wang et al., 2019).

    Tenths in which nothing happened are left out.
    """
    lost = broken(labels, predictions)
    if lost is not None:
        return lost
    own, promised = decile_sums(labels, predictions, decile_edges(predictions))
    used = own > 0
    return float(np.mean(np.abs(promised - own)[used] / own[used])) if used.any() else Undefined("every label is 0")


def decile_slope(labels: Float[np.ndarray, "rows"], predictions: Float[np.ndarray, "rows"]) -> float | Undefined:
    """The slope of the tenths' mean labels over their mean predictions, by least squares: 1 is right, below 1 they lie too far apart.

    Example
    -------
    >>> predictions = np.repeat([1.0, 2.0, 3.0], 10)
    >>> round(decile_slope(2 * predictions, predictions), 9), decile_slope(predictions, np.ones(30))
    (2.0, Undefined(reason='the predictions are constant'))
    """
    lost = broken(labels, predictions)
    if lost is not None:
        return lost
    edges = decile_edges(predictions)
    count = np.bincount(bin_of(predictions, edges), minlength=len(edges) + 1).astype(np.float64)
    found = float(slopes(np.stack([count, *decile_sums(labels, predictions, edges)])[:, None])[0])
    return Undefined("the predictions are constant") if np.isnan(found) else found


def slopes(sums: Float[np.ndarray, "three draws bins"]) -> Float[np.ndarray, "draws"]:
    """Least-squares slopes from each bin's rows, what happened in it and what was predicted; NaN where predictions do not differ."""
    count, own, promised = sums
    y, p = (np.divide(one, count, out=np.zeros_like(one), where=count > 0) for one in (own, promised))
    share = count / np.maximum(count.sum(axis=1, keepdims=True), 1)
    centred = p - (share * p).sum(axis=1, keepdims=True)
    spread = (share * centred * centred).sum(axis=1)
    # what is left of constant predictions is rounding
    floor = 1e-18 * np.square(np.abs(p).max(axis=1, initial=0.0))
    none = np.full(len(p), np.nan)
    slope: Float[np.ndarray, "draws"] = np.divide((share * centred * y).sum(axis=1), spread, out=none, where=spread > floor)
    return slope


def decile_edges(predictions: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "edges"]:
    """The inner edges of the tenths."""
    return equal_mass_edges(predictions, DECILES)


def decile_sums(
    labels: Float[np.ndarray, "rows"], predictions: Float[np.ndarray, "rows"], edges: Float[np.ndarray, "edges"]
) -> tuple[Float[np.ndarray, "bins"], Float[np.ndarray, "bins"]]:
    """What happened and what was predicted in each tenth."""
    place = bin_of(predictions, edges)
    own, promised = (np.bincount(place, column.astype(np.float64), minlength=len(edges) + 1) for column in (labels, predictions))
    return own, promised


def deviances(labels: Float[np.ndarray, "rows"], means: Float[np.ndarray, "rows"], power: float) -> Float[np.ndarray, "rows"]:
    """Each row's unit deviance of Tweedie's family: `power` 1 is Poisson's, between 1 and 2 that of amounts that are often 0.

    `2 (y log(y / m) - y + m)`, or `2 (y^(2-p) / ((1-p)(2-p)) - y m^(1-p) / (1-p) + m^(2-p) / (2-p))` (Jorgensen, 1987).
    """
    y, m = labels.astype(np.float64), np.maximum(means.astype(np.float64), np.finfo(np.float64).tiny)
    if power == 1:
        return 2 * (np.where(y > 0, y * np.log(np.where(y > 0, y, 1.0) / m), 0.0) - y + m)
    p = power
    return 2 * (np.power(y, 2 - p) / ((1 - p) * (2 - p)) - y * np.power(m, 1 - p) / (1 - p) + np.power(m, 2 - p) / (2 - p))


def deviance(labels: Float[np.ndarray, "rows"], means: Float[np.ndarray, "rows"], *, power: float) -> float | Undefined:
    """The mean unit deviance; scikit-learn's `mean_tweedie_deviance`."""
    return broken(labels, means) or float(deviances(labels, means, power).mean())


def explained_deviance(labels: Float[np.ndarray, "rows"], means: Float[np.ndarray, "rows"], *, power: float) -> float | Undefined:
    """`1 - deviance / deviance of the mean label`: 0 is no better than the mean; scikit-learn's `d2_tweedie_score`."""
    found = deviance(labels, means, power=power)
    if isinstance(found, Undefined):
        return found
    whole = float(deviances(labels, np.full(len(labels), labels.mean(dtype=np.float64)), power).mean())
    return 1 - found / whole if whole > 1e-12 else Undefined("the label is constant")


def pinballs(
    labels: Float[np.ndarray, "rows"], quantiles: Float[np.ndarray, "rows levels"], levels: Levels
) -> Float[np.ndarray, "rows"]:
    """Each row's pinball loss, the mean over levels of `max(t (y - q), (t - 1) (y - q))`."""
    error, level = labels.astype(np.float64)[:, None] - quantiles, np.array(levels)
    loss: Float[np.ndarray, "rows"] = np.maximum(level * error, (level - 1) * error).mean(axis=1)
    return loss


def pinball(labels: Float[np.ndarray, "rows"], quantiles: Float[np.ndarray, "rows levels"], levels: Levels) -> float | Undefined:
    """The mean pinball loss over rows and levels, in the label's unit; scikit-learn's `mean_pinball_loss`."""
    return broken(labels, quantiles) or float(pinballs(labels, quantiles, levels).mean())


def constant_quantiles(labels: Float[np.ndarray, "rows"], levels: Levels) -> Float[np.ndarray, "rows levels"]:
    """The same quantiles on every row, those of the labels: what a model must beat."""
    found = np.quantile(labels.astype(np.float64), levels, method="inverted_cdf")
    return np.broadcast_to(found, (len(labels), len(levels)))


def explained_pinball(
    labels: Float[np.ndarray, "rows"], quantiles: Float[np.ndarray, "rows levels"], levels: Levels
) -> float | Undefined:
    """`1 - pinball / pinball of the labels' own quantiles`: 0 is no better than these constants."""
    found = pinball(labels, quantiles, levels)
    if isinstance(found, Undefined):
        return found
    whole = float(pinballs(labels, constant_quantiles(labels, levels), levels).mean())
    return 1 - found / whole if whole > 0 else Undefined("the label is constant")


def coverage(labels: Float[np.ndarray, "rows"], quantiles: Float[np.ndarray, "rows levels"]) -> float | Undefined:
    """The share of labels from the lowest to the highest quantile; right is the difference of their levels."""
    if quantiles.shape[1] < 2:
        return Undefined("one level has no interval")
    return broken(labels, quantiles) or float(inside(labels, quantiles).mean())


def width(labels: Float[np.ndarray, "rows"], quantiles: Float[np.ndarray, "rows levels"]) -> float | Undefined:
    """The mean distance from the lowest to the highest quantile, in the label's unit."""
    if quantiles.shape[1] < 2:
        return Undefined("one level has no interval")
    return broken(labels, quantiles) or float((quantiles[:, -1] - quantiles[:, 0]).mean())


def inside(labels: Float[np.ndarray, "rows"], quantiles: Float[np.ndarray, "rows levels"]) -> Float[np.ndarray, "rows"]:
    """1 where the label lies from the lowest to the highest quantile."""
    return ((labels >= quantiles[:, 0]) & (labels <= quantiles[:, -1])).astype(np.float64)
