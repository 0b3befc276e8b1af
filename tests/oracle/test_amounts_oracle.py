"""Metrics of amounts, counts, quantiles and classes against scikit-learn's, plain loops and each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, d2_log_loss_score, d2_tweedie_score, log_loss, mean_pinball_loss, mean_tweedie_deviance

from umbel.evaluate import amounts, classes, metrics
from umbel.evaluate.metrics import Undefined

EXAMPLES = settings(max_examples=60, deadline=None)
LEVELS = (0.1, 0.4, 0.9)
SMALL = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=2, max_size=14)


def columns(drawn: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = np.array(drawn, dtype=np.float64).T
    return labels, predictions


def plain_gini(labels: np.ndarray, scores: np.ndarray) -> float:
    """Over pairs of rows: how much more the higher scored one has, ties counting nothing."""
    return float(sum((labels[i] - labels[j]) * np.sign(scores[i] - scores[j]) for i in range(len(labels)) for j in range(i)))


@EXAMPLES
@given(SMALL)
def test_gini_is_a_sum_over_pairs(drawn: list[tuple[int, int]]) -> None:
    labels, predictions = columns(drawn)
    found, best = amounts.gini(labels, predictions), plain_gini(labels, labels)
    if best == 0:
        assert found == Undefined("the label is constant")
    else:
        assert found == pytest.approx(plain_gini(labels, predictions) / best, abs=1e-12)


@EXAMPLES
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=20))
def test_gini_of_events_is_auc(drawn: list[tuple[int, int]]) -> None:
    labels, scores = columns(drawn)
    area, found = metrics.auc(labels, scores), amounts.gini(labels, scores)
    if isinstance(area, Undefined):
        assert isinstance(found, Undefined)
    else:
        assert found == pytest.approx(2 * area - 1, abs=1e-12)


@EXAMPLES
@given(SMALL, st.data())
def test_gini_with_weights_repeats_rows(drawn: list[tuple[int, int]], data: st.DataObject) -> None:
    labels, predictions = columns(drawn)
    times = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(labels), max_size=len(labels))))
    found = amounts.gini(labels, predictions, times.astype(np.float64))
    expected = amounts.gini(np.repeat(labels, times), np.repeat(predictions, times))
    if isinstance(expected, Undefined):
        assert isinstance(found, Undefined)
    else:
        assert found == pytest.approx(expected, abs=1e-12)


@EXAMPLES
@given(SMALL, st.floats(0.1, 9.0))
def test_gini_reads_ranks_alone(drawn: list[tuple[int, int]], factor: float) -> None:
    labels, predictions = columns(drawn)
    found = amounts.gini(labels, predictions)
    other = amounts.gini(factor * labels, np.exp(predictions / 2))
    assert (found if isinstance(found, Undefined) else pytest.approx(found, abs=1e-12)) == other


@pytest.mark.parametrize("power", [1.0, 1.1, 1.5, 1.9])
def test_deviance_is_scikit_learns(power: float) -> None:
    draw = np.random.default_rng(int(10 * power))
    labels, means = draw.poisson(1.3, 200).astype(float), draw.gamma(2.0, 1.0, 200)
    assert amounts.deviance(labels, means, power=power) == pytest.approx(mean_tweedie_deviance(labels, means, power=power), rel=1e-12)
    expected = d2_tweedie_score(labels, means, power=power)
    assert amounts.explained_deviance(labels, means, power=power) == pytest.approx(expected, rel=1e-9)


def test_deviance_grows_into_poissons() -> None:
    labels, means = np.array([0.0, 1.0, 4.0]), np.array([0.5, 2.0, 3.0])
    near, whole = amounts.deviance(labels, means, power=1 + 1e-6), amounts.deviance(labels, means, power=1.0)
    assert near == pytest.approx(whole, rel=1e-4)


def test_a_mean_of_nothing_is_far_but_finite() -> None:
    for power in (1.0, 1.5):
        found = amounts.deviance(np.array([2.0, 0.0]), np.array([0.0, 0.0]), power=power)
        assert isinstance(found, float)
        assert np.isfinite(found)
        assert found > 100


@EXAMPLES
@given(SMALL)
def test_pinball_is_scikit_learns(drawn: list[tuple[int, int]]) -> None:
    labels, low = columns(drawn)
    quantiles = np.stack([low, low + 0.5, low + 2.0], axis=1)
    expected = np.mean([mean_pinball_loss(labels, quantiles[:, at], alpha=level) for at, level in enumerate(LEVELS)])
    assert amounts.pinball(labels, quantiles, LEVELS) == pytest.approx(float(expected), abs=1e-12)


@EXAMPLES
@given(st.lists(st.floats(-5, 5), min_size=3, max_size=30))
def test_no_constants_beat_the_labels_own_quantiles(drawn: list[float]) -> None:
    labels = np.array(drawn)
    best = amounts.pinball(labels, amounts.constant_quantiles(labels, LEVELS), LEVELS)
    assert isinstance(best, float)
    for shift in (-1.0, -0.1, 0.1, 1.0):
        other = amounts.pinball(labels, amounts.constant_quantiles(labels, LEVELS) + shift, LEVELS)
        assert isinstance(other, float)
        assert other >= best - 1e-12


def test_explained_pinball_by_hand() -> None:
    """The median of 0, 0, 4, 4 is 0: absolute errors of 2 on the mean, half of it pinball; a model that knows pays nothing."""
    labels = np.array([0.0, 0.0, 4.0, 4.0])
    assert amounts.pinball(labels, np.zeros((4, 1)), (0.5,)) == 1.0
    assert amounts.explained_pinball(labels, labels[:, None], (0.5,)) == 1.0
    assert amounts.explained_pinball(labels, np.zeros((4, 1)), (0.5,)) == 0.0
    assert amounts.explained_pinball(labels, np.array([[0.0], [0.0], [2.0], [4.0]]), (0.5,)) == 0.75


def test_coverage_and_width_by_hand() -> None:
    labels = np.array([0.0, 1.0, 2.0, 9.0])
    quantiles = np.array([[0.0, 1.0, 2.0]] * 4)
    assert amounts.coverage(labels, quantiles) == 0.75
    assert amounts.width(labels, quantiles) == 2.0
    assert amounts.coverage(labels, quantiles[:, :1]) == Undefined("one level has no interval")
    assert amounts.width(labels, quantiles[:, :1]) == Undefined("one level has no interval")


def test_decile_error_by_hand() -> None:
    """Twenty rows in tenths of two: the first nine tenths are right, the last promises 3 of 2."""
    labels = np.repeat(np.arange(1.0, 11.0), 2)
    predictions = labels.copy()
    predictions[-2:] *= 1.5
    assert amounts.decile_error(labels, predictions) == pytest.approx(0.05)
    assert amounts.decile_error(labels, labels) == 0.0
    assert amounts.decile_error(np.zeros(5), np.ones(5)) == Undefined("every label is 0")


def test_decile_slope_by_hand() -> None:
    """Ten tenths: twice what was promised has slope 2, a constant more slope 1, the other way round -1, the mean 0."""
    predictions = np.repeat(np.arange(1.0, 11.0), 2)
    for labels, slope in ((2 * predictions, 2.0), (predictions + 7, 1.0), (11 - predictions, -1.0), (np.full(20, 3.0), 0.0)):
        assert amounts.decile_slope(labels, predictions) == pytest.approx(slope, abs=1e-12)
    assert amounts.decile_slope(predictions, np.full(20, 5.0)) == Undefined("the predictions are constant")
    assert amounts.decile_slope(np.array([1.0, 2.0]), np.array([0.1, 0.1 + 1e-17])) == Undefined("the predictions are constant")


@EXAMPLES
@given(st.integers(0, 10_000), st.integers(10, 200))
def test_decile_slope_is_that_of_a_line_through_the_tenths(seed: int, rows: int) -> None:
    """numpy's least-squares line through the tenths' means, each weighed by its rows."""
    draw = np.random.default_rng(seed)
    predictions = draw.lognormal(size=rows)
    labels = np.where(draw.random(rows) < 0.4, predictions * draw.lognormal(size=rows), 0.0)
    place = metrics.bin_of(predictions, amounts.decile_edges(predictions))
    count = np.bincount(place).astype(np.float64)
    used = count > 0
    y, p = (np.bincount(place, column)[used] / count[used] for column in (labels, predictions))
    expected = np.polyfit(p, y, 1, w=np.sqrt(count[used]))[0]
    assert amounts.decile_slope(labels, predictions) == pytest.approx(expected, rel=1e-8, abs=1e-10)


@EXAMPLES
@given(st.integers(0, 10_000), st.floats(0.1, 10), st.floats(0.1, 10))
def test_decile_slope_is_of_one_unit_over_the_other(seed: int, of_labels: float, of_predictions: float) -> None:
    draw = np.random.default_rng(seed)
    labels, predictions = draw.lognormal(size=80), draw.lognormal(size=80)
    before = amounts.decile_slope(labels, predictions)
    after = amounts.decile_slope(of_labels * labels, of_predictions * predictions)
    assert isinstance(before, float)
    assert after == pytest.approx(before * of_labels / of_predictions, rel=1e-9, abs=1e-12)


def test_slopes_of_many_draws_are_slopes_of_each() -> None:
    """Draws whose tenths hold different rows; one in which all rows fell into one tenth has none."""
    draw = np.random.default_rng(3)
    count = draw.integers(1, 9, size=(4, 10)).astype(np.float64)
    promised, own = count * np.arange(1, 11), count * draw.lognormal(size=(4, 10))
    count[3, 1:], promised[3, 1:], own[3, 1:] = 0, 0, 0
    found = amounts.slopes(np.stack([count, own, promised]))
    for at in range(3):
        expected = np.polyfit(promised[at] / count[at], own[at] / count[at], 1, w=np.sqrt(count[at]))[0]
        assert found[at] == pytest.approx(expected)
    assert np.isnan(found[3])


def test_decile_error_leaves_out_tenths_without_anything() -> None:
    labels = np.repeat([0.0, 1.0], 10)
    predictions = np.repeat([0.3, 2.0], 10)
    assert amounts.decile_error(labels, predictions) == 1.0


def chances(draw: np.random.Generator, rows: int, count: int) -> np.ndarray:
    found: np.ndarray = draw.dirichlet(np.ones(count), rows)
    return found


@pytest.mark.parametrize("count", [2, 3, 7])
def test_classes_are_scikit_learns(count: int) -> None:
    draw = np.random.default_rng(count)
    labels, given = draw.integers(count, size=300).astype(float), chances(draw, 300, count)
    each = list(range(count))
    assert classes.class_logloss(labels, given) == pytest.approx(log_loss(labels, given, labels=each), rel=1e-12)
    assert classes.accuracy(labels, given) == accuracy_score(labels, given.argmax(axis=1))
    assert classes.explained_logloss(labels, given) == pytest.approx(d2_log_loss_score(labels, given, labels=each), rel=1e-9)


def test_two_classes_are_an_event() -> None:
    draw = np.random.default_rng(0)
    labels, given = draw.integers(2, size=100).astype(float), chances(draw, 100, 2)
    assert classes.class_logloss(labels, given) == pytest.approx(metrics.logloss(labels, given[:, 1]))
    entropy = metrics.normalised_entropy(labels, given[:, 1])
    assert isinstance(entropy, float)
    assert classes.explained_logloss(labels, given) == pytest.approx(1 - entropy)


def test_grades_and_hits_by_hand() -> None:
    given = np.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]])
    np.testing.assert_allclose(classes.expected_grade(given), [0.5, 1.6])
    assert classes.hits(np.array([0.0, 1.0]), given).tolist() == [1.0, 0.0], "the first of equals is the likeliest"


def test_a_sure_model_that_is_right_half_the_time_is_badly_calibrated() -> None:
    given = np.tile([1.0, 0.0, 0.0], (10, 1))
    assert classes.class_ece(np.repeat([0.0, 2.0], 5), given) == 0.5
    assert classes.class_ece(np.zeros(10), given) == 0.0


def test_shares_have_an_entropy() -> None:
    found = classes.share_entropy(np.array([[1.0, 1.0], [3.0, 0.0], [0.0, 0.0]]))
    assert found[:2].tolist() == pytest.approx([np.log(2.0), 0.0])
    assert np.isnan(found[2])


@pytest.mark.parametrize(
    "metric",
    [amounts.gini, amounts.decile_error, amounts.decile_slope, classes.class_logloss, classes.accuracy, classes.explained_logloss,
     classes.class_ece],
)
def test_no_row_and_a_lost_row_are_undefined(metric: metrics.Metric) -> None:
    wide = metric.__module__.endswith("classes")
    one = np.full((3, 2), 0.5) if wide else np.ones(3)
    assert metric(np.zeros(0), one[:0]) == Undefined("no row")
    lost = one.copy()
    lost[1] = np.nan
    assert metric(np.array([0.0, 1.0, 1.0]), lost) == Undefined("1 of 3 rows are not a number")
