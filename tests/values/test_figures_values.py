"""Figures of one task on rows made by hand: counts, the reliability curve, and how they answer odd rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float

from umbel.data.groups import groups
from umbel.data.source import Source
from umbel.evaluate.figures import CURVE_BINS, METRICS, REGRESSION_METRICS, Rows, binary_figures, curve, regression_figures
from umbel.evaluate.intervals import Interval, Sampled, resample
from umbel.evaluate.metrics import Undefined


def rows(labels: Float[np.ndarray, "rows"], scores: Float[np.ndarray, "rows"], users: int = 20) -> Rows:
    whose = np.arange(len(labels)) % users
    return Rows(labels, scores, 1 / (1 + np.exp(-scores)), whose, resample(whose, resamples=16, seed=0))


def noisy(seed: int, count: int = 400) -> Rows:
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=count)
    return rows((draw.random(count) < 1 / (1 + np.exp(-scores))).astype(np.float64), scores)


def test_counts_are_rows_users_and_positives() -> None:
    found = binary_figures(rows(np.array([1.0, 0.0, 1.0, 0.0, 1.0]), np.arange(5.0), users=3))
    assert (found.rows, found.users, found.positives) == (5, 3, 3)


def test_some_rows_are_some_of_everything() -> None:
    whole = noisy(0)
    part = whole.where(np.array([3, 5, 8]))
    assert part.labels.tolist() == whole.labels[[3, 5, 8]].tolist()
    assert part.groups.tolist() == [3, 5, 8]
    assert (part.by.count == whole.by.count).all()
    assert binary_figures(part).users == 3


def test_a_curve_of_ten_equal_bins_by_hand() -> None:
    predictions = np.repeat(np.arange(10) / 10 + 0.05, 4)
    labels = np.tile([1.0, 0.0, 0.0, 0.0], 10)
    found = curve(labels, predictions)
    assert len(found) == CURVE_BINS
    assert [point.rows for point in found] == [4] * 10
    assert [point.predicted for point in found] == pytest.approx(np.arange(10) / 10 + 0.05)
    assert [point.observed for point in found] == pytest.approx([0.25] * 10)


def test_a_curve_of_one_value_is_one_point() -> None:
    (found,) = curve(np.array([1.0, 0.0, 0.0]), np.full(3, 0.2))
    assert (found.predicted, found.observed, found.rows) == pytest.approx((0.2, 1 / 3, 3))


def test_a_curve_of_two_values_is_two_points() -> None:
    found = curve(np.array([1.0, 0.0, 0.0, 1.0]), np.array([0.2, 0.2, 0.7, 0.7]))
    assert [(round(point.predicted, 9), point.observed, point.rows) for point in found] == [(0.2, 0.5, 2), (0.7, 0.5, 2)]


def test_a_curve_rises_in_prediction_and_holds_every_row() -> None:
    for seed in range(20):
        one = noisy(seed)
        found = curve(one.labels, one.predictions)
        assert [point.predicted for point in found] == sorted(point.predicted for point in found)
        assert sum(point.rows for point in found) == 400
        assert sum(point.predicted * point.rows for point in found) == pytest.approx(one.predictions.sum())
        assert sum(point.observed * point.rows for point in found) == pytest.approx(one.labels.sum())


def test_no_rows_and_no_numbers_have_no_curve() -> None:
    assert curve(np.empty(0), np.empty(0)) == ()
    assert curve(np.ones(2), np.array([0.5, np.nan])) == ()


def test_every_metric_has_its_draws() -> None:
    for figures, names in ((binary_figures(noisy(1)), METRICS), (regression_figures(noisy(1)), REGRESSION_METRICS)):
        assert set(figures.draws) == set(figures.metrics) == set(names)
        for name in names:
            sampled = figures.draws[name]
            assert isinstance(sampled, Sampled)
            assert sampled.draws.shape == (16,)
            assert figures.metrics[name] == sampled.interval()


def test_draws_do_not_make_two_figures_differ() -> None:
    first, second = binary_figures(noisy(2)), binary_figures(noisy(2))
    assert first == second
    assert "draws" not in repr(first)


def test_a_perfect_model() -> None:
    labels = np.tile([1.0, 0.0], 50)
    sure = Rows(labels, labels, labels, np.arange(100) % 20, resample(np.arange(100) % 20, resamples=16))
    found = binary_figures(sure).metrics
    for name, value in {"auc": 1.0, "pr_auc": 1.0, "logloss": 0.0, "ne": 0.0, "ece": 0.0, "calibration_ratio": 1.0}.items():
        one = found[name]
        assert isinstance(one, Interval)
        assert one.value == pytest.approx(value, abs=1e-12), name
        assert one.low == pytest.approx(value, abs=1e-12), name
        assert one.high == pytest.approx(value, abs=1e-12), name


def test_rows_without_a_user_have_no_say_in_gauc_and_are_drawn_one_by_one() -> None:
    users = pl.DataFrame({"user": [None] * 2000 + [*range(100)] * 10})
    whose = groups(users, Source("log.csv", user="user"), 0)
    draw = np.random.default_rng(0)
    scores = draw.normal(size=3000)
    labels = (draw.random(3000) < 1 / (1 + np.exp(-scores))).astype(np.float64)
    labels[:2000] = scores[:2000] < 0  # ranked the wrong way round: an AUC of 0
    by = resample(whose, resamples=50)
    found = binary_figures(Rows(labels, scores, np.full(3000, 0.5), whose, by))
    some = np.arange(2000, 3000)
    own = binary_figures(Rows(labels[some], scores[some], np.full(1000, 0.5), whose[some], resample(whose[some], resamples=50)))
    (gauc, alone) = (one.metrics["gauc"] for one in (found, own))
    assert isinstance(gauc, Interval)
    assert isinstance(alone, Interval)
    assert gauc.value == alone.value
    drawn = by.count[:, by.code[:2000]]
    assert 0.6 < (drawn > 0).mean() < 0.66  # one in e is not drawn
    assert found.users == 2100


def test_users_of_one_class_each_leave_gauc_undefined_and_the_rest_defined() -> None:
    found = binary_figures(rows(np.tile([1.0, 0.0], 50), np.random.default_rng(0).normal(size=100), users=20)).metrics
    assert found["gauc"] == Undefined("no user with both classes")
    assert all(isinstance(one, Interval) for name, one in found.items() if name != "gauc")


def test_a_constant_number_leaves_r2_undefined_and_the_rest_defined() -> None:
    found = regression_figures(rows(np.full(100, 3.0), np.random.default_rng(0).normal(size=100))).metrics
    assert found["r2"] == Undefined("the label is constant")
    assert isinstance(found["rmse"], Interval)
    assert isinstance(found["mae"], Interval)


def test_a_regression_that_cannot_be_told_from_its_mean_has_r2_zero() -> None:
    labels = np.tile([1.0, 3.0], 50)
    flat = Rows(labels, labels, np.full(100, 2.0), np.arange(100), resample(np.arange(100), resamples=16))
    found = regression_figures(flat).metrics["r2"]
    assert isinstance(found, Interval)
    assert found.value == pytest.approx(0.0)


def test_a_far_offset_does_not_spoil_r2() -> None:
    one = noisy(3)
    near = regression_figures(Rows(one.labels, one.scores, one.predictions, one.groups, one.by)).metrics["r2"]
    far = regression_figures(Rows(one.labels + 1e7, one.scores, one.predictions + 1e7, one.groups, one.by)).metrics["r2"]
    assert isinstance(near, Interval)
    assert isinstance(far, Interval)
    assert (far.value, far.low, far.high) == pytest.approx((near.value, near.low, near.high), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 12), st.floats(0, 1))
def test_any_rows_give_finite_figures_or_reasons(seed: int, count: int, users: int, rate: float) -> None:
    draw = np.random.default_rng(seed)
    scores = np.round(draw.normal(size=count), int(draw.integers(0, 3)))
    one = rows((draw.random(count) < rate).astype(np.float64), scores, users)
    for figures in (binary_figures(one), regression_figures(one)):
        assert figures.users == min(users, count)
        for name, value in figures.metrics.items():
            if isinstance(value, Undefined):
                assert value.reason, name
                continue
            assert np.isfinite(value.value), name
            assert (value.low is None) == (value.high is None), name
            assert bool(value.reason) == (value.low is None), name
            if value.low is not None and value.high is not None:
                assert value.low <= value.high, name
