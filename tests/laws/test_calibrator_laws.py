"""Laws every calibrator obeys: it rises strictly, stays inside, survives saving, and leaves the order of rows alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float

from umbel.evaluate import metrics
from umbel.evaluate.calibrate import (
    CALIBRATORS,
    FLOOR,
    Calibrator,
    Identity,
    Isotonic,
    Linear,
    Platt,
    fit_isotonic,
    fit_platt,
    from_json,
    to_json,
)
from umbel.evaluate.crossfit import cross_fitted, fit_calibrator
from umbel.evaluate.rescale import fit_scaled
from umbel.schema import REGRESSION


def rows(seed: int, count: int, *, slope: float = 1.0, shift: float = 0.0) -> tuple[Float[np.ndarray, "rows"], Float[np.ndarray, "rows"]]:
    """Logits, and labels whose true log-odds are `slope * logit + shift`."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=count) * 1.5
    return logits, (draw.random(count) < 1 / (1 + np.exp(-(slope * logits + shift)))).astype(np.float64)


FITTED: dict[str, Calibrator] = {
    "platt": fit_platt(*rows(0, 500, slope=0.6, shift=-2)),
    "isotonic": fit_isotonic(*rows(1, 20_000, slope=1.4, shift=-1)),
    "linear": fit_calibrator(rows(2, 500)[0], 3 * rows(2, 500)[0] + 7, kind=REGRESSION),
    "identity": fit_calibrator(np.arange(5.0), np.arange(5.0), kind=REGRESSION),
    "scaled": fit_scaled(np.exp(rows(2, 500)[0]), 2 * np.exp(rows(5, 500)[0])),
}
SEVERAL = {"shifted", "tempered"}  # of several answers a row: see tests/values/test_rescale.py


def test_every_kind_is_under_law() -> None:
    assert set(FITTED) | SEVERAL == set(CALIBRATORS)
    assert all(isinstance(FITTED[name], kind) for name, kind in CALIBRATORS.items() if name not in SEVERAL)


@pytest.mark.parametrize("name", FITTED)
def test_it_rises_strictly(name: str) -> None:
    logits = np.linspace(-9, 9, 20_001)
    assert (np.diff(FITTED[name](logits)) > 0).all()


@pytest.mark.parametrize("name", ["platt", "isotonic"])
def test_it_stays_inside_zero_and_one(name: str) -> None:
    found = FITTED[name](np.array([-1e30, -800.0, -30.0, 0.0, 30.0, 800.0, 1e30]))
    assert (found >= FLOOR).all()
    assert (found <= 1 - FLOOR).all()
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("name", FITTED)
def test_it_gives_the_same_numbers_after_saving(name: str) -> None:
    logits = np.random.default_rng(3).normal(size=1000) * 4
    again = from_json(json.loads(json.dumps(to_json(FITTED[name]))))
    assert again == FITTED[name]
    assert (again(logits) == FITTED[name](logits)).all()


@pytest.mark.parametrize("name", FITTED)
def test_rows_together_are_rows_alone(name: str) -> None:
    logits = np.random.default_rng(4).normal(size=50)
    together = FITTED[name](logits)
    assert [float(FITTED[name](logits[at : at + 1])[0]) for at in range(50)] == together.tolist()


@pytest.mark.parametrize("name", FITTED)
def test_float32_logits_are_read_as_they_are(name: str) -> None:
    logits = np.random.default_rng(5).normal(size=100).astype(np.float32)
    before = logits.copy()
    found = FITTED[name](logits)
    assert found.dtype == np.float64
    assert (found == FITTED[name](logits.astype(np.float64))).all()
    assert (logits == before).all()


@pytest.mark.parametrize("name", FITTED)
def test_no_rows_are_no_rows(name: str) -> None:
    assert FITTED[name](np.empty(0)).shape == (0,)


@pytest.mark.parametrize("count", [60, 800, 5000, 40_000])
def test_it_changes_neither_auc_nor_ties(count: int) -> None:
    logits, labels = rows(6, count, slope=0.8, shift=-1)
    logits = np.round(logits, 2)
    found = fit_calibrator(logits, labels)(logits)
    assert metrics.auc(labels, found) == pytest.approx(metrics.auc(labels, logits), abs=1e-12)
    assert len(np.unique(found)) == len(np.unique(logits))


