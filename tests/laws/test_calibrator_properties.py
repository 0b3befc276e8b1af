"""Calibrators with any numbers in them and from any rows: rising, inside their bounds, the same to the last bit from JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float, Int

from umbel.errors import UserError
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
from umbel.evaluate.rescale import Scaled, Shifted, Tempered
from umbel.schema import BINARY, REGRESSION, TaskKind

EXAMPLES = settings(max_examples=40, deadline=None)
ENDS = np.array([-np.inf, -1e300, -745.0, -37.0, -1.0, 0.0, 1.0, 37.0, 745.0, 1e300, np.inf])
finite = st.floats(allow_nan=False, allow_infinity=False)
platts = st.fixed_dictionaries({"kind": st.just("platt"), "slope": st.floats(1e-3, 50), "intercept": st.floats(-50, 50)})
lines = st.fixed_dictionaries({"kind": st.just("linear"), "slope": st.floats(1e-6, 1e6), "intercept": finite})
Saved = dict[str, object]


@st.composite
def isotonics(draw: st.DrawFn) -> Saved:
    """Two to eight knots on rising grids."""
    count = draw(st.integers(2, 8))
    grid = st.lists(st.integers(1, 999), min_size=count, max_size=count, unique=True).map(sorted)
    logit, probability = [knot / 50 - 10 for knot in draw(grid)], [rate / 1000 for rate in draw(grid)]
    return {"kind": "isotonic", "logit": logit, "probability": probability, "slope": draw(st.floats(1e-3, 5))}


def curve(saved: Saved) -> Isotonic:
    made = from_json(saved)
    assert isinstance(made, Isotonic)
    return made


BINARIES = st.one_of(platts, isotonics())
EVERY = st.one_of(BINARIES, lines, st.just({"kind": "identity"}))


@EXAMPLES
@given(EVERY)
def test_json_keeps_every_bit(saved: Saved) -> None:
    calibrator = from_json(saved)
    assert to_json(calibrator) == {key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()}
    text = json.dumps(to_json(calibrator))
    again = from_json(json.loads(text))
    assert type(again) is type(calibrator)
    assert again == calibrator
    logits = np.linspace(-12, 12, 101)
    assert again(logits).tobytes() == calibrator(logits).tobytes()
    assert json.dumps(to_json(again)) == text


@EXAMPLES
@given(BINARIES)
def test_chances_stay_inside_and_never_fall(saved: Saved) -> None:
    calibrator = from_json(saved)
    for logits in (ENDS, np.linspace(-12, 12, 401)):
        found = calibrator(logits)
        assert (found >= FLOOR).all()
        assert (found <= 1 - FLOOR).all()
        assert (np.diff(found) >= -1e-15).all()


@EXAMPLES
@given(isotonics())
def test_between_and_beyond_its_knots_a_curve_rises_strictly(saved: Saved) -> None:
    calibrator = curve(saved)
    inside = np.linspace(calibrator.logit[0], calibrator.logit[-1], 200)
    assert (np.diff(calibrator(inside)) > 0).all()
    for end, side in ((calibrator.logit[0], -1.0), (calibrator.logit[-1], 1.0)):
        beyond = calibrator(end + side * np.array([0.0, 0.5, 1.0, 2.0]))
        assert (side * np.diff(beyond) > 0).all()


@EXAMPLES
@given(isotonics())
def test_a_curve_meets_its_knots_without_a_jump(saved: Saved) -> None:
    calibrator = curve(saved)
    knots = np.array(calibrator.logit)
    assert calibrator(knots) == pytest.approx(np.array(calibrator.probability), abs=1e-8)
    for near in (-1e-9, 1e-9):
        assert calibrator(knots + near) == pytest.approx(calibrator(knots), abs=1e-6)


@EXAMPLES
@given(isotonics(), st.floats(0.1, 3))
def test_beyond_the_outer_knots_the_log_odds_are_a_line(saved: Saved, far: float) -> None:
    calibrator = curve(saved)
    for at, side in ((0, -1.0), (-1, 1.0)):
        p = (float(calibrator(np.array([calibrator.logit[at] + side * far]))[0]) - FLOOR) / (1 - 2 * FLOOR)
        start = math.log(calibrator.probability[at] / (1 - calibrator.probability[at]))
        assert math.log(p / (1 - p)) == pytest.approx(start + side * far * calibrator.slope, rel=1e-3, abs=1e-3)


def test_a_logit_that_is_no_number_stays_none() -> None:
    for calibrator in (Platt(), Isotonic((0.0, 1.0), (0.2, 0.8), 1.0), Linear(), Identity()):
        with np.errstate(invalid="ignore"):
            found = calibrator(np.array([np.nan, 0.5]))
        assert np.isnan(found).tolist() == [True, False]


ROWS = st.lists(st.tuples(st.integers(-8, 8), st.booleans(), st.integers(0, 6)), min_size=1, max_size=60)
Rows = list[tuple[int, bool, int]]


def columns(drawn: Rows) -> tuple[Float[np.ndarray, "rows"], Float[np.ndarray, "rows"], Int[np.ndarray, "rows"]]:
    """Tied logits, labels, and users with large raw ids."""
    logits, labels, groups = zip(*drawn, strict=True)
    return np.array(logits) / 2, np.array(labels, dtype=np.float64), np.array(groups, dtype=np.int64) * 2**60


@EXAMPLES
@given(ROWS)
def test_what_is_fitted_keeps_the_order_and_the_ties(drawn: Rows) -> None:
    logits, labels, _ = columns(drawn)
    fitted: list[Calibrator] = [fit_calibrator(logits, labels), fit_platt(logits, labels)]
    if 0 < labels.sum() < len(labels):
        fitted.append(fit_isotonic(logits, labels))
    for calibrator in fitted:
        found = calibrator(np.unique(logits))
        assert np.isfinite(found).all()
        assert (np.diff(found) > 0).all()


@EXAMPLES
@given(ROWS)
def test_platt_is_at_the_top_of_its_likelihood(drawn: Rows) -> None:
    """At the optimum the residuals against Platt's targets sum to nothing, and so do the residuals times the logit (unless held)."""
    logits, labels, _ = columns(drawn)
    found = fit_platt(logits, labels)
    count = labels.sum()
    target = np.where(labels == 1, (count + 1) / (count + 2), 1 / (len(labels) - count + 2))
    residual = 1 / (1 + np.exp(-(found.slope * logits + found.intercept))) - target
    assert abs(residual.sum()) < 1e-5 * len(labels)
    if found.slope > 1e-3:
        assert abs((residual * logits).sum()) < 1e-5 * len(labels)


