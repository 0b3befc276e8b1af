"""Metrics: arrays in, one number out, or `Undefined` with the reason; never 0.5 for a class that is missing, never NaN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from umbel.evaluate.ranking import Ordered, UserAucs, user_aucs


@dataclass(frozen=True, slots=True)
class Undefined:
    """A number that cannot be had, and why."""

    reason: str


ECE_BINS = 15


def ordered(labels: Float[np.ndarray, "rows"], scores: Float[np.ndarray, "rows"]) -> Ordered | Undefined:
    """The rows by falling score, ready for AUC and average precision under any weights, or why there is no order."""
    return broken(labels, scores) or Ordered.of(labels, scores)


def auc(
    labels: Float[np.ndarray, "rows"], scores: Float[np.ndarray, "rows"], weight: Float[np.ndarray, "rows"] | None = None
) -> float | Undefined:
    """The chance that a positive row scores above a negative one, a tie counting one half.

    `AUC = sum_{i+, j-} w_i w_j ([s_i > s_j] + [s_i = s_j] / 2) / (W+ W-)`, exact, by one sort. `labels` are 0 or 1.
    The same number as scikit-learn's `roc_auc_score`.

    Example
    -------
    >>> auc(np.array([0.0, 1.0, 1.0]), np.array([0.3, 0.3, 0.9]))
    0.75
    >>> auc(np.ones(2), np.ones(2))
    Undefined(reason='no negative row')
    """
    ranking = ordered(labels, scores)
    return ranking if isinstance(ranking, Undefined) else ranked(labels, ranking, weight)[0]


def average_precision(
    labels: Float[np.ndarray, "rows"], scores: Float[np.ndarray, "rows"], weight: Float[np.ndarray, "rows"] | None = None
) -> float | Undefined:
    """Precision averaged over the recall it is reached at (PR-AUC without interpolation): `sum_k (R_k - R_{k-1}) P_k` over distinct scores.

    The same number as scikit-learn's `average_precision_score`. Defined wherever there is a positive row.
    """
    ranking = ordered(labels, scores)
    return ranking if isinstance(ranking, Undefined) else ranked(labels, ranking, weight)[1]


def ranked(
    labels: Float[np.ndarray, "rows"], ranking: Ordered, weight: Float[np.ndarray, "rows"] | None = None
) -> tuple[float | Undefined, float | Undefined]:
    """AUC and average precision of rows already in order."""
    weights = np.ones(len(labels)) if weight is None else weight
    lacking = _one_class(labels, weights)
    area, precision = ranking.curves(weights[ranking.order])
    return lacking or area, Undefined("no positive row") if np.isnan(precision) else precision


def gauc(labels: Float[np.ndarray, "rows"], scores: Float[np.ndarray, "rows"], groups: Int[np.ndarray, "rows"]) -> float | Undefined:
    """AUC inside each user, averaged by impressions: `sum_u n_u AUC_u / sum_u n_u` over users who have both classes.

    `groups` are raw users (before encoding), `n_u` all rows of user u. RecBole weighs by positives instead; papers differ.

    Example
    -------
    >>> gauc(np.array([0.0, 1.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.2, 0.9, 0.3, 0.5]), np.array([7, 7, 8, 8, 9]))
    0.5
    """
    lost = broken(labels, scores)
    if lost is not None:
        return lost
    return user_average(user_aucs(labels, scores, groups))


def user_average(users: UserAucs) -> float | Undefined:
    """GAUC from the users' own AUCs."""
    total = users.rows[users.both].sum()
    return float((users.rows * users.auc)[users.both].sum() / total) if total else Undefined("no user with both classes")


def logloss(
    labels: Float[np.ndarray, "rows"], probabilities: Float[np.ndarray, "rows"], weight: Float[np.ndarray, "rows"] | None = None
) -> float | Undefined:
    """Mean negative log-likelihood in nats; probabilities are held one float64 step away from 0 and 1."""
    return broken(labels, probabilities) or _mean(row_logloss(labels, probabilities), weight)


def normalised_entropy(
    labels: Float[np.ndarray, "rows"], probabilities: Float[np.ndarray, "rows"], weight: Float[np.ndarray, "rows"] | None = None
) -> float | Undefined:
    """Log-loss over the log-loss of always answering the base rate of these rows; 1 is no better than that (He et al., ADKDD 2014)."""
    loss = logloss(labels, probabilities, weight)
    if isinstance(loss, Undefined):
        return loss
    weights = np.ones(len(labels)) if weight is None else weight
    return _one_class(labels, weights) or loss / float(entropy(np.average(labels.astype(np.float64), weights=weights, keepdims=True))[0])


def ece(
    labels: Float[np.ndarray, "rows"],
    probabilities: Float[np.ndarray, "rows"],
    *,
    weight: Float[np.ndarray, "rows"] | None = None,
    edges: Float[np.ndarray, "edges"] | None = None,
) -> float | Undefined:
    """Expected calibration error: `sum_b W_b/W |mean_b y - mean_b p|` over 15 bins of equal mass.

    `edges` (see `equal_mass_edges`) fixes the bins; without it they are the probabilities' own quantiles, and rows of
    equal probability share a bin, so that the order of rows does not matter. Other tools take bins of equal width.
    """
    lost = broken(labels, probabilities)
    if lost is not None:
        return lost
    bins = bin_of(probabilities, equal_mass_edges(probabilities) if edges is None else edges)
    weights = np.ones(len(labels)) if weight is None else weight
    gaps = np.bincount(bins, weights * (labels.astype(np.float64) - probabilities))
    return float(np.abs(gaps).sum() / weights.sum()) if weights.sum() > 0 else Undefined("no row")


