"""Metrics of episodes: how well each user's query rows are predicted and ranked, on arrays padded to the longest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int

from umbel.evaluate.peruser import PerUser, per_user
from umbel.evaluate.ranking import user_aucs

Ratings = Float[np.ndarray, "users shots"]
Mask = Bool[np.ndarray, "users shots"]
Metric = Callable[[Ratings, Ratings, Mask], PerUser]
RELEVANT = 4.0  # of a scale from 1 to 5
TOPS = (1, 3, 5)
TALLEST = 64.0  # ratings beyond have no gain: 2 to that power is no number to compare others with


@dataclass(frozen=True, slots=True)
class Queries:
    """Query rows made ready: 0 at padding, the rows of each user counted, and which users cannot be judged, with the reason."""

    ratings: Float[np.ndarray, "users shots"]
    predictions: Float[np.ndarray, "users shots"]
    mask: Bool[np.ndarray, "users shots"]
    count: Float[np.ndarray, "users"]
    lost: Mapping[str, Bool[np.ndarray, "users"]]

    @staticmethod
    def of(ratings: Ratings, predictions: Ratings, mask: Mask) -> Queries:
        """Padding may hold anything; a row with a value that is no number loses its user."""
        broken = mask & (np.isnan(ratings) | np.isnan(predictions))
        kept = mask & ~broken
        count = mask.sum(axis=1)
        lost = {"no query row": count == 0, "a value is not a number": broken.any(axis=1)}
        y, p = (np.where(kept, one, 0.0).astype(np.float64) for one in (ratings, predictions))
        return Queries(y, p, mask, np.maximum(count, 1).astype(np.float64), lost)

    def order(self, scores: Ratings) -> Int[np.ndarray, "users shots"]:
        """The rows of each user by falling score, tied ones as they stand, padding last."""
        return np.lexsort((-scores, ~self.mask), axis=-1)

    def placed(self, amounts: Ratings, scores: Ratings) -> Float[np.ndarray, "users shots"]:
        """What stands at each place, rows by falling score: of tied rows their mean, which is the expectation over all their orders."""
        order = self.order(scores)
        return self._shared(np.take_along_axis(np.where(self.mask, amounts, 0.0), order, axis=1), scores, order)

    def chance(self, scores: Ratings, k: int) -> Float[np.ndarray, "users shots"]:
        """How likely each row is among the k with the largest scores, tied rows in any order; 0 at padding."""
        order, within = self.order(scores), np.arange(self.mask.shape[1]) < k
        found = np.empty(self.mask.shape)
        top = np.take_along_axis(self.mask, order, axis=1) & within
        np.put_along_axis(found, order, self._shared(top.astype(np.float64), scores, order), axis=1)
        return found

    def _shared(self, sorted_amounts: Ratings, scores: Ratings, order: Int[np.ndarray, "users shots"]) -> Float[np.ndarray, "users shots"]:
        """Amounts in order, each the mean of those that share its score."""
        score, mask = (np.take_along_axis(one, order, axis=1) for one in (scores, self.mask))
        first = np.ones(mask.shape, dtype=bool)
        first[:, 1:] = (score[:, 1:] != score[:, :-1]) | (mask[:, 1:] != mask[:, :-1])
        run = np.cumsum(first.ravel()) - 1
        means = np.bincount(run, sorted_amounts.ravel()) / np.bincount(run)
        shared: Float[np.ndarray, "users shots"] = means[run].reshape(mask.shape)
        return shared


def mae(ratings: Ratings, predictions: Ratings, mask: Mask) -> PerUser:
    """Mean absolute error inside each user; the figure is their mean."""
    query = Queries.of(ratings, predictions, mask)
    return per_user(_error(query), query.lost, falls=True)


def rmse(ratings: Ratings, predictions: Ratings, mask: Mask) -> PerUser:
    """Root of the mean square error inside each user; the figure is their mean, at most that of the pooled rows of equal users."""
    query = Queries.of(ratings, predictions, mask)
    return per_user(_root(query), query.lost, falls=True)


def mae_pooled(ratings: Ratings, predictions: Ratings, mask: Mask) -> PerUser:
    """The same errors, the figure over all rows: a user counts by rows."""
    query = Queries.of(ratings, predictions, mask)
    return per_user(_error(query), query.lost, weight=query.count, falls=True)


def rmse_pooled(ratings: Ratings, predictions: Ratings, mask: Mask) -> PerUser:
    """The root of the mean square over all rows; papers differ in which of the two RMSEs they print."""
    query = Queries.of(ratings, predictions, mask)
    return per_user(_root(query), query.lost, weight=query.count, power=2, falls=True)


def ndcg(ratings: Ratings, predictions: Ratings, mask: Mask, *, k: int) -> PerUser:
    """Discounted gain of the k rows ranked first, over the most that the user's own query rows allow (Järvelin and Kekäläinen, 2002).

    `DCG = sum_{i<=k} (2^r_i - 1) / log2(i + 1)`, of tied predictions in expectation over their orders: scikit-learn's `ndcg_score` of those
    gains. Both sums end where a user's rows do. Undefined where no row has a rating above 0, or one has more than `TALLEST`.

    Example
    -------
    >>> ndcg(np.array([[5.0, 1.0]]), np.array([[0.0, 0.0]]), np.array([[True, True]]), k=1).value
    0.5161290322580645
    """
    query = Queries.of(ratings, predictions, mask)
    gain = np.exp2(np.minimum(query.ratings, TALLEST)) - 1
    ideal = discounted(query.placed(gain, query.ratings), k)
    tall = np.max(query.ratings, axis=1, initial=0.0) > TALLEST
    lost = {**query.lost, f"a rating above {TALLEST:g}": tall, "no rating above 0": ideal <= 0}
    return per_user(discounted(query.placed(gain, query.predictions), k) / np.where(ideal > 0, ideal, 1.0), lost)


def precision(ratings: Ratings, predictions: Ratings, mask: Mask, *, k: int, relevant: float) -> PerUser:
    """The share of the k rows ranked first (of all, where a user has fewer) that are rated `relevant` or more; ties in expectation."""
    query = Queries.of(ratings, predictions, mask)
    return per_user(_hits(query, k, relevant) / np.minimum(query.count, k), query.lost)


def recall(ratings: Ratings, predictions: Ratings, mask: Mask, *, k: int, relevant: float) -> PerUser:
    """The share of a user's rows rated `relevant` or more that are among the k ranked first; undefined without such a row."""
    query = Queries.of(ratings, predictions, mask)
    total = (query.mask & (query.ratings >= relevant)).sum(axis=1)
    return per_user(_hits(query, k, relevant) / np.maximum(total, 1), {**query.lost, "no relevant row": total == 0})