@pytest.mark.parametrize("count", [2000, 40_000])
def test_on_its_own_rows_it_promises_what_happened(count: int) -> None:
    logits, labels = rows(7, count, slope=0.5, shift=-1.5)
    raw = 1 / (1 + np.exp(-logits))
    found = fit_calibrator(logits, labels)(logits)
    for metric in (metrics.ece, metrics.logloss, metrics.normalised_entropy):
        after, before = metric(labels, found), metric(labels, raw)
        assert isinstance(after, float)
        assert isinstance(before, float)
        assert after < before
    assert metrics.calibration_ratio(labels, found) == pytest.approx(1.0, abs=0.02)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 400), st.floats(-3, 3), st.floats(-6, 6), st.integers(1, 4))
def test_any_rows_give_a_finite_rising_curve(seed: int, count: int, slope: float, shift: float, digits: int) -> None:
    logits, labels = rows(seed, count, slope=slope, shift=shift)
    logits = np.round(logits, digits)
    grid = np.linspace(-6, 6, 201)
    fitted: list[Calibrator] = [fit_calibrator(logits, labels), fit_platt(logits, labels)]
    if 0 < labels.sum() < count:
        fitted.append(fit_isotonic(logits, labels))
    for calibrator in fitted:
        found = calibrator(grid)
        assert np.isfinite(found).all()
        assert (np.diff(found) >= 0).all()
        # next to 0 and 1, and only there, float64 runs out of numbers
        assert (np.diff(found[(found > 1.01 * FLOOR) & (found < 1 - 1e-8)]) > 0).all()
        assert (calibrator(logits) > 0).all()
        assert (calibrator(logits) < 1).all()


def test_cross_fitting_never_uses_a_users_own_rows() -> None:
    logits, labels = rows(8, 600)
    groups = np.random.default_rng(9).integers(0, 40, 600)
    before = cross_fitted(logits, labels, groups)
    for user in (0, 17, 39):
        own = groups == user
        turned = np.where(own, 1 - labels, labels)
        after = cross_fitted(logits, turned, groups)
        assert (after[own] == before[own]).all()
        assert (after[~own] != before[~own]).any()


def test_cross_fitting_gives_users_the_same_fold_whatever_the_order_of_rows() -> None:
    logits, labels = rows(10, 400)
    groups = np.random.default_rng(11).integers(0, 40, 400)
    order = np.random.default_rng(12).permutation(400)
    shuffled = cross_fitted(logits[order], labels[order], groups[order])
    assert shuffled == pytest.approx(cross_fitted(logits, labels, groups)[order], abs=1e-9)


def test_cross_fitting_fits_only_where_it_may_and_calibrates_everywhere() -> None:
    logits, labels = rows(13, 600)
    groups = np.random.default_rng(14).integers(0, 60, 600)
    use = np.random.default_rng(15).random(600) < 0.7
    spoiled = np.where(use, labels, 1 - labels)
    assert (cross_fitted(logits, spoiled, groups, use=use) == cross_fitted(logits, labels, groups, use=use)).all()
    assert np.isfinite(cross_fitted(logits, labels, groups, use=use)).all()


def test_cross_fitting_one_user_or_one_class_keeps_the_models_own_probability() -> None:
    logits, labels = rows(16, 50)
    own = Platt()(logits)
    assert (cross_fitted(logits, labels, np.zeros(50, dtype=np.int64)) == own).all()
    assert (cross_fitted(logits, np.zeros(50), np.arange(50)) == own).all()


def test_cross_fitted_figures_do_not_praise_themselves() -> None:
    """With 40 noisy logs the in-sample log-loss is always lower than the cross-fitted one on the same rows."""
    for seed in range(40):
        logits, labels = rows(seed, 120)
        groups = np.arange(120) // 3
        inside = metrics.logloss(labels, fit_platt(logits, labels)(logits))
        crossed = metrics.logloss(labels, cross_fitted(logits, labels, groups))
        assert isinstance(inside, float)
        assert isinstance(crossed, float)
        assert inside < crossed


def test_identity_and_linear_are_plain_arithmetic() -> None:
    assert Identity()(np.array([1.0, -2.0])).tolist() == [1.0, -2.0]
    assert Linear(2.0, 1.0)(np.array([1.0, -2.0])).tolist() == [3.0, -3.0]


def test_isotonic_meets_its_knots_and_goes_on_beyond_them() -> None:
    curve = Isotonic((-1.0, 0.0, 2.0), (0.1, 0.4, 0.8), slope=2.0)
    assert curve(np.array([-1.0, 0.0, 2.0])) == pytest.approx([0.1, 0.4, 0.8])
    assert curve(np.array([-0.5, 1.0])) == pytest.approx([0.25, 0.6])
    beyond = curve(np.array([-2.0, 3.0]))
    assert np.log(beyond / (1 - beyond)) == pytest.approx([np.log(0.1 / 0.9) - 2, np.log(0.8 / 0.2) + 2])
