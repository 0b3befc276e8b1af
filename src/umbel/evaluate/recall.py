"""How often what was wanted is among the first that a source brings."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Int64

from umbel.evaluate.figures import divide
from umbel.evaluate.intervals import Interval, Resamples, Sampled, resampled_sums, user_sums
from umbel.evaluate.metrics import Undefined

NEVER = np.iinfo(np.int64).max  # the rank of what a source does not bring at all


def ranks(scores: Float[np.ndarray, "rows items"], wanted: Int[np.ndarray, "rows"]) -> Int64[np.ndarray, "rows"]:
    """How many items stand before the wanted one of each row, by falling score, of equal ones by place; `NEVER` for minus infinity.

    Example
    -------
    >>> ranks(np.array([[0.5, 0.9, 0.5], [0.0, 1.0, 2.0]]), np.array([2, 0])).tolist()
    [2, 2]
    """
    own = np.take_along_axis(scores, wanted[:, None], axis=1)
    level = (scores == own) & (np.arange(scores.shape[1]) < wanted[:, None])
    before: Int64[np.ndarray, "rows"] = ((scores > own) | level).sum(1)
    return np.where(np.isneginf(own[:, 0]), NEVER, before)


def recall(found: Int64[np.ndarray, "rows"], k: int, by: Resamples) -> Sampled | Undefined:
    """The share of rows whose wanted item has a rank below k: a user counts by rows, and is drawn with all of them."""
    if not len(found):
        return Undefined("no positive row asks for an item of training that its user had not met")
    hit = (found < k).astype(np.float64)
    hits, rows = resampled_sums(user_sums((hit, np.ones_like(hit)), by), by).T
    return Sampled(float(hit.mean()), divide(hits, rows), by.users)


def gained(one: Sampled | Undefined, other: Sampled | Undefined) -> Interval | Undefined:
    """One recall less another of the same rows and draws."""
    if isinstance(one, Undefined):
        return one
    if isinstance(other, Undefined):
        return other
    return Sampled(one.value - other.value, one.draws - other.draws, one.users).interval()