def auc(ratings: Ratings, predictions: Ratings, mask: Mask, *, relevant: float) -> PerUser:
    """The chance that a row rated `relevant` or more is ranked above another row of the user, a tie counting one half.

    Undefined, and never one half, for a user with one of the two classes alone.
    """
    query = Queries.of(ratings, predictions, mask)
    user, _ = np.nonzero(query.mask)
    found = user_aucs((query.ratings >= relevant)[query.mask].astype(np.float64), query.predictions[query.mask], user)
    values, both = np.zeros(len(mask)), np.zeros(len(mask), dtype=bool)
    values[found.user], both[found.user] = found.auc, found.both
    return per_user(values, {**query.lost, "relevant rows only, or none": ~both})


def listing(*, relevant: float = RELEVANT, tops: tuple[int, ...] = TOPS) -> dict[str, Metric]:
    """Every metric by name: `relevant` is the least rating of a relevant row (1 where labels are events), `tops` the places looked at."""
    plain: dict[str, Metric] = {"mae": mae, "rmse": rmse, "mae_pooled": mae_pooled, "rmse_pooled": rmse_pooled}
    gains: dict[str, Metric] = {f"ndcg@{k}": partial(ndcg, k=k) for k in tops}
    precise: dict[str, Metric] = {f"precision@{k}": partial(precision, k=k, relevant=relevant) for k in tops}
    recalled: dict[str, Metric] = {f"recall@{k}": partial(recall, k=k, relevant=relevant) for k in tops}
    return {**plain, **gains, **precise, **recalled, "auc": partial(auc, relevant=relevant)}


RATED: Mapping[str, Metric] = listing()


def discounted(placed: Float[np.ndarray, "users shots"], k: int) -> Float[np.ndarray, "users"]:
    """The sum of what stands at the first k places, each over the logarithm (base 2) of one more than its number."""
    top = placed[:, :k]
    total: Float[np.ndarray, "users"] = top @ (1 / np.log2(np.arange(2, top.shape[1] + 2)))
    return total


def _error(query: Queries) -> Float[np.ndarray, "users"]:
    mean: Float[np.ndarray, "users"] = np.abs(query.predictions - query.ratings).sum(axis=1) / query.count
    return mean


def _root(query: Queries) -> Float[np.ndarray, "users"]:
    root: Float[np.ndarray, "users"] = np.sqrt(np.square(query.predictions - query.ratings).sum(axis=1) / query.count)
    return root


def _hits(query: Queries, k: int, relevant: float) -> Float[np.ndarray, "users"]:
    hit = (query.ratings >= relevant).astype(np.float64)
    hits: Float[np.ndarray, "users"] = query.placed(hit, query.predictions)[:, :k].sum(axis=1)
    return hits
