"""Calibrators on rows whose answer is known, and the choice among them."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Float

from umbel.errors import UserError
from umbel.evaluate.calibrate import (
    FEWEST_FOR_ISOTONIC,
    FEWEST_FOR_LINEAR,
    Identity,
    Isotonic,
    Linear,
    Platt,
    fit_isotonic,
    fit_platt,
    from_json,
    to_json,
)
from umbel.evaluate.crossfit import fit_calibrator
from umbel.schema import REGRESSION


def mixed(positives: int, negatives: int) -> tuple[Float[np.ndarray, "rows"], Float[np.ndarray, "rows"]]:
    draw = np.random.default_rng(0)
    labels = np.repeat([1.0, 0.0], [positives, negatives])
    return labels + draw.normal(size=len(labels)), labels


def test_platt_until_a_thousand_of_the_rarer_class_isotonic_from_there() -> None:
    few, enough = FEWEST_FOR_ISOTONIC - 1, FEWEST_FOR_ISOTONIC
    assert isinstance(fit_calibrator(*mixed(few, 5000)), Platt)
    assert isinstance(fit_calibrator(*mixed(enough, 5000)), Isotonic)
    assert isinstance(fit_calibrator(*mixed(5000, few)), Platt)
    assert isinstance(fit_calibrator(*mixed(5000, enough)), Isotonic)


@pytest.mark.parametrize("labels", [np.zeros(30), np.ones(30), np.empty(0)])
def test_one_class_or_no_rows_keep_the_models_own_probability(labels: Float[np.ndarray, "rows"]) -> None:
    assert fit_calibrator(np.linspace(-1, 1, len(labels)), labels) == Platt(1.0, 0.0)


def test_platt_without_change_is_the_sigmoid() -> None:
    logits = np.array([-2.0, 0.0, 3.0])
    assert Platt()(logits) == pytest.approx(1 / (1 + np.exp(-logits)))


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.4, -2.0), (2.5, 1.0)])
def test_platt_finds_the_slope_and_intercept_that_made_the_labels(slope: float, shift: float) -> None:
    draw = np.random.default_rng(1)
    logits = draw.normal(size=200_000)
    labels = (draw.random(200_000) < 1 / (1 + np.exp(-(slope * logits + shift)))).astype(np.float64)
    found = fit_platt(logits, labels)
    assert found.slope == pytest.approx(slope, rel=0.03)
    assert found.intercept == pytest.approx(shift, abs=0.03)


def test_platt_of_separable_rows_stays_finite() -> None:
    found = fit_platt(np.array([-3.0, -2.0, 2.0, 3.0]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert 0 < found.slope < 10
    # two rows of each class: the targets are 3/4 and 1/4
    assert found(np.array([2.5]))[0] == pytest.approx(0.75, abs=0.02)


def test_platt_of_a_backward_model_is_nearly_flat_at_the_base_rate() -> None:
    draw = np.random.default_rng(2)
    logits = draw.normal(size=2000)
    labels = (draw.random(2000) < 1 / (1 + np.exp(3 * logits + 1))).astype(np.float64)
    found = fit_platt(logits, labels)
    assert found.slope == 0.001
    assert found(np.zeros(1))[0] == pytest.approx(labels.mean(), abs=0.005)


def test_platt_of_a_constant_logit_is_the_base_rate() -> None:
    labels = np.repeat([1.0, 0.0], [250, 750])
    found = fit_platt(np.full(1000, 4.0), labels)
    assert found(np.full(1, 4.0))[0] == pytest.approx(0.25, abs=0.002)


def test_platt_of_huge_logits_converges() -> None:
    draw = np.random.default_rng(3)
    logits = draw.normal(size=5000) * 1e4
    labels = (draw.random(5000) < 1 / (1 + np.exp(-logits / 1e4))).astype(np.float64)
    found = fit_platt(logits, labels)
    assert found(np.array([1e4]))[0] == pytest.approx(1 / (1 + np.exp(-1)), abs=0.04) or found.slope == 0.001


def test_isotonic_knots_are_block_centres_and_block_rates() -> None:
    # blocks: {0, 0 | one of three is 1}, pooled {1, 2} because they fall, {3}
    logits = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0])
    labels = np.array([0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    found = fit_isotonic(logits, labels)
    assert isinstance(found, Isotonic)
    assert found.logit == pytest.approx((0.0, 1.5, 3.0))
    assert found.probability[:2] == pytest.approx((1 / 3, 1 / 2))
    # two rows, both positive: drawn in to 1 - 0.5 / 3
    assert found.probability[2] == pytest.approx(1 - 0.5 / 3)


def test_isotonic_lowest_block_without_a_positive_is_drawn_in() -> None:
    logits = np.repeat([0.0, 1.0], [99, 100])
    labels = np.concatenate([np.zeros(99), np.repeat([1.0, 0.0], 50)])
    found = fit_isotonic(logits, labels)
    assert isinstance(found, Isotonic)
    assert found.probability == pytest.approx((0.005, 0.5))


def test_isotonic_lowest_block_stays_under_the_next() -> None:
    # one row at 0 without a positive would be given 1/4, more than the next block's 1/1000
    logits = np.repeat([0.0, 1.0, 2.0], [1, 1000, 4])
    labels = np.concatenate([np.zeros(1), np.ones(1), np.zeros(999), np.ones(4)])
    found = fit_isotonic(logits, labels)
    assert isinstance(found, Isotonic)
    assert found.probability[0] == pytest.approx(0.0005)


def test_isotonic_highest_block_stays_over_the_one_before() -> None:
    logits = np.repeat([0.0, 1.0, 2.0], [4, 1000, 1])
    labels = np.concatenate([np.zeros(4), np.ones(999), np.zeros(1), np.ones(1)])
    found = fit_isotonic(logits, labels)
    assert isinstance(found, Isotonic)
    assert found.probability[-1] == pytest.approx(0.9995)


def test_isotonic_where_nothing_rises_is_platts_curve() -> None:
    logits = np.repeat([0.0, 1.0], 50)
    labels = np.concatenate([np.repeat([1.0, 0.0], [30, 20]), np.repeat([1.0, 0.0], [20, 30])])
    found = fit_isotonic(logits, labels)
    assert isinstance(found, Platt)
    assert found.slope == 0.001


def test_isotonic_bends_where_platt_cannot() -> None:
    draw = np.random.default_rng(4)
    logits = draw.uniform(-3, 3, 60_000)
    truth = np.where(logits < 0, 0.05, 0.05 + 0.25 * logits / 3)
    labels = (draw.random(60_000) < truth).astype(np.float64)
    grid = np.linspace(-2.5, 2.5, 50)
    expected = np.where(grid < 0, 0.05, 0.05 + 0.25 * grid / 3)
    bent, straight = fit_isotonic(logits, labels)(grid), fit_platt(logits, labels)(grid)
    assert np.abs(bent - expected).max() < 0.02
    assert np.abs(straight - expected).max() > np.abs(bent - expected).max()


def test_a_regression_gets_the_least_squares_line() -> None:
    outputs = np.arange(200.0)
    found = fit_calibrator(outputs, 0.5 * outputs - 3, kind=REGRESSION)
    assert isinstance(found, Linear)
    assert (found.slope, found.intercept) == pytest.approx((0.5, -3.0))


@pytest.mark.parametrize(
    ("outputs", "labels", "slope"),
    [
        (np.full(500, 2.0), np.arange(500.0), 1e-3),
        (np.full(500, 0.1), np.full(500, 3.0), 1e-3),
        (np.arange(500.0), np.full(500, 3.0), 1e-3),
        (np.arange(500.0), -np.arange(500.0), 1e-3),
        (np.arange(500.0), -100 * np.arange(500.0), 1e-3),
        (np.arange(500.0), -np.arange(500.0) / 100, 1e-5),
    ],
)
def test_a_regression_that_ranks_nothing_is_held_near_the_mean(
    outputs: Float[np.ndarray, "rows"], labels: Float[np.ndarray, "rows"], slope: float
) -> None:
    """A slope of .001, less where labels vary less than outputs; the mean is right and the order stays."""
    found = fit_calibrator(outputs, labels, kind=REGRESSION)
    assert isinstance(found, Linear)
    assert found.slope == pytest.approx(slope)
    assert found(outputs).mean() == pytest.approx(labels.mean())
    assert (np.argsort(found(np.arange(9.0))) == np.arange(9)).all()


def test_a_backward_regression_is_no_worse_than_the_mean_by_more_than_its_slope() -> None:
    """Left as it is, it would explain less than nothing of its labels."""
    draw = np.random.default_rng(0)
    labels = draw.normal(0.17, 0.4, size=1200)
    outputs = 0.375 - 0.05 * labels + draw.normal(0, 0.2, size=1200)
    found = fit_calibrator(outputs, labels, kind=REGRESSION)
    assert np.square(outputs - labels).mean() > 1.4 * labels.var()
    assert np.square(found(outputs) - labels).mean() == pytest.approx(labels.var(), rel=1e-3)


@pytest.mark.parametrize("outputs", [np.arange(FEWEST_FOR_LINEAR - 1.0), np.append(np.arange(500.0), np.inf)])
def test_a_regression_with_too_little_to_go_by_is_left_as_it_is(outputs: Float[np.ndarray, "rows"]) -> None:
    assert fit_calibrator(outputs, np.arange(float(len(outputs))), kind=REGRESSION) == Identity()


def test_saved_calibrators_are_plain_json() -> None:
    assert to_json(Platt(0.5, -1.25)) == {"kind": "platt", "slope": 0.5, "intercept": -1.25}
    assert to_json(Isotonic((0.0, 1.0), (0.1, 0.9), 1.5)) == {
        "kind": "isotonic",
        "logit": (0.0, 1.0),
        "probability": (0.1, 0.9),
        "slope": 1.5,
    }
    assert to_json(Identity()) == {"kind": "identity"}
    saved = {"kind": "isotonic", "logit": [0.0, 1.0], "probability": [0.1, 0.9], "slope": 1.5}
    assert from_json(saved) == Isotonic((0.0, 1.0), (0.1, 0.9), 1.5)


def test_a_calibrator_nobody_knows_is_the_users_error() -> None:
    with pytest.raises(UserError, match=r"unknown kind 'beta'.*known: identity, isotonic, linear, platt"):
        from_json({"kind": "beta"})
    with pytest.raises(UserError, match="unknown kind None"):
        from_json({})


def test_a_calibrator_with_other_keys_is_the_users_error() -> None:
    with pytest.raises(UserError, match=r"platt.*fit it again"):
        from_json({"kind": "platt", "angle": 3.0})
    with pytest.raises(UserError, match="isotonic"):
        from_json({"kind": "isotonic", "logit": [0.0]})
