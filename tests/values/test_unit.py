"""The error of the best constant: by hand, against every other constant, in every unit, and that it is the metric's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import kindrows

from umbel.coldstart.figures import OF_EVENTS, OF_RATINGS
from umbel.evaluate import metrics, rated
from umbel.evaluate.kinds import measures
from umbel.evaluate.unit import CONSTANTS, constant_error

UNITLESS = {"auc", "gini", "d2"}
NUMBERS = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)


def test_by_hand() -> None:
    labels = np.array([1.0, 2.0, 9.0, 4.0])
    assert constant_error("rmse", labels) == pytest.approx(np.sqrt((9 + 4 + 25 + 0) / 4))
    assert constant_error("mae", labels) == pytest.approx((1 + 0 + 7 + 2) / 4)


def test_weights_are_rows_told_several_times() -> None:
    labels, weight = np.array([1.0, 2.0, 9.0]), np.array([3.0, 1.0, 2.0])
    told = np.repeat(labels, weight.astype(int))
    for metric in CONSTANTS:
        assert constant_error(metric, labels, weight) == pytest.approx(constant_error(metric, told))
        assert constant_error(metric, labels, 7 * weight) == pytest.approx(constant_error(metric, labels, weight))


@pytest.mark.parametrize("metric", sorted(UNITLESS))
def test_what_has_no_unit_is_its_own_measure(metric: str) -> None:
    assert constant_error(metric, np.array([1.0, 2.0, 9.0])) == 1.0


@pytest.mark.parametrize("metric", sorted(CONSTANTS))
def test_no_rows_and_rows_that_are_all_one(metric: str) -> None:
    assert constant_error(metric, np.array([])) == 1.0
    assert constant_error(metric, np.full(5, 3.5)) == 0.0


def error(metric: str, labels: np.ndarray, constant: float) -> float:
    """As reports have it."""
    found = metrics.REGRESSION[metric](labels, np.full(len(labels), constant))
    assert isinstance(found, float)
    return found


@settings(max_examples=100, deadline=None)
@given(NUMBERS, st.floats(-1e3, 1e3), st.sampled_from(sorted(CONSTANTS)))
def test_no_constant_is_better(values: list[float], other: float, metric: str) -> None:
    labels = np.array(values)
    best = constant_error(metric, labels)
    assert best <= error(metric, labels, other) + 1e-9
    assert min(error(metric, labels, one) for one in (float(labels.mean()), *values)) == pytest.approx(best, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(NUMBERS, st.sampled_from([1e-3, 60.0, 3.6e6]), st.sampled_from(sorted(CONSTANTS)))
def test_it_changes_with_the_unit_and_with_nothing_else(values: list[float], unit: float, metric: str) -> None:
    labels = np.array(values)
    plain = constant_error(metric, labels)
    assert constant_error(metric, unit * labels) == pytest.approx(unit * plain, abs=1e-9 * unit)
    assert constant_error(metric, labels + 77.0) == pytest.approx(plain, abs=1e-9)
    assert constant_error(metric, labels[::-1]) == pytest.approx(plain, abs=1e-9)


def test_a_user_s_rows_share_one_weight_in_the_mean_over_users() -> None:
    """The weighted median is the best constant of a mean over users of their mean absolute error, and that mean is its error."""
    draw = np.random.default_rng(3)
    ratings, mask = draw.integers(1, 6, (30, 8)).astype(float), draw.random((30, 8)) < 0.5
    mask[:, 0] = True
    weight = np.broadcast_to(1 / mask.sum(1, keepdims=True), mask.shape)[mask]
    each = [rated.mae(ratings, np.full(ratings.shape, constant), mask).value for constant in (1.0, 2.0, 3.0, 4.0, 5.0)]
    assert constant_error("mae", ratings[mask], weight) == pytest.approx(min(one for one in each if isinstance(one, float)))


def test_whatever_judges_a_task_has_a_unit_that_is_known_or_none() -> None:
    """The first metric of every kind; a new one that has a unit needs its constant."""
    firsts = {measures(row.kind).metrics[0] for row in kindrows.ROWS.values()} | {OF_EVENTS[0], OF_RATINGS[0]}
    assert firsts <= UNITLESS | set(CONSTANTS)
    assert firsts & set(CONSTANTS) == set(CONSTANTS)
