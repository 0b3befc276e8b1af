"""Metrics of tasks with several classes or grades: chances of each against the one that happened."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from umbel.evaluate.metrics import Undefined, broken, ece

Chances = Float[np.ndarray, "rows classes"]


def class_losses(labels: Float[np.ndarray, "rows"], chances: Chances) -> Float[np.ndarray, "rows"]:
    """Each row's negative log-likelihood in nats; chances are held one float64 step away from 0 and 1."""
    step = np.finfo(np.float64).eps
    own = np.take_along_axis(chances.astype(np.float64), _codes(labels)[:, None], axis=1)[:, 0]
    losses: Float[np.ndarray, "rows"] = -np.log(np.clip(own, step, 1 - step))
    return losses


def class_logloss(labels: Float[np.ndarray, "rows"], chances: Chances) -> float | Undefined:
    """The mean negative log-likelihood in nats; scikit-learn's `log_loss`."""
    return broken(labels, chances) or float(class_losses(labels, chances).mean())


def explained_logloss(labels: Float[np.ndarray, "rows"], chances: Chances) -> float | Undefined:
    """`1 - log-loss / log-loss of the classes' own shares`: 0 is no better than these; scikit-learn's `d2_log_loss_score`."""
    found = class_logloss(labels, chances)
    if isinstance(found, Undefined):
        return found
    whole = share_entropy(np.bincount(_codes(labels), minlength=chances.shape[1]).astype(np.float64)[None])[0]
    return 1 - found / float(whole) if whole > 0 else Undefined("the label is constant")


def share_entropy(counts: Float[np.ndarray, "draws classes"]) -> Float[np.ndarray, "draws"]:
    """The entropy in nats of classes that are so frequent; NaN of none at all."""
    with np.errstate(invalid="ignore"):
        share = counts / counts.sum(axis=1, keepdims=True)
    nats: Float[np.ndarray, "draws"] = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
    return nats


def accuracy(labels: Float[np.ndarray, "rows"], chances: Chances) -> float | Undefined:
    """The share of rows whose likeliest class happened (the first of equals)."""
    return broken(labels, chances) or float(hits(labels, chances).mean())


def hits(labels: Float[np.ndarray, "rows"], chances: Chances) -> Float[np.ndarray, "rows"]:
    """1 where the likeliest class happened."""
    hit: Float[np.ndarray, "rows"] = (chances.argmax(axis=1) == _codes(labels)).astype(np.float64)
    return hit


def class_ece(labels: Float[np.ndarray, "rows"], chances: Chances) -> float | Undefined:
    """Expected calibration error of the likeliest class: its chance against how often it happened, 15 bins of equal mass."""
    return broken(labels, chances) or ece(hits(labels, chances), chances.max(axis=1).astype(np.float64))


def expected_grade(chances: Chances) -> Float[np.ndarray, "rows"]:
    """The mean grade, `sum_k k P(y = k)`."""
    mean: Float[np.ndarray, "rows"] = chances.astype(np.float64) @ np.arange(chances.shape[1])
    return mean


def _codes(labels: Float[np.ndarray, "rows"]) -> Int[np.ndarray, "rows"]:
    return labels.astype(np.int64)