def calibration_ratio(labels: Float[np.ndarray, "rows"], probabilities: Float[np.ndarray, "rows"]) -> float | Undefined:
    """Predicted over observed positives, `sum p / sum y`: above 1 the model promises too much."""
    lost = broken(labels, probabilities)
    if lost is not None:
        return lost
    positives = labels.sum(dtype=np.float64)
    return float(probabilities.sum(dtype=np.float64) / positives) if positives > 0 else Undefined("no positive row")


def rmse(labels: Float[np.ndarray, "rows"], predictions: Float[np.ndarray, "rows"]) -> float | Undefined:
    """Root of the mean squared error, in the label's unit."""
    return broken(labels, predictions) or float(np.sqrt(np.mean(np.square(predictions.astype(np.float64) - labels))))


def mae(labels: Float[np.ndarray, "rows"], predictions: Float[np.ndarray, "rows"]) -> float | Undefined:
    """Mean absolute error, in the label's unit."""
    return broken(labels, predictions) or float(np.mean(np.abs(predictions.astype(np.float64) - labels)))


def r2(labels: Float[np.ndarray, "rows"], predictions: Float[np.ndarray, "rows"]) -> float | Undefined:
    """Share of the label's variance explained, `1 - sum (y - p)^2 / sum (y - mean y)^2`; 0 is no better than the mean."""
    lost = broken(labels, predictions)
    if lost is not None:
        return lost
    values = labels.astype(np.float64)
    spread = np.square(values - values.mean()).sum()
    if not spread > 0:
        return Undefined("the label is constant")
    return float(1 - np.square(predictions.astype(np.float64) - values).sum() / spread)


def row_logloss(labels: Float[np.ndarray, "rows"], probabilities: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
    """Each row's negative log-likelihood, float64."""
    step = np.finfo(np.float64).eps
    held = np.clip(probabilities.astype(np.float64), step, 1 - step)
    return -np.log(np.where(labels == 1, held, 1 - held))


def entropy(rate: Float[np.ndarray, "rates"]) -> Float[np.ndarray, "rates"]:
    """Entropy in nats of an event of that rate."""
    held = np.clip(rate, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg)
    nats: Float[np.ndarray, "rates"] = -(held * np.log(held) + (1 - held) * np.log1p(-held))
    return nats


def equal_mass_edges(probabilities: Float[np.ndarray, "rows"], bins: int = ECE_BINS) -> Float[np.ndarray, "edges"]:
    """The inner edges of `bins` bins that hold equally many rows; fewer where quantiles coincide."""
    edges: Float[np.ndarray, "edges"] = np.unique(np.quantile(probabilities.astype(np.float64), np.arange(1, bins) / bins, method="lower"))
    return edges


def bin_of(probabilities: Float[np.ndarray, "rows"], edges: Float[np.ndarray, "edges"]) -> Int[np.ndarray, "rows"]:
    """The bin of each row: as many edges as lie below its probability."""
    place: Int[np.ndarray, "rows"] = np.searchsorted(edges, probabilities.astype(np.float64), side="left")
    return place


def broken(labels: Float[np.ndarray, "rows"], values: Float[np.ndarray, "rows *answers"]) -> Undefined | None:
    """Why no metric can be had of these rows, if so: there are none, or a label or value is not a number."""
    if not len(labels):
        return Undefined("no row")
    lost = int(np.isnan(values).reshape(len(labels), -1).any(axis=1).sum() + np.isnan(labels).sum())
    return Undefined(f"{lost} of {len(labels)} rows are not a number") if lost else None


def _one_class(labels: Float[np.ndarray, "rows"], weight: Float[np.ndarray, "rows"]) -> Undefined | None:
    positives: Bool[np.ndarray, "rows"] = labels == 1
    for rows, name in ((positives, "positive"), (~positives, "negative")):
        if not weight[rows].sum() > 0:
            return Undefined(f"no {name} row")
    return None


def _mean(values: Float[np.ndarray, "rows"], weight: Float[np.ndarray, "rows"] | None) -> float | Undefined:
    if weight is None:
        return float(values.mean())
    return float(np.average(values, weights=weight)) if weight.sum() > 0 else Undefined("no row")


Metric = Callable[[Float[np.ndarray, "rows"], Float[np.ndarray, "rows"]], float | Undefined]
RANKING: dict[str, Metric] = {"auc": auc, "pr_auc": average_precision}
PROBABILITY: dict[str, Metric] = {"logloss": logloss, "ne": normalised_entropy, "ece": ece, "calibration_ratio": calibration_ratio}
REGRESSION: dict[str, Metric] = {"rmse": rmse, "mae": mae, "r2": r2}
FALLS = frozenset({"logloss", "ne", "ece", "rmse", "mae", "decile_error", "deviance", "pinball", "width"})  # better when they fall
