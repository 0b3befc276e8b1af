"""Exact Bayes AUC: by hand, against all pairs, against scikit-learn, and against fresh draws of the labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from umbel.data.simulate import Planted, simulate
from umbel.data.truth import bayes, expected_auc

SMALL = Planted(users=300, items=80, rows=30_000, seed=3)


def by_pairs(scores: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
    weight = positive[:, None] * negative[None, :]
    np.fill_diagonal(weight, 0.0)
    order = (scores[:, None] > scores[None, :]) + 0.5 * (scores[:, None] == scores[None, :])
    return float((weight * order).sum() / weight.sum())


def test_two_rows_by_hand() -> None:
    """p = .8 and .2: in order .8 * .8, out of order .2 * .2."""
    p = np.array([0.8, 0.2])
    assert expected_auc(p, p, 1 - p) == pytest.approx(0.64 / 0.68)


def test_a_constant_score_is_worth_a_half() -> None:
    p = np.full(5, 0.3)
    assert expected_auc(p, p, 1 - p) == pytest.approx(0.5)


def test_without_pairs_there_is_no_auc() -> None:
    assert np.isnan(expected_auc(np.array([0.5]), np.array([0.5]), np.array([0.5])))
    assert np.isnan(expected_auc(np.array([0.1, 0.9]), np.ones(2), np.zeros(2)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0.01, 0.99), st.floats(0.0, 1.0)), min_size=2, max_size=30))
def test_equals_the_sum_over_pairs(rows: list[tuple[int, float, float]]) -> None:
    scores, chance, space = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    positive, negative = (space + 0.01) * chance, (space + 0.01) * (1 - chance)
    assert expected_auc(scores, positive, negative) == pytest.approx(by_pairs(scores, positive, negative), abs=1e-9)


def test_with_labels_it_is_the_auc_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    scores, labels = draw.integers(20, size=400) / 20, draw.integers(2, size=400).astype(np.float64)
    assert expected_auc(scores, labels, 1 - labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_a_folder_with_brackets_is_itself(tmp_path: Path) -> None:
    few = replace(SMALL, rows=2_000)
    for name in ("a[1]", "a1", "b*"):  # read as a pattern, the first would be the second
        simulate(replace(few, seed=len(name)), tmp_path / name)
    simulate(replace(few, seed=4), tmp_path / "plain")
    assert bayes(tmp_path / "a[1]") == bayes(tmp_path / "plain") != bayes(tmp_path / "a1")
    assert bayes(tmp_path / "b*") == bayes(tmp_path / "a1")


def test_it_is_the_mean_over_draws_of_the_labels() -> None:
    draw = np.random.default_rng(1)
    p = draw.beta(1, 3, size=500)
    drawn = [roc_auc_score(draw.random(p.size) < p, p) for _ in range(300)]
    assert expected_auc(p, p, 1 - p) == pytest.approx(np.mean(drawn), abs=4 * float(np.std(drawn)) / np.sqrt(300))


def test_observed_and_expected_meet_on_a_log(tmp_path: Path) -> None:
    simulate(SMALL, tmp_path)
    found = bayes(tmp_path)
    assert list(found) == ["click", "like", "buy", "buy, marginal"]
    for name, one in found.items():
        error = 0.08 if name == "buy" else 0.03
        assert one.observed == pytest.approx(one.expected, abs=error)
        assert 0.7 < one.expected < 1.0


def test_the_conditional_is_drawn_with_its_click(tmp_path: Path) -> None:
    """Averaged over seeds, the conditional's observed AUC meets the expectation that weighs rows by p(click)."""
    gaps = []
    for seed in range(6):
        simulate(replace(SMALL, seed=seed, rates=(0.3, 0.2, 0.4)), tmp_path)
        one = bayes(tmp_path)["buy"]
        gaps.append(one.observed - one.expected)
    assert abs(np.mean(gaps)) < 3 * np.std(gaps, ddof=1) / np.sqrt(len(gaps)) + 1e-3


def test_a_marginal_is_not_its_conditional(tmp_path: Path) -> None:
    simulate(replace(SMALL, conflict=1.0, correlation=-1.0, rates=(0.3, 0.2, 0.4)), tmp_path)
    found = bayes(tmp_path)
    assert found["buy"].expected > found["buy, marginal"].expected


def test_no_label_beats_the_truth(tmp_path: Path) -> None:
    """Any other score does worse: here the truth behind another task."""
    simulate(replace(SMALL, conflict=1.0, correlation=0.0), tmp_path)
    assert bayes(tmp_path)["click"].expected > 0.8


def test_a_slice_of_the_truth(tmp_path: Path) -> None:
    simulate(SMALL, tmp_path)
    part, whole = bayes(tmp_path, slice_column="conflicting"), bayes(tmp_path)
    assert part["like"] != whole["like"]
