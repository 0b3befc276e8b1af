"""Metrics against scikit-learn: 1e-9 on more than a thousand random cases with ties, weights and constants."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from jaxtyping import Float
from sklearn import config_context
from sklearn import metrics as oracle

from umbel.evaluate.metrics import Undefined, auc, average_precision, gauc, logloss, mae, normalised_entropy, r2, rmse

CASES = 1200


@pytest.fixture(autouse=True)
def unchecked() -> Iterator[None]:
    """What scikit-learn is given here is as it should be: looking whether it is takes most of its time."""
    with config_context(assume_finite=True, skip_parameter_validation=True):
        yield


def case(seed: int) -> tuple[Float[np.ndarray, "rows"], Float[np.ndarray, "rows"], Float[np.ndarray, "rows"] | None]:
    """Labels, scores (continuous, tied or constant) and weights (none, whole with zeros, real)."""
    draw = np.random.default_rng(seed)
    rows = int(draw.integers(2, 80))
    labels = (draw.random(rows) < draw.random()).astype(np.float64)
    levels = (0, 1, 2, 5)[seed % 4]
    scores = draw.random(rows) if levels == 0 else draw.integers(levels, size=rows) / 7 + 0.05
    weight = (None, draw.integers(0, 3, rows).astype(np.float64), draw.random(rows) * 9)[seed % 3]
    return labels, scores, weight


def one_class(labels: Float[np.ndarray, "rows"], weight: Float[np.ndarray, "rows"] | None) -> bool:
    mass = np.ones_like(labels) if weight is None else weight
    return bool(min(mass[labels == 1].sum(), mass[labels == 0].sum()) == 0)


def test_ranking_metrics_equal_scikit_learn() -> None:
    judged = 0
    for seed in range(CASES):
        labels, scores, weight = case(seed)
        found, precision = auc(labels, scores, weight), average_precision(labels, scores, weight)
        if one_class(labels, weight):
            assert isinstance(found, Undefined)
            continue
        judged += 1
        assert found == pytest.approx(oracle.roc_auc_score(labels, scores, sample_weight=weight), abs=1e-9), seed
        assert precision == pytest.approx(oracle.average_precision_score(labels, scores, sample_weight=weight), abs=1e-9), seed
    assert judged >= 1000


def test_probability_metrics_equal_scikit_learn() -> None:
    for seed in range(CASES):
        labels, scores, weight = case(seed)
        chance = np.clip(scores, 0, 1)
        expected = oracle.log_loss(labels, chance, sample_weight=weight, labels=[0, 1]) if weight is None or weight.sum() > 0 else None
        if expected is None:
            assert isinstance(logloss(labels, chance, weight), Undefined)
            continue
        assert logloss(labels, chance, weight) == pytest.approx(expected, abs=1e-9), seed
        if not one_class(labels, weight):
            base = np.full_like(chance, np.average(labels, weights=weight))
            ground = oracle.log_loss(labels, base, sample_weight=weight)
            assert normalised_entropy(labels, chance, weight) == pytest.approx(expected / ground, abs=1e-9), seed


def test_sure_and_wrong_probabilities_are_held_as_scikit_learn_holds_them() -> None:
    labels, chance = np.array([0.0, 1.0, 1.0]), np.array([1.0, 0.0, 1.0])
    assert logloss(labels, chance) == pytest.approx(oracle.log_loss(labels, chance), abs=1e-9)


def test_gauc_equals_a_loop_over_users() -> None:
    for seed in range(300):
        draw = np.random.default_rng(seed)
        rows = int(draw.integers(1, 120))
        labels = (draw.random(rows) < 0.4).astype(np.float64)
        scores = draw.integers(1 + seed % 9, size=rows).astype(np.float64)
        groups = draw.integers(-3, 4, rows) * 2**61
        won, total = 0.0, 0
        for user in np.unique(groups):
            own = groups == user
            if 0 < labels[own].sum() < own.sum():
                won += own.sum() * oracle.roc_auc_score(labels[own], scores[own])
                total += own.sum()
        found = gauc(labels, scores, groups)
        if total:
            assert found == pytest.approx(won / total, abs=1e-9), seed
        else:
            assert isinstance(found, Undefined)


def test_regression_metrics_equal_scikit_learn() -> None:
    for seed in range(CASES):
        draw = np.random.default_rng(seed)
        rows = int(draw.integers(2, 80))
        labels, found = draw.normal(size=rows) * 10.0 ** draw.integers(-3, 4), draw.normal(size=rows)
        assert rmse(labels, found) == pytest.approx(oracle.root_mean_squared_error(labels, found), rel=1e-9)
        assert mae(labels, found) == pytest.approx(oracle.mean_absolute_error(labels, found), rel=1e-9)
        assert r2(labels, found) == pytest.approx(oracle.r2_score(labels, found), rel=1e-9)
