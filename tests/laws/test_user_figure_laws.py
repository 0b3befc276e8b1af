"""Figures made of users: for any users, metrics and groups, what plain loops give; and calibration that no user fits for itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from umbel.evaluate.crossfit import cross_fitted, fit_calibrator
from umbel.evaluate.intervals import Interval, Sampled, resample
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.peruser import PerUser, per_user
from umbel.evaluate.rated import listing
from umbel.evaluate.robust import UNKNOWN, Robustness, quarters, robustness

EXAMPLES = settings(max_examples=40, deadline=None)

VALUES = hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 10) | st.just(np.nan))


@st.composite
def measured(draw: st.DrawFn) -> PerUser:
    values = draw(VALUES)
    weight = draw(hnp.arrays(np.float64, len(values), elements=st.integers(1, 9).map(float)))
    return PerUser(values, weight, {}, power=draw(st.sampled_from([1, 2])), falls=draw(st.booleans()))


def plain(one: PerUser, users: list[int]) -> float:
    """The power mean over some users, some of them several times, in a loop."""
    above = below = 0.0
    for user in users:
        if not math.isnan(one.values[user]):
            above += one.weight[user] * one.values[user] ** one.power
            below += one.weight[user]
    return (above / below) ** (1 / one.power) if below else math.nan


@EXAMPLES
@given(measured())
def test_the_figure_is_the_power_mean_of_users_that_have_a_value(one: PerUser) -> None:
    expected = plain(one, list(range(len(one.values))))
    if math.isnan(expected):
        assert isinstance(one.value, Undefined)
        assert one.users == 0
    else:
        assert one.value == pytest.approx(expected)
        assert one.users == int((~np.isnan(one.values)).sum())


@EXAMPLES
@given(measured(), st.integers(0, 100))
def test_every_draw_is_the_figure_of_the_users_drawn(one: PerUser, seed: int) -> None:
    by = resample(np.arange(len(one.values)), resamples=7, seed=seed)
    found = one.sampled(by)
    if isinstance(found, Undefined):
        assert one.users == 0
        return
    for draw, counts in zip(found.draws, by.count, strict=True):
        users = [user for user, count in enumerate(counts.tolist()) for _ in range(count)]
        expected = plain(one, users)
        assert math.isnan(draw) if math.isnan(expected) else draw == pytest.approx(expected)


@EXAMPLES
@given(measured())
def test_order_of_users_changes_no_figure(one: PerUser) -> None:
    turned = PerUser(one.values[::-1], one.weight[::-1], {}, one.power, one.falls)
    if isinstance(one.value, Undefined):
        assert isinstance(turned.value, Undefined)
    else:
        assert turned.value == pytest.approx(one.value)


@EXAMPLES
@given(VALUES, st.data())
def test_a_user_is_lost_for_the_first_reason_alone(values: np.ndarray, data: st.DataObject) -> None:
    marks = {name: data.draw(hnp.arrays(bool, len(values))) for name in ("first", "second")}
    found = per_user(np.nan_to_num(values), marks)
    first, both = marks["first"], marks["first"] | marks["second"]
    assert np.isnan(found.values).tolist() == both.tolist()
    assert found.lost.get("first", 0) == int(first.sum())
    assert found.lost.get("second", 0) == int((both & ~first).sum())
    assert sum(found.lost.values()) + found.users == len(values)


RATINGS = st.integers(1, 6).flatmap(
    lambda users: st.integers(1, 7).flatmap(
        lambda shots: st.tuples(
            hnp.arrays(np.float64, (users, shots), elements=st.integers(1, 5).map(float)),
            hnp.arrays(np.float64, (users, shots), elements=st.integers(-3, 8).map(float)),
            hnp.arrays(bool, (users, shots)),
        )
    )
)
METRICS = listing(relevant=4.0)


@pytest.mark.parametrize("name", METRICS)
@EXAMPLES
@given(RATINGS)
def test_a_user_alone_is_what_the_user_is_among_others(name: str, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    ratings, predictions, mask = drawn
    together = METRICS[name](ratings, predictions, mask)
    for user in range(len(ratings)):
        alone = METRICS[name](ratings[user : user + 1], predictions[user : user + 1], mask[user : user + 1])
        np.testing.assert_allclose(alone.values[0], together.values[user], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
@EXAMPLES
@given(RATINGS, st.integers(1, 4))
def test_padding_and_what_it_holds_change_nothing(name: str, drawn: tuple[np.ndarray, np.ndarray, np.ndarray], more: int) -> None:
    ratings, predictions, mask = drawn
    shape = (len(ratings), more)
    ends = np.full(shape, 5.0), np.full(shape, 1e9), np.zeros(shape, bool)
    padded = [np.hstack([one, end]) for one, end in zip(drawn, ends, strict=True)]
    np.testing.assert_allclose(METRICS[name](*padded).values, METRICS[name](ratings, predictions, mask).values, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in METRICS if not name.startswith(("mae", "rmse"))])
@EXAMPLES
@given(RATINGS)
def test_ranks_alone_count_for_ranking(name: str, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Any rising function of the predictions gives the same figures."""
    ratings, predictions, mask = drawn
    first, other = METRICS[name](ratings, predictions, mask), METRICS[name](ratings, np.exp(predictions) + 3, mask)
    np.testing.assert_allclose(first.values, other.values, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
@EXAMPLES
@given(RATINGS)
def test_predicting_what_happened_is_never_beaten(name: str, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    ratings, predictions, mask = drawn
    best, found = METRICS[name](ratings, ratings, mask), METRICS[name](ratings, predictions, mask)
    known = best.defined & found.defined
    gap = (best.values - found.values)[known] * (-1 if best.falls else 1)
    assert (gap >= -1e-9).all()


@EXAMPLES
@given(measured(), st.data())
def test_groups_hold_every_user_once_and_the_worst_is_one_of_them(one: PerUser, data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=len(one.values), max_size=len(one.values)))
    by = resample(np.arange(len(one.values)), resamples=5)
    found: Robustness = robustness(one, labels, by, fewest=1)
    assert {group.name for group in found.groups} == {UNKNOWN if label is None else label for label in labels}
    assert sum(group.users for group in found.groups) == one.users
    figures = {group.name: group.figure.value for group in found.groups if isinstance(group.figure, Interval)}
    if isinstance(found.worst, Undefined):
        assert not figures
        return
    worst = (max if one.falls else min)(figures.values())
    assert figures[found.worst.name] == worst
    if len(figures) < 2:
        assert isinstance(found.spread, Undefined)
        return
    assert isinstance(found.spread, Interval)
    assert found.spread.value == pytest.approx(max(figures.values()) - min(figures.values()))


@EXAMPLES
@given(hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-100, 100) | st.just(np.nan)))
def test_quarters_rise_and_leave_out_what_is_no_number(values: np.ndarray) -> None:
    found = quarters(values)
    assert [one is None for one in found] == np.isnan(values).tolist()
    known = [(one, value) for one, value in zip(found, values.tolist(), strict=True) if one is not None]
    for left, low in known:
        for right, high in known:
            if low < high:
                assert left[8] <= right[8], "a greater number is in no earlier quarter"
            if low == high:
                assert left == right


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 8))
def test_no_user_is_calibrated_by_its_own_rows(seed: int, folds: int) -> None:
    """Changing a user's labels moves predictions of other folds' users alone."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(30), 20)
    answers, labels = rng.normal(size=600), (rng.random(600) < 0.4).astype(float)
    before = cross_fitted(answers, labels, users, folds=folds)
    chosen = int(rng.integers(30))
    other = np.where(users == chosen, 1 - labels, labels)
    after = cross_fitted(answers, other, users, folds=folds)
    own = users == chosen
    assert np.array_equal(before[own], after[own])


def test_a_user_is_fitted_on_for_others() -> None:
    """The labels of half the users turned round move what the other half is told."""
    rng = np.random.default_rng(0)
    users, answers = np.repeat(np.arange(30), 20), rng.normal(size=600)
    labels = (rng.random(600) < 1 / (1 + np.exp(-answers))).astype(float)
    turned = np.where(users < 15, 1 - labels, labels)
    assert np.abs(cross_fitted(answers, labels, users) - cross_fitted(answers, turned, users)).max() > 0.05


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_rows_that_may_not_be_used_fit_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    users, answers = np.repeat(np.arange(20), 20), rng.normal(size=400)
    labels, use = (rng.random(400) < 0.5).astype(float), rng.random(400) < 0.6
    assume(use.any())
    found = cross_fitted(answers, labels, users, use=use)
    turned = cross_fitted(answers, np.where(use, labels, 1 - labels), users, use=use)
    assert np.array_equal(found, turned)


def test_a_model_that_ran_away_is_fitted_on_nothing() -> None:
    answers, labels = np.array([0.1, np.nan, 0.3] * 50), np.ones(150)
    calibrator = fit_calibrator(answers, labels)
    assert np.isfinite(calibrator(np.array([0.0, 1.0]))).all()


def test_a_figures_draws_are_paired_by_the_users() -> None:
    """Two metrics on the same users and resamples differ by a constant if every user's values do."""
    values = np.linspace(0, 1, 25)
    by = resample(np.arange(25), resamples=50)
    one, other = (PerUser(values + shift, np.ones(25), {}).sampled(by) for shift in (0.0, 0.25))
    assert isinstance(one, Sampled)
    assert isinstance(other, Sampled)
    np.testing.assert_allclose(other.draws - one.draws, 0.25)
