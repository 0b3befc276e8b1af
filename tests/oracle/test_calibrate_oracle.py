"""Calibrators and Student's bound against scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.calibration import _SigmoidCalibration
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression

from umbel.evaluate.calibrate import Isotonic, Linear, fit_isotonic, fit_platt
from umbel.evaluate.crossfit import fit_calibrator
from umbel.evaluate.paired import student_bound
from umbel.schema import REGRESSION


@pytest.mark.parametrize("seed", range(20))
def test_platt_is_scikit_learns_sigmoid_calibration(seed: int) -> None:
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=400) * draw.uniform(0.5, 3)
    labels = (draw.random(400) < 1 / (1 + np.exp(-(draw.uniform(0.3, 2) * logits - draw.uniform(0, 3))))).astype(np.float64)
    oracle = _SigmoidCalibration().fit(logits, labels)
    found = fit_platt(logits, labels)
    assert found.slope == pytest.approx(-oracle.a_, rel=1e-3)
    assert found.intercept == pytest.approx(-oracle.b_, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_isotonic_blocks_are_scikit_learns(seed: int) -> None:
    draw = np.random.default_rng(seed)
    logits = np.round(draw.normal(size=3000), 2)
    labels = (draw.random(3000) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    found = fit_isotonic(logits, labels)
    assert isinstance(found, Isotonic)
    fitted = IsotonicRegression().fit(logits, labels).predict(logits)
    levels = np.unique(np.round(fitted, 12))
    assert len(found.probability) == len(levels)
    inner = slice(1 if levels[0] == 0 else 0, -1 if levels[-1] == 1 else None)
    assert np.array(found.probability)[inner] == pytest.approx(levels[inner])
    centres = [logits[np.round(fitted, 12) == level].mean() for level in levels]
    assert found.logit == pytest.approx(centres)


@pytest.mark.parametrize("seed", range(10))
def test_the_line_is_scikit_learns(seed: int) -> None:
    draw = np.random.default_rng(seed)
    outputs = draw.normal(size=300) + 100
    labels = 3 * outputs + draw.normal(size=300)
    oracle = LinearRegression().fit(outputs[:, None], labels)
    found = fit_calibrator(outputs, labels, kind=REGRESSION)
    assert isinstance(found, Linear)
    assert found.slope == pytest.approx(oracle.coef_[0], rel=1e-9)
    assert found.intercept == pytest.approx(oracle.intercept_, rel=1e-6)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 9, 29, 30, 199])
def test_students_bound_is_scipys(freedom: int) -> None:
    assert student_bound(freedom) == pytest.approx(student.ppf(0.975, freedom), rel=1e-9)
