"""Metrics on numbers small enough to do by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from umbel.evaluate import metrics
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.ranking import Ordered, run_starts, user_aucs


def test_auc_counts_pairs_won_and_half_of_ties() -> None:
    # pairs (positive, negative): .9>.1, .9>.5, .5=.5 (half), .5>.1  -> 3.5 of 4
    labels, scores = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.1, 0.5, 0.5])
    assert metrics.auc(labels, scores) == 3.5 / 4


def test_auc_of_weights_counts_weighted_pairs() -> None:
    # positives weigh 2 and 1, negatives 1 and 3; won: 2*(1+3) + 1*1 + half of 1*3
    labels, scores = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.9, 0.5, 0.1, 0.5])
    assert metrics.auc(labels, scores, np.array([2.0, 1.0, 1.0, 3.0])) == (8 + 1 + 1.5) / 12


def test_auc_is_one_half_only_where_it_is_earned() -> None:
    labels = np.array([1.0, 0.0, 1.0, 0.0])
    assert metrics.auc(labels, np.zeros(4)) == 0.5
    assert metrics.auc(labels[:1], np.zeros(1)) == Undefined("no negative row")
    assert metrics.auc(1 - labels[:1], np.zeros(1)) == Undefined("no positive row")


def test_auc_takes_infinite_scores_as_the_ends_of_the_line() -> None:
    labels, scores = np.array([1.0, 0.0, 1.0, 0.0]), np.array([np.inf, -np.inf, 0.0, np.inf])
    assert metrics.auc(labels, scores) == (1 + 0.5 + 1) / 4


def test_auc_of_float32_scores_is_not_rounded_to_float32() -> None:
    labels = np.array([1.0, 0.0, 0.0, 0.0], dtype=np.float32)
    assert metrics.auc(labels, np.array([2, 1, 2, 3], dtype=np.float32)) == 1.5 / 3


def test_average_precision_by_hand() -> None:
    # by falling score: +, -, +, -  ->  precision 1 at recall 1/2, 2/3 at recall 1
    labels, scores = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.1, 0.4, 0.35, 0.2])
    assert metrics.average_precision(labels, scores) == pytest.approx((1 + 2 / 3) / 2)


def test_average_precision_of_ties_does_not_depend_on_their_order() -> None:
    labels = np.array([1.0, 0.0, 0.0, 1.0])
    for turn in range(4):
        assert metrics.average_precision(np.roll(labels, turn), np.zeros(4)) == 0.5


def test_average_precision_is_one_without_negatives_and_undefined_without_positives() -> None:
    assert metrics.average_precision(np.ones(3), np.arange(3.0)) == 1.0
    assert metrics.average_precision(np.zeros(3), np.arange(3.0)) == Undefined("no positive row")


def test_gauc_weighs_users_by_impressions() -> None:
    # user 5: 4 rows, AUC 1; user 6: 2 rows, AUC 0; user 7 has one class and does not count
    labels = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    scores = np.array([0.9, 0.1, 0.2, 0.3, 0.1, 0.9, 0.5, 0.6, 0.7])
    groups = np.array([5, 5, 5, 5, 6, 6, 7, 7, 7])
    assert metrics.gauc(labels, scores, groups) == pytest.approx(4 / 6)


def test_gauc_reads_raw_ids_of_any_size() -> None:
    labels, scores = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.1, 0.1, 0.9])
    groups = np.array([2**62, 2**62, -(2**62), -(2**62)])
    assert metrics.gauc(labels, scores, groups) == 0.5


def test_gauc_counts_ties_one_half_inside_a_user_and_not_across() -> None:
    labels, scores = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.5, 0.5, 0.5, 0.1])
    assert metrics.gauc(labels, scores, np.array([1, 1, 2, 2])) == pytest.approx((2 * 0.5 + 2 * 1.0) / 4)


def test_gauc_without_any_user_with_both_classes_is_undefined() -> None:
    assert metrics.gauc(np.array([1.0, 0.0]), np.array([0.1, 0.2]), np.array([1, 2])) == Undefined("no user with both classes")


def test_logloss_by_hand() -> None:
    assert metrics.logloss(np.array([1.0, 0.0]), np.array([0.8, 0.4])) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)


def test_logloss_of_weights_is_a_weighted_mean() -> None:
    found = metrics.logloss(np.array([1.0, 0.0]), np.array([0.8, 0.4]), np.array([3.0, 1.0]))
    assert found == pytest.approx(-(3 * math.log(0.8) + math.log(0.6)) / 4)


def test_logloss_is_defined_for_one_class_but_its_normalised_form_is_not() -> None:
    assert metrics.logloss(np.ones(2), np.array([0.5, 0.5])) == pytest.approx(math.log(2))
    assert metrics.normalised_entropy(np.ones(2), np.array([0.5, 0.5])) == Undefined("no negative row")


def test_normalised_entropy_is_one_for_the_base_rate_and_zero_for_certainty() -> None:
    labels = np.array([1.0, 0.0, 0.0, 0.0])
    assert metrics.normalised_entropy(labels, np.full(4, 0.25)) == pytest.approx(1.0)
    assert metrics.normalised_entropy(labels, labels) == pytest.approx(0.0, abs=1e-12)


def test_ece_of_two_bins_by_hand() -> None:
    # bins {.1, .1} with rate 1/2 and {.9, .9} with rate 1: gaps .4 and .1, half the rows each
    labels, chance = np.array([0.0, 1.0, 1.0, 1.0]), np.array([0.1, 0.1, 0.9, 0.9])
    assert metrics.ece(labels, chance, edges=np.array([0.5])) == pytest.approx(0.25)


def test_ece_keeps_equal_probabilities_in_one_bin() -> None:
    labels = np.array([1.0, 0.0] * 50)
    assert metrics.ece(labels, np.full(100, 0.5)) == pytest.approx(0.0, abs=1e-12)
    assert metrics.ece(np.sort(labels), np.full(100, 0.5)) == pytest.approx(0.0, abs=1e-12)


def test_ece_has_fifteen_bins_of_equal_mass() -> None:
    chance = np.linspace(0.01, 0.99, 1500) ** 3
    edges = metrics.equal_mass_edges(chance)
    assert len(edges) == 14
    counts = np.bincount(metrics.bin_of(chance, edges))
    assert len(counts) == 15
    assert counts.max() - counts.min() <= 2


def test_ece_of_a_constant_gap_is_that_gap() -> None:
    generator = np.random.default_rng(0)
    chance = np.repeat(np.linspace(0.1, 0.8, 15), 100)
    labels = np.concatenate([np.arange(100) < round(100 * (level + 0.1)) for level in np.linspace(0.1, 0.8, 15)]).astype(np.float64)
    order = generator.permutation(1500)
    assert metrics.ece(labels[order], chance[order]) == pytest.approx(0.1, abs=1e-9)


def test_calibration_ratio_above_one_promises_too_much() -> None:
    assert metrics.calibration_ratio(np.array([1.0, 0.0, 0.0]), np.array([0.5, 0.5, 0.5])) == pytest.approx(1.5)
    assert metrics.calibration_ratio(np.zeros(2), np.array([0.5, 0.5])) == Undefined("no positive row")


def test_rmse_mae_r2_by_hand() -> None:
    labels, found = np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 5.0])
    assert metrics.rmse(labels, found) == pytest.approx(math.sqrt(5 / 3))
    assert metrics.mae(labels, found) == pytest.approx(1.0)
    assert metrics.r2(labels, found) == pytest.approx(1 - 5 / 2)


def test_r2_of_a_constant_label_is_undefined() -> None:
    assert metrics.r2(np.full(3, 7.0), np.arange(3.0)) == Undefined("the label is constant")


def test_no_weight_at_all_is_undefined() -> None:
    labels, values, weight = np.array([1.0, 0.0]), np.array([0.2, 0.8]), np.zeros(2)
    assert metrics.auc(labels, values, weight) == Undefined("no positive row")
    assert metrics.average_precision(labels, values, weight) == Undefined("no positive row")
    assert metrics.logloss(labels, values, weight) == Undefined("no row")
    assert metrics.ece(labels, values, weight=weight) == Undefined("no row")
    assert metrics.normalised_entropy(labels, values, weight) == Undefined("no row")


def test_a_weight_of_zero_on_the_top_rows_does_no_harm() -> None:
    labels, scores = np.array([1.0, 1.0, 0.0, 0.0]), np.array([9.0, 2.0, 3.0, 1.0])
    weight = np.array([0.0, 1.0, 1.0, 1.0])
    assert metrics.auc(labels, scores, weight) == 0.5
    assert metrics.average_precision(labels, scores, weight) == 0.5


def test_entropy_of_a_coin() -> None:
    assert metrics.entropy(np.array([0.5]))[0] == pytest.approx(math.log(2))
    assert metrics.entropy(np.array([0.0, 1.0])) == pytest.approx(np.zeros(2), abs=1e-12)


def test_run_starts_of_one_and_of_two_columns() -> None:
    assert run_starts(np.array([3, 3, 4, 4, 3])).tolist() == [0, 2, 4]
    assert run_starts(np.array([3, 3, 4, 4]), np.array([1.0, 2.0, 2.0, 2.0])).tolist() == [0, 1, 2]
    assert run_starts(np.empty(0)).tolist() == []


def test_order_knows_where_ties_begin_and_end() -> None:
    found = Ordered.of(np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, 5.0, 1.0, 0.0]))
    assert found.order.tolist() == [1, 0, 2, 3]
    assert found.place.tolist() == [1, 2]
    assert (found.first.tolist(), found.last.tolist()) == ([1, 1], [3, 3])
    assert (found.rank_first.tolist(), found.rank_last.tolist()) == ([0, 0], [2, 2])
    assert found.tied


def test_order_without_ties_says_so() -> None:
    assert not Ordered.of(np.array([1.0, 0.0]), np.array([1.0, 2.0])).tied


def test_user_aucs_come_in_rising_raw_id() -> None:
    found = user_aucs(np.array([1.0, 0.0, 1.0]), np.array([0.2, 0.1, 0.9]), np.array([9, 9, -4]))
    assert found.user.tolist() == [-4, 9]
    assert found.rows.tolist() == [1, 2]
    assert found.both.tolist() == [False, True]
    assert found.auc.tolist() == [0.0, 1.0]
