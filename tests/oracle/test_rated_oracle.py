"""Metrics of episodes against scikit-learn and against plain loops over users."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_squared_error, ndcg_score, roc_auc_score

from umbel.evaluate import rated
from umbel.evaluate.compat import mamo_ndcg, metahin_ndcg, recbole_ndcg

DRAW = np.random.default_rng(0)
RATINGS = DRAW.integers(1, 6, (60, 14)).astype(np.float64)
TIED = np.round(RATINGS + DRAW.normal(0, 1.5, RATINGS.shape))
LENGTH = DRAW.integers(7, 15, 60)
MASK = np.arange(14) < LENGTH[:, None]
USERS = [(RATINGS[at, :n], TIED[at, :n]) for at, n in enumerate(LENGTH)]


@pytest.mark.parametrize("k", [1, 3, 5, 20])
def test_ndcg_is_scikit_learns_ties_and_all(k: int) -> None:
    wanted = [ndcg_score([2**y - 1], [p], k=k) for y, p in USERS]
    np.testing.assert_allclose(rated.ndcg(RATINGS, TIED, MASK, k=k).values, wanted, atol=1e-12)


def test_auc_is_scikit_learns() -> None:
    found = rated.auc(RATINGS, TIED, MASK, relevant=4.0).values
    for (y, p), value in zip(USERS, found, strict=True):
        both = 0 < (y >= 4).sum() < len(y)
        assert np.isnan(value) != both
        if both:
            assert value == pytest.approx(roc_auc_score(y >= 4, p), abs=1e-12)


def test_errors_are_scikit_learns() -> None:
    np.testing.assert_allclose(rated.mae(RATINGS, TIED, MASK).values, [mean_absolute_error(y, p) for y, p in USERS])
    np.testing.assert_allclose(rated.rmse(RATINGS, TIED, MASK).values, [mean_squared_error(y, p) ** 0.5 for y, p in USERS])
    assert rated.rmse_pooled(RATINGS, TIED, MASK).value == pytest.approx(mean_squared_error(RATINGS[MASK], TIED[MASK]) ** 0.5)
    assert rated.mae_pooled(RATINGS, TIED, MASK).value == pytest.approx(mean_absolute_error(RATINGS[MASK], TIED[MASK]))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_precision_and_recall_are_means_over_all_orders_of_ties(k: int) -> None:
    ratings, scores = RATINGS[:12, :5], TIED[:12, :5]
    mask = np.ones(ratings.shape, dtype=bool)
    precise = rated.precision(ratings, scores, mask, k=k, relevant=4.0).values
    recalled = rated.recall(ratings, scores, mask, k=k, relevant=4.0).values
    for user in range(len(ratings)):
        good = ratings[user] >= 4
        falling = [scores[user, order] for order in map(list, permutations(range(5)))]
        orders = [order for order, seen in zip(permutations(range(5)), falling, strict=True) if all(a >= b for a, b in pairwise(seen))]
        hits = np.mean([good[list(order[:k])].sum() for order in orders])
        assert precise[user] == pytest.approx(hits / k)
        assert (recalled[user] == pytest.approx(hits / good.sum())) if good.any() else np.isnan(recalled[user])


def log_sum(values: list[float]) -> float:
    """The discounted sum, as each of the three repositories writes it."""
    return sum(float(value / np.log2(place + 1)) for place, value in enumerate(values, start=1))


def test_compatible_forms_are_those_of_plain_loops() -> None:
    scores = TIED + DRAW.normal(0, 1e-3, TIED.shape)  # no ties among predictions
    ratings = RATINGS + DRAW.normal(0, 1e-3, RATINGS.shape)
    metahin, mamo, recbole = [], [], []
    for user, n in enumerate(LENGTH):
        y, p = ratings[user, :n], scores[user, :n]
        best = sorted(sorted(range(n), key=lambda at: -y[at])[:5])
        metahin.append(log_sum([p[at] for at in best]) / log_sum(sorted((y[at] for at in best), reverse=True)))
        ranked = sorted(range(n), key=lambda at: -np.rint(p[at]))[:3]
        ideal = sorted((2**rating - 1 for rating in y), reverse=True)[:3]
        mamo.append(log_sum(sorted((2 ** y[at] - 1 for at in ranked), reverse=True)) / log_sum(ideal))
        good = set(sorted(range(n), key=lambda at: -y[at])[:7])
        top = sorted(range(n), key=lambda at: -p[at])[:5]
        recbole.append(log_sum([float(at in good) for at in top]) / log_sum([1.0] * 5))
    np.testing.assert_allclose(metahin_ndcg(ratings, scores, MASK, k=5).values, metahin)
    np.testing.assert_allclose(mamo_ndcg(ratings, scores, MASK, k=3).values, mamo)
    np.testing.assert_allclose(recbole_ndcg(ratings, scores, MASK, k=5).values, recbole)
