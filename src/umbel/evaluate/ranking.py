"""Rows in the order of their scores: what AUC and average precision read under any weights, and AUC inside users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num


@dataclass(frozen=True, slots=True)
class Ordered:
    """Rows by falling score, and where the positive ones stand.

    `place` are the positions of positive rows in that order, `first` and `last` the bounds (last excluded) of the rows
    that share each one's score; `rank_first` and `rank_last` are the same bounds counted in positive rows.
    """

    order: Int[np.ndarray, "rows"]
    place: Int[np.ndarray, "positives"]
    first: Int[np.ndarray, "positives"]
    last: Int[np.ndarray, "positives"]
    rank_first: Int[np.ndarray, "positives"]
    rank_last: Int[np.ndarray, "positives"]
    tied: bool

    @staticmethod
    def of(labels: Float[np.ndarray, "rows"], scores: Float[np.ndarray, "rows"]) -> Ordered:
        """One sort; `labels` are 0 or 1."""
        order = np.argsort(-scores, kind="stable")
        place = np.flatnonzero(labels[order] == 1)
        starts = run_starts(scores[order])
        ends = np.append(starts[1:], len(order))
        run = np.searchsorted(starts, place, side="right") - 1
        first, last = starts[run], ends[run]
        ranks = np.searchsorted(place, first), np.searchsorted(place, last)
        return Ordered(order, place, first, last, *ranks, tied=len(starts) < len(order))

    def curves(self, weight: Num[np.ndarray, "rows"]) -> tuple[float, float]:
        """AUC and average precision under row weights given in this order, in one pass; NaN where a class has no weight.

        With `A` the weight of all rows before a position and `P` that of positive rows, a positive row beats the
        negatives behind its ties and half of those among them; precision at its score is `P / A` at the ties' end.
        """
        above, own = _running(weight), weight.take(self.place, mode="clip")
        positive = _running(own)
        total, negatives = float(positive[-1]), float(above[-1] - positive[-1])
        if self.tied:
            hits, seen = positive.take(self.rank_last, mode="clip"), above.take(self.last, mode="clip")
            before = above.take(self.first, mode="clip") - positive.take(self.rank_first, mode="clip")
        else:
            before, hits = above.take(self.place, mode="clip"), positive[1:]
            seen = before + own
            before -= positive[:-1]
        mass = own.astype(np.float64)
        # a row of weight 0 at the very top has seen nothing: any denominator will do, it adds nothing
        precision = hits / np.maximum(seen, np.finfo(np.float64).tiny)
        # sums by einsum: a product by BLAS has threads of its own, and waits for them where resamples have taken the cores
        beaten = negatives * total - np.einsum("i,i", mass, before + (seen - hits)) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(np.float64(beaten) / (total * negatives)), float(np.einsum("i,i", mass, precision) / total)


@dataclass(frozen=True, slots=True)
class UserAucs:
    """Per user (rising raw id): how many rows, whether both classes occur, and the AUC (0 where not)."""

    user: Int[np.ndarray, "users"]
    rows: Int[np.ndarray, "users"]
    both: Bool[np.ndarray, "users"]
    auc: Float[np.ndarray, "users"]


def user_aucs(labels: Float[np.ndarray, "rows"], scores: Float[np.ndarray, "rows"], groups: Int[np.ndarray, "rows"]) -> UserAucs:
    """AUC inside every user, by one sort over (user, score) and running sums; no loop over users."""
    order = np.argsort(scores, kind="stable")
    order = order[np.argsort(groups[order], kind="stable")]
    positive = labels[order] == 1
    users = run_starts(groups[order])
    ties = run_starts(groups[order], scores[order])
    hits = np.add.reduceat(positive.astype(np.int64), ties)
    misses = np.diff(np.append(ties, len(order))) - hits
    below = np.cumsum(misses) - misses
    first = np.searchsorted(ties, users)
    sizes = np.diff(np.append(first, len(ties)))
    below -= np.repeat(below[first], sizes)
    won = np.add.reduceat(hits * (below + misses / 2), first)
    pairs = np.add.reduceat(hits, first) * np.add.reduceat(misses, first)
    both = pairs > 0
    inside = np.divide(won, pairs, out=np.zeros(len(users)), where=both)
    return UserAucs(groups[order][users], np.diff(np.append(users, len(order))), both, inside)


def run_starts(*columns: Num[np.ndarray, "rows"]) -> Int[np.ndarray, "runs"]:
    """Where each run of rows that are equal in every column begins."""
    starts = np.zeros(len(columns[0]), dtype=bool)
    starts[:1] = True
    for column in columns:
        starts[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(starts)


def _running(weight: Num[np.ndarray, "some"]) -> Num[np.ndarray, "some_and_one"]:
    """0 and the sums up to each entry: exact whole numbers for whole weights."""
    sums = np.empty(len(weight) + 1, dtype=np.int64 if np.issubdtype(weight.dtype, np.integer) else np.float64)
    sums[0] = 0
    np.cumsum(weight, out=sums[1:])
    return sums
