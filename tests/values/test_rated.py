"""Metrics of episodes on numbers small enough for the hand."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest
from jaxtyping import Bool, Float

from umbel.evaluate import compat, rated
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.peruser import PerUser, per_user


def shots(*rows: list[float]) -> tuple[Float[np.ndarray, "users shots"], Bool[np.ndarray, "users shots"]]:
    """Ragged rows, padded with 99."""
    longest = max(map(len, rows))
    padded = np.array([[*row, *[99.0] * (longest - len(row))] for row in rows], dtype=np.float64)
    return padded, np.array([[place < len(row) for place in range(longest)] for row in rows])


RATINGS, MASK = shots([5, 3, 1], [4, 2])
PREDICTIONS, _ = shots([4, 3, 3], [4, 4])


def values(found: PerUser) -> list[float]:
    return [float(value) for value in found.values]


def test_errors_inside_users_and_pooled() -> None:
    assert values(rated.mae(RATINGS, PREDICTIONS, MASK)) == [1.0, 1.0]
    assert values(rated.rmse(RATINGS, PREDICTIONS, MASK)) == pytest.approx([(5 / 3) ** 0.5, 2**0.5])
    assert rated.rmse(RATINGS, PREDICTIONS, MASK).value == pytest.approx(((5 / 3) ** 0.5 + 2**0.5) / 2)
    assert rated.rmse_pooled(RATINGS, PREDICTIONS, MASK).value == pytest.approx((9 / 5) ** 0.5)
    assert rated.mae_pooled(RATINGS, np.zeros_like(RATINGS), MASK).value == pytest.approx((9 + 6) / 5)
    assert rated.mae(RATINGS, np.zeros_like(RATINGS), MASK).value == pytest.approx((3 + 3) / 2)


def test_ndcg_counts_gains_discounted_and_ties_in_expectation() -> None:
    found = rated.ndcg(RATINGS, PREDICTIONS, MASK, k=2)
    first = (31 + 4 / log2(3)) / (31 + 7 / log2(3))  # rows of rating 3 and 1 tie: (7 + 1) / 2 at the second place
    second = (9 + 9 / log2(3)) / (15 + 3 / log2(3))
    assert values(found) == pytest.approx([first, second])
    assert rated.ndcg(RATINGS, RATINGS, MASK, k=5).value == 1


def test_ndcg_of_the_worst_order() -> None:
    ratings, mask = shots([2, 1, 0])
    assert rated.ndcg(ratings, -ratings, mask, k=1).value == 0
    assert rated.ndcg(ratings, -ratings, mask, k=3).value == pytest.approx((1 / log2(3) + 3 / 2) / (3 + 1 / log2(3)))


def test_a_rating_beyond_all_scales_has_no_ndcg() -> None:
    """2 to the power of a million is no number; the other users keep theirs."""
    found = rated.ndcg(np.array([[1e6, 1.0], [5.0, 1.0]]), np.array([[1.0, 2.0], [2.0, 1.0]]), np.ones((2, 2), bool), k=1)
    assert np.isnan(found.values[0])
    assert found.values[1] == 1.0
    assert found.lost == {"a rating above 64": 1}


def test_a_user_without_gain_has_no_ndcg() -> None:
    ratings, mask = shots([0, 0], [1, 0])
    found = rated.ndcg(ratings, ratings, mask, k=1)
    assert found.lost == {"no rating above 0": 1}
    assert (found.users, found.value) == (1, 1.0)


def test_precision_and_recall() -> None:
    assert values(rated.precision(RATINGS, PREDICTIONS, MASK, k=1, relevant=4.0)) == [1.0, 0.5]
    assert values(rated.precision(RATINGS, PREDICTIONS, MASK, k=3, relevant=4.0)) == pytest.approx([1 / 3, 1 / 2])
    assert values(rated.precision(RATINGS, PREDICTIONS, MASK, k=2, relevant=3.0)) == [0.75, 0.5]
    assert values(rated.recall(RATINGS, PREDICTIONS, MASK, k=2, relevant=3.0)) == [0.75, 1.0]
    found = rated.recall(RATINGS, PREDICTIONS, MASK, k=2, relevant=5.0)
    assert values(found)[0] == 1
    assert found.lost == {"no relevant row": 1}


def test_auc_of_users_and_of_those_who_have_none() -> None:
    labels, mask = shots([1, 0, 0], [1, 1], [0, 1])
    scores, _ = shots([2, 3, 1], [5, 4], [7, 7])
    found = rated.auc(labels, scores, mask, relevant=1.0)
    assert values(found)[::2] == [0.5, 0.5]
    assert found.lost == {"relevant rows only, or none": 1}
    assert found.users == 2


def test_metahins_formula_reads_scores_of_the_best_rated_as_they_stand() -> None:
    ratings, mask = shots([1, 5, 2, 4])
    scores, _ = shots([9, 2, 8, 3])
    found = compat.metahin_ndcg(ratings, scores, mask, k=2)
    assert found.value == pytest.approx((2 + 3 / log2(3)) / (5 + 4 / log2(3)))
    assert compat.metahin_ndcg(ratings, scores * 10, mask, k=2).value == pytest.approx(10 * (2 + 3 / log2(3)) / (5 + 4 / log2(3)))


def test_mamos_formula_sorts_what_it_found() -> None:
    ratings, mask = shots([1, 5, 3, 4])
    found = compat.mamo_ndcg(ratings, np.array([[4.6, 4.0, 2.0, 1.0]]), mask, k=2)
    assert found.value == pytest.approx((31 + 1 / log2(3)) / (31 + 15 / log2(3)))
    rounded = compat.mamo_ndcg(ratings, np.array([[1.4, 1.3, 0.6, 1.0]]), mask, k=2)  # all of class 1: the first two rows
    assert rounded.value == pytest.approx((31 + 1 / log2(3)) / (31 + 15 / log2(3)))


def test_recboles_formula_knows_good_and_bad_alone() -> None:
    ratings, mask = shots([5, 4, 1, 1])
    scores, _ = shots([1, 3, 2, 4])
    assert compat.recbole_ndcg(ratings, scores, mask, k=2, positives=2).value == pytest.approx((1 / log2(3)) / (1 + 1 / log2(3)))
    tied, _ = shots([5, 4, 4, 1])  # one of two rows rated 4 is good, either with one half
    assert compat.recbole_ndcg(tied, scores, mask, k=2, positives=2).value == pytest.approx((0.5 / log2(3)) / (1 + 1 / log2(3)))
    few = compat.recbole_ndcg(ratings, scores, mask, k=2)
    assert few.lost == {"fewer than 7 query rows": 1}
    assert few.value == Undefined("fewer than 7 query rows")


def test_the_forms_differ_on_one_ranking() -> None:
    """What a constant gets of a hand-made user of ten rows: by the definition alone from .43 to 1."""
    ratings, mask = shots([5, 5, 4, 4, 4, 3, 3, 3, 2, 1])
    constant = np.full_like(ratings, 3.4)
    discount = [1 / log2(place + 2) for place in range(10)]
    gains = [2**rating - 1 for rating in ratings[0]]
    standard = [np.mean(gains) * sum(discount[:k]) / np.dot(gains[:k], discount[:k]) for k in (1, 3, 5)]
    assert [rated.ndcg(ratings, constant, mask, k=k).value for k in (1, 3, 5)] == pytest.approx(standard)
    metahin = 3.4 * sum(discount[:5]) / np.dot(ratings[0, :5], discount[:5])
    assert compat.COMPAT["metahin_ndcg@5"](ratings, constant, mask).value == pytest.approx(metahin)
    for k in (1, 3, 5, 7):
        assert compat.COMPAT[f"recbole_ndcg@{k}"](ratings, constant, mask).value == pytest.approx(0.7)
    assert compat.COMPAT["mamo_ndcg@3"](ratings, constant, mask).value == pytest.approx(1)
    assert compat.COMPAT["mamo_ndcg@3"](ratings[:, ::-1], constant, mask).value == pytest.approx(
        np.dot([7, 3, 1], discount[:3]) / np.dot([31, 31, 15], discount[:3])
    )
    assert standard[0] == pytest.approx(13.2 / 31)
    assert metahin == pytest.approx(0.747, abs=0.001)


def test_a_listing_takes_its_threshold_and_tops() -> None:
    found = rated.listing(relevant=8.0, tops=(2,))
    assert set(found) == {"mae", "rmse", "mae_pooled", "rmse_pooled", "ndcg@2", "precision@2", "recall@2", "auc"}
    books, mask = shots([9, 7, 3])
    assert found["precision@2"](books, books, mask).value == 0.5
    assert {name for name, metric in found.items() if metric(books, books, mask).falls} == {"mae", "rmse", "mae_pooled", "rmse_pooled"}


def test_a_user_is_counted_under_the_first_reason() -> None:
    found = per_user(np.array([1.0, 2.0, 3.0]), {"one": np.array([True, False, False]), "two": np.array([True, True, False])})
    assert found.lost == {"one": 1, "two": 1}
    assert (found.users, found.value) == (1, 3.0)