@EXAMPLES
@given(ROWS)
def test_isotonic_knots_rise_and_keep_the_mass(drawn: Rows) -> None:
    logits, labels, _ = columns(drawn)
    if not 0 < labels.sum() < len(labels):
        return
    found = fit_isotonic(logits, labels)
    if isinstance(found, Isotonic):
        assert (np.diff(found.logit) > 0).all()
        assert (np.diff(found.probability) > 0).all()
        assert found.probability[0] > 0
        assert found.probability[-1] < 1
        assert logits.min() <= found.logit[0] < found.logit[-1] <= logits.max()


@pytest.mark.parametrize("kind", [BINARY, REGRESSION])
@EXAMPLES
@given(drawn=ROWS, folds=st.integers(2, 7))
def test_a_users_rows_are_calibrated_by_others_alone(kind: TaskKind, drawn: Rows, folds: int) -> None:
    """Whatever the labels of one user become, that user's own figures stay; the folds are of users, not of rows."""
    logits, labels, groups = columns(drawn)
    before = cross_fitted(logits, labels, groups, kind=kind, folds=folds)
    assert np.isfinite(before).all()
    for user in np.unique(groups):
        own = groups == user
        after = cross_fitted(logits, np.where(own, 1 - labels, labels), groups, kind=kind, folds=folds)
        assert (after[own] == before[own]).all()


@EXAMPLES
@given(ROWS, st.lists(st.booleans(), min_size=60, max_size=60))
def test_rows_that_may_not_be_fitted_on_do_not_matter(drawn: Rows, marks: list[bool]) -> None:
    logits, labels, groups = columns(drawn)
    use = np.array(marks[: len(labels)])
    before = cross_fitted(logits, labels, groups, use=use)
    after = cross_fitted(logits, np.where(use, labels, np.nan), groups, use=use)
    assert (before == after).all()


def test_more_folds_than_users_leave_one_user_out() -> None:
    draw = np.random.default_rng(0)
    logits, groups = draw.normal(size=90), np.repeat([7, 8, 9], 30)
    labels = (draw.random(90) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    found = cross_fitted(logits, labels, groups, folds=50)
    for user in (7, 8, 9):
        rest = groups != user
        assert (found[~rest] == fit_calibrator(logits[rest], labels[rest])(logits[~rest])).all()


@EXAMPLES
@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=100, max_size=130))
def test_a_line_is_the_best_that_rises_and_keeps_the_mean(drawn: list[tuple[int, int]]) -> None:
    x, y = (np.array(column, dtype=np.float64) for column in zip(*drawn, strict=True))
    found = fit_calibrator(x, y, kind=REGRESSION)
    assert isinstance(found, Linear)
    assert found.slope > 0
    assert found(x).mean() == pytest.approx(y.mean(), abs=1e-9)
    rises = np.ptp(x) > 0 and (x - x.mean()) @ (y - y.mean()) > 1e-9
    least = np.square(found(x) - y).sum()
    for slope, shift in (((1e-3, 0.0), (-1e-3, 0.0)) if rises else ()) + ((0.0, 1e-2), (0.0, -1e-2)):
        assert np.square(found(x) + slope * (x - x.mean()) + shift - y).sum() >= least - 1e-6
    if not rises:
        assert found(x).std() <= 1.001e-3 * min(x.std(), y.std() or np.inf) + 1e-12


@pytest.mark.parametrize(("saved", "told"), [
    ({}, "unknown kind None; known: identity, isotonic, linear, platt, scaled, shifted, tempered"),
    ({"kind": "Platt"}, "unknown kind 'Platt'"),
    ({"kind": "platt", "tilt": 2.0}, "calibrator 'platt': .*'tilt'; fit it again"),
    ({"kind": "isotonic", "logit": [0.0, 1.0]}, "calibrator 'isotonic': .*missing.*; fit it again"),
    ({"kind": "identity", "slope": 1.0}, "calibrator 'identity'"),
])
def test_what_is_no_calibrator_is_the_users_to_mend(saved: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        from_json(saved)


def test_every_kind_is_filed_under_its_own_name() -> None:
    several = Scaled(), Shifted((0.0,)), Tempered()
    plain: tuple[Calibrator, ...] = (Platt(), Isotonic((0.0, 1.0), (0.1, 0.9), 1.0), Linear(), Identity(), *several)
    assert {str(to_json(one)["kind"]): type(one) for one in plain} == CALIBRATORS
    assert all(isinstance(one, Calibrator) for one in plain)
    assert not isinstance(np.exp, Calibrator)
