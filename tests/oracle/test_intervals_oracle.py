"""Interval widths against closed forms: DeLong for AUC, the sandwich for means of clusters, the delta method for ratios."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Float

from umbel.evaluate.figures import Figures, Rows, binary_figures, regression_figures
from umbel.evaluate.intervals import Interval, Sampled, resample
from umbel.evaluate.ranking import user_aucs

RESAMPLES = 600


def deviation(figures: Figures, name: str) -> float:
    """The standard deviation of the draws."""
    sampled = figures.draws[name]
    assert isinstance(sampled, Sampled)
    return float(np.nanstd(sampled.draws, ddof=1))


def independent(seed: int, users: int = 1500) -> Rows:
    """One row a user: the bootstrap over users is the bootstrap over rows."""
    draw = np.random.default_rng(seed)
    logit = draw.normal(size=users)
    labels = (draw.random(users) < 1 / (1 + np.exp(-logit))).astype(np.float64)
    groups = np.arange(users)
    return Rows(labels, logit, 1 / (1 + np.exp(-logit)), groups, resample(groups, resamples=RESAMPLES, seed=seed))


def clustered(seed: int, users: int = 600, each: int = 8) -> Rows:
    """Rows of a user share a taste that the model does not know."""
    draw = np.random.default_rng(seed)
    groups = np.repeat(np.arange(users), each)
    hidden = draw.normal(size=users)[groups] * 1.5
    logit = draw.normal(size=users * each)
    labels = (draw.random(users * each) < 1 / (1 + np.exp(-logit - hidden))).astype(np.float64)
    return Rows(labels, logit, 1 / (1 + np.exp(-logit)), groups, resample(groups, resamples=RESAMPLES, seed=seed))


def delong(labels: Float[np.ndarray, "rows"], scores: Float[np.ndarray, "rows"]) -> float:
    """Standard error of AUC: the spread of each positive's and each negative's share of won pairs (DeLong et al., 1988)."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    won = (positive[:, None] > negative[None, :]) + 0.5 * (positive[:, None] == negative[None, :])
    return float(np.sqrt(won.mean(axis=1).var(ddof=1) / len(positive) + won.mean(axis=0).var(ddof=1) / len(negative)))


def by_user(rows: Rows, column: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "users"]:
    return np.bincount(rows.by.code, column)


def ratio_error(above: Float[np.ndarray, "users"], below: Float[np.ndarray, "users"]) -> float:
    """Standard error of a ratio of sums over users, by the delta method."""
    rest = above - above.sum() / below.sum() * below
    return float(np.sqrt(len(rest) * rest.var(ddof=1)) / below.sum())


@pytest.mark.parametrize("seed", range(2))
def test_auc_of_independent_rows_is_as_sure_as_delong_says(seed: int) -> None:
    rows = independent(seed)
    assert deviation(binary_figures(rows), "auc") == pytest.approx(delong(rows.labels, rows.scores), rel=0.12)


@pytest.mark.parametrize("seed", range(2))
def test_tied_auc_of_independent_rows_is_as_sure_as_delong_says(seed: int) -> None:
    rows = independent(seed)
    tied = Rows(rows.labels, np.round(rows.scores), rows.predictions, rows.groups, rows.by)
    assert deviation(binary_figures(tied), "auc") == pytest.approx(delong(tied.labels, tied.scores), rel=0.12)


@pytest.mark.parametrize("seed", range(2))
def test_auc_of_users_who_come_twice_is_less_sure_than_delong_believes(seed: int) -> None:
    """Every row of a user four times: DeLong sees four times the rows, the users are no more than they were."""
    rows = independent(seed, 400)
    four = np.tile(np.arange(400), 4)
    groups = rows.groups[four]
    again = Rows(rows.labels[four], rows.scores[four], rows.predictions[four], groups, resample(groups, resamples=RESAMPLES, seed=seed))
    assert deviation(binary_figures(again), "auc") == pytest.approx(2 * delong(again.labels, again.scores), rel=0.12)
    assert deviation(binary_figures(again), "auc") == pytest.approx(deviation(binary_figures(rows), "auc"), rel=1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_logloss_has_the_error_of_a_mean_over_clusters(seed: int) -> None:
    rows = clustered(seed)
    loss = -np.log(np.where(rows.labels == 1, rows.predictions, 1 - rows.predictions))
    expected = ratio_error(by_user(rows, loss), by_user(rows, np.ones_like(loss)))
    assert deviation(binary_figures(rows), "logloss") == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("seed", range(2))
def test_calibration_ratio_has_the_error_of_a_ratio_over_clusters(seed: int) -> None:
    rows = clustered(seed)
    expected = ratio_error(by_user(rows, rows.predictions), by_user(rows, rows.labels))
    assert deviation(binary_figures(rows), "calibration_ratio") == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("seed", range(2))
def test_gauc_has_the_error_of_a_mean_over_users(seed: int) -> None:
    rows = clustered(seed)
    users = user_aucs(rows.labels, rows.scores, rows.groups)
    weight = np.where(users.both, users.rows, 0).astype(np.float64)
    assert deviation(binary_figures(rows), "gauc") == pytest.approx(ratio_error(weight * users.auc, weight), rel=0.12)


@pytest.mark.parametrize("seed", range(2))
def test_mae_has_the_error_of_a_mean_over_clusters(seed: int) -> None:
    rows = clustered(seed)
    error = np.abs(rows.predictions - rows.labels)
    expected = ratio_error(by_user(rows, error), by_user(rows, np.ones_like(error)))
    assert deviation(regression_figures(rows), "mae") == pytest.approx(expected, rel=0.12)


def test_bounds_are_about_two_deviations_from_the_value() -> None:
    figures = binary_figures(clustered(9))
    for name in ("auc", "gauc", "logloss", "ne", "calibration_ratio"):
        one = figures.metrics[name]
        assert isinstance(one, Interval)
        assert one.low is not None
        assert one.high is not None
        assert (one.high - one.low) / 2 == pytest.approx(1.96 * deviation(figures, name), rel=0.12)
        assert one.low < one.value < one.high


def test_four_times_the_users_halve_the_interval() -> None:
    few, many = (binary_figures(clustered(3, users)) for users in (400, 1600))
    for name in ("auc", "logloss", "calibration_ratio"):
        assert deviation(few, name) / deviation(many, name) == pytest.approx(2.0, rel=0.15)
