"""Calibrators of amounts, quantiles and classes, by hand and by what they promise on the rows they were fitted on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.evaluate.amounts import coverage
from umbel.evaluate.calibrate import from_json, to_json
from umbel.evaluate.classes import class_logloss
from umbel.evaluate.rescale import FEWEST, STEEPEST, Scaled, Shifted, Tempered, fit_scaled, fit_shifted, fit_tempered

LEVELS = (0.1, 0.5, 0.9)
EXAMPLES = settings(max_examples=30, deadline=None)


def test_scaled_sums_to_what_happened() -> None:
    draw = np.random.default_rng(0)
    answers, labels = draw.gamma(2.0, 1.0, 300), draw.gamma(2.0, 3.0, 300)
    found = fit_scaled(answers, labels)
    assert found.factor == pytest.approx(labels.sum() / answers.sum())
    assert found(answers).sum() == pytest.approx(labels.sum())


@pytest.mark.parametrize(
    ("answers", "labels"),
    [
        (np.ones(FEWEST - 1), np.full(FEWEST - 1, 2.0)),
        (np.ones(FEWEST), np.zeros(FEWEST)),
        (np.zeros(FEWEST), np.ones(FEWEST)),
        (np.ones(0), np.ones(0)),
    ],
)
def test_too_little_to_scale_by(answers: np.ndarray, labels: np.ndarray) -> None:
    assert fit_scaled(answers, labels) == Scaled(1.0)


def test_one_row_more_and_it_scales() -> None:
    assert fit_scaled(np.ones(FEWEST), np.full(FEWEST, 2.0)) == Scaled(2.0)


def test_shifted_by_hand() -> None:
    """A hundred labels 1 to 100 against three constants: the offsets are the 10th, 50th and 90th label less the constant."""
    labels = np.arange(1.0, 101.0)
    answers = np.tile([0.0, 45.0, 90.0], (100, 1))
    found = fit_shifted(answers, labels, LEVELS)
    assert found == Shifted((10.0, 5.0, 0.0))
    assert found(answers[:1]).tolist() == [[10.0, 50.0, 90.0]]


def test_quantiles_stay_in_order_after_a_shift() -> None:
    assert Shifted((5.0, 0.0, 0.0))(np.array([[0.0, 1.0, 7.0]])).tolist() == [[5.0, 5.0, 7.0]]


@EXAMPLES
@given(st.integers(0, 10**6), st.floats(-3, 3), st.floats(0.2, 3.0))
def test_levels_hold_where_they_were_fitted(seed: int, off: float, spread: float) -> None:
    draw = np.random.default_rng(seed)
    middle = draw.normal(size=400)
    labels = middle + draw.normal(size=400)
    answers = np.sort(middle[:, None] + off + spread * np.array([-1.0, 0.0, 1.0]), axis=1)
    found = fit_shifted(answers, labels, LEVELS)
    moved = answers + np.array(found.offsets)
    for at, level in enumerate(LEVELS):
        assert float((labels <= moved[:, at] + 1e-9).mean()) == pytest.approx(level, abs=1 / 400 + 1e-9)


def test_coverage_is_mended_on_other_rows_too() -> None:
    draw = np.random.default_rng(1)
    labels = draw.normal(size=8000)
    answers = np.tile([-0.3, 0.0, 0.3], (8000, 1))
    found = fit_shifted(answers[:4000], labels[:4000], LEVELS)
    before, after = coverage(labels[4000:], answers[4000:]), coverage(labels[4000:], found(answers[4000:]))
    assert isinstance(before, float)
    assert before < 0.3
    assert after == pytest.approx(0.8, abs=0.02)


def test_few_rows_shift_nothing() -> None:
    assert fit_shifted(np.zeros((99, 3)), np.ones(99), LEVELS) == Shifted((0.0, 0.0, 0.0))


def drawn(seed: int, power: float, rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Chances, and classes drawn from them after they were raised to a power."""
    draw = np.random.default_rng(seed)
    given_ = draw.dirichlet(np.full(4, 2.0), rows)
    true = Tempered(power)(given_)
    labels = (true.cumsum(axis=1) < draw.random((rows, 1))).sum(axis=1).astype(np.float64)
    return given_, labels


@pytest.mark.parametrize("power", [0.4, 1.0, 2.5])
def test_the_power_that_made_them_is_found(power: float) -> None:
    given_, labels = drawn(3, power)
    assert fit_tempered(given_, labels).power == pytest.approx(power, rel=0.12)


@pytest.mark.parametrize("power", [0.4, 1.0, 2.5])
def test_no_other_power_pays_less(power: float) -> None:
    given_, labels = drawn(4, power, 500)
    found = fit_tempered(given_, labels)
    best = class_logloss(labels, found(given_))
    assert isinstance(best, float)
    for factor in (0.8, 0.99, 1.01, 1.25):
        other = class_logloss(labels, Tempered(found.power * factor)(given_))
        assert isinstance(other, float)
        assert other > best


def test_tempering_by_hand() -> None:
    assert Tempered(2.0)(np.array([[0.25, 0.75]])).tolist() == [pytest.approx([0.1, 0.9])]
    assert Tempered(0.5)(np.array([[0.1, 0.9]])).tolist() == [pytest.approx([0.25, 0.75])]
    assert Tempered(1.0)(np.array([[0.1, 0.9]])).tolist() == [pytest.approx([0.1, 0.9])]


def test_a_sure_class_stays_sure() -> None:
    found = Tempered(3.0)(np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert found.tolist() == [pytest.approx([0.0, 1.0]), pytest.approx([1.0, 0.0])]
    assert np.isfinite(Tempered(STEEPEST)(np.array([[1e-300, 1.0]]))).all()


def test_the_power_is_held() -> None:
    """Labels that are always the likeliest class ask for a power without end; always the unlikeliest, for none."""
    given_ = np.tile([0.4, 0.6], (200, 1))
    assert fit_tempered(given_, np.ones(200)).power == pytest.approx(STEEPEST)
    assert fit_tempered(given_, np.zeros(200)).power == pytest.approx(1 / STEEPEST)


def test_few_rows_temper_nothing() -> None:
    assert fit_tempered(np.full((99, 2), 0.5), np.ones(99)) == Tempered()


@pytest.mark.parametrize("one", [Scaled(0.3), Shifted((0.1, -2.0, 1e-17)), Tempered(1.7)])
def test_they_come_back_from_json(one: Scaled | Shifted | Tempered) -> None:
    assert from_json(to_json(one)) == one
