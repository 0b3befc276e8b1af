"""Metrics on any rows at all: against counting by hand, and under what must not matter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float, Int

from umbel.evaluate import metrics
from umbel.evaluate.figures import curve
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.ranking import Ordered, user_aucs

EXAMPLES = settings(max_examples=40, deadline=None)


class Some(NamedTuple):
    """A few rows: labels, scores on a coarse grid inside 0 to 1 (so that ties are common), whole weights, users."""

    labels: Float[np.ndarray, "rows"]
    scores: Float[np.ndarray, "rows"]
    weight: Int[np.ndarray, "rows"]
    groups: Int[np.ndarray, "rows"]


def _rows(drawn: list[tuple[int, int, int, int]]) -> Some:
    labels, scores, weight, groups = np.array(drawn, dtype=np.int64).reshape(-1, 4).T
    return Some(labels.astype(np.float64), scores / 16, weight, groups * 2**61)


ROW = st.tuples(st.integers(0, 1), st.integers(1, 15), st.integers(0, 3), st.integers(-3, 3))
SOME = st.lists(ROW, min_size=1, max_size=30).map(_rows)


def same(found: float | Undefined, expected: float | None, *, near: float = 1e-12) -> bool:
    """A number near the expected one, or `Undefined` where none is expected."""
    if expected is None or isinstance(found, Undefined):
        return expected is None and isinstance(found, Undefined)
    return math.isclose(found, expected, rel_tol=near, abs_tol=near)


def pairs(labels: Float[np.ndarray, "rows"], scores: Float[np.ndarray, "rows"], weight: Float[np.ndarray, "rows"]) -> float | None:
    """AUC, a pair at a time."""
    won = total = 0.0
    for i in range(len(labels)):
        for j in range(len(labels)):
            if labels[i] == 1 and labels[j] == 0:
                total += weight[i] * weight[j]
                won += weight[i] * weight[j] * ((scores[i] > scores[j]) + (scores[i] == scores[j]) / 2)
    return won / total if total else None


@EXAMPLES
@given(SOME)
def test_auc_counts_pairs(some: Some) -> None:
    weight = some.weight.astype(np.float64)
    assert same(metrics.auc(some.labels, some.scores), pairs(some.labels, some.scores, np.ones(len(some.labels))))
    assert same(metrics.auc(some.labels, some.scores, weight), pairs(some.labels, some.scores, weight))


@EXAMPLES
@given(SOME)
def test_average_precision_goes_down_the_thresholds(some: Some) -> None:
    positives = some.labels.sum()
    expected = recall = 0.0
    for threshold in sorted(set(some.scores.tolist()), reverse=True):
        kept = some.labels[some.scores >= threshold]
        expected += (kept.sum() / max(positives, 1) - recall) * kept.mean()
        recall = kept.sum() / max(positives, 1)
    assert same(metrics.average_precision(some.labels, some.scores), expected if positives else None)


@EXAMPLES
@given(SOME)
def test_gauc_is_a_loop_over_users(some: Some) -> None:
    won = total = 0.0
    for user in set(some.groups.tolist()):
        own = some.groups == user
        area = pairs(some.labels[own], some.scores[own], np.ones(own.sum()))
        if area is not None:
            won, total = won + own.sum() * area, total + own.sum()
    assert same(metrics.gauc(some.labels, some.scores, some.groups), won / total if total else None)


@EXAMPLES
@given(SOME)
def test_users_have_their_own_auc(some: Some) -> None:
    found = user_aucs(some.labels, some.scores, some.groups)
    assert found.user.tolist() == sorted(set(some.groups.tolist()))
    for number, user in enumerate(found.user):
        own = some.groups == user
        area = pairs(some.labels[own], some.scores[own], np.ones(own.sum()))
        assert found.rows[number] == own.sum()
        assert found.both[number] == (area is not None)
        assert found.auc[number] == pytest.approx(area or 0.0, abs=1e-12)


@EXAMPLES
@given(SOME, st.permutations(range(1, 16)))
def test_only_the_order_of_scores_ranks(some: Some, drawn: list[int]) -> None:
    """Any strictly rising table of values in place of the scores changes no bit; a falling one turns AUC round."""
    rising = np.cumsum(np.concatenate([[-7.0], np.array(drawn) ** 3.0]))
    place = (some.scores * 16).astype(np.int64)
    for ranking in (metrics.auc, metrics.average_precision):
        assert ranking(some.labels, rising[place]) == ranking(some.labels, some.scores)
    assert metrics.gauc(some.labels, rising[place], some.groups) == metrics.gauc(some.labels, some.scores, some.groups)
    area = metrics.auc(some.labels, some.scores)
    if isinstance(area, float):
        assert same(metrics.auc(some.labels, -rising[place]), 1 - area)
        assert same(metrics.auc(1 - some.labels, rising[place]), 1 - area)


WEIGHTED = (metrics.auc, metrics.average_precision, metrics.logloss, metrics.normalised_entropy)


@pytest.mark.parametrize("metric", WEIGHTED)
@EXAMPLES
@given(some=SOME)
def test_whole_weights_are_repeated_rows_even_where_it_is_undefined(metric: Callable[..., float | Undefined], some: Some) -> None:
    repeated = metric(np.repeat(some.labels, some.weight), np.repeat(some.scores, some.weight))
    found = metric(some.labels, some.scores, some.weight.astype(np.float64))
    assert same(found, repeated if isinstance(repeated, float) else None)


@EXAMPLES
@given(SOME)
def test_one_order_serves_any_weights(some: Some) -> None:
    """AUC and average precision from one sort, in whole weights and in real ones."""
    ranking = Ordered.of(some.labels, some.scores)
    for weight in (some.weight, some.weight.astype(np.uint8), some.weight * 0.5):
        area, precision = ranking.curves(weight[ranking.order])
        known = metrics.ranked(some.labels, ranking, some.weight.astype(np.float64))
        for found, expected in zip((area, precision), known, strict=True):
            if isinstance(expected, float):
                assert found == pytest.approx(expected, abs=1e-12)


@EXAMPLES
@given(SOME)
def test_logloss_and_entropy_are_sums_of_logarithms(some: Some) -> None:
    terms = [-math.log(p if y == 1 else 1 - p) for y, p in zip(some.labels, some.scores, strict=True)]
    loss = math.fsum(terms) / len(terms)
    assert same(metrics.logloss(some.labels, some.scores), loss)
    assert same(metrics.logloss(1 - some.labels, 1 - some.scores), loss, near=1e-9)
    rate = some.labels.mean()
    base = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate)) if 0 < rate < 1 else None
    assert same(metrics.normalised_entropy(some.labels, some.scores), None if base is None else loss / base, near=1e-9)


@EXAMPLES
@given(SOME, st.lists(st.integers(1, 15), max_size=6, unique=True))
def test_ece_is_a_loop_over_bins(some: Some, cuts: list[int]) -> None:
    edges = np.array(sorted(cuts)) / 16
    gaps: dict[int, list[float]] = {}
    for y, p in zip(some.labels.tolist(), some.scores.tolist(), strict=True):
        gaps.setdefault(sum(edge < p for edge in edges.tolist()), []).append(y - p)
    expected = sum(abs(math.fsum(gap)) for gap in gaps.values()) / len(some.labels)
    assert same(metrics.ece(some.labels, some.scores, edges=edges), expected)


@EXAMPLES
@given(SOME)
def test_bins_of_equal_mass_hold_no_more_than_their_share_but_for_ties(some: Some) -> None:
    edges = metrics.equal_mass_edges(some.scores, 5)
    assert len(edges) <= 4
    assert set(edges.tolist()) <= set(some.scores.tolist())
    place = metrics.bin_of(some.scores, edges)
    for number in set(place.tolist()):
        inside = some.scores[place == number]
        # but for the rows tied at its upper edge, a bin holds at most its fifth and the row an edge falls on
        assert (inside < inside.max()).sum() <= math.ceil(len(some.scores) / 5)


@EXAMPLES
@given(SOME)
def test_the_reliability_curve_holds_every_row_once(some: Some) -> None:
    points = curve(some.labels, some.scores)
    assert sum(point.rows for point in points) == len(some.labels)
    assert [point.predicted for point in points] == sorted(point.predicted for point in points)
    assert len({point.predicted for point in points}) == len(points) <= 10
    assert math.fsum(point.rows * point.observed for point in points) == pytest.approx(some.labels.sum())
    assert math.fsum(point.rows * point.predicted for point in points) == pytest.approx(some.scores.sum())


@EXAMPLES
@given(SOME, st.floats(0.01, 100), st.floats(-100, 100))
def test_regressions_follow_the_unit_of_their_label(some: Some, factor: float, shift: float) -> None:
    """RMSE and MAE scale with the unit and do not see its zero; R2 sees neither."""
    labels, found = some.weight + some.labels / 2, some.scores * 3
    moved = labels * factor + shift, found * factor + shift
    for metric, power in ((metrics.rmse, 1), (metrics.mae, 1), (metrics.r2, 0)):
        before = metric(labels, found)
        if isinstance(before, float):
            assert same(metric(*moved), before * factor**power, near=1e-6)


@EXAMPLES
@given(SOME)
def test_regressions_are_loops(some: Some) -> None:
    labels = some.weight + some.labels / 2
    errors = [y - p for y, p in zip(labels.tolist(), some.scores.tolist(), strict=True)]
    square = math.fsum(error**2 for error in errors)
    assert same(metrics.rmse(labels, some.scores), math.sqrt(square / len(errors)))
    assert same(metrics.mae(labels, some.scores), math.fsum(map(abs, errors)) / len(errors))
    spread = math.fsum((y - labels.mean()) ** 2 for y in labels.tolist())
    assert same(metrics.r2(labels, some.scores), 1 - square / spread if spread > 1e-20 else None, near=1e-9)
    assert metrics.rmse(labels, labels) == metrics.mae(labels, labels) == 0.0


@EXAMPLES
@given(SOME, st.floats(0.1, 1.0))
def test_the_calibration_ratio_is_linear_in_what_is_promised(some: Some, factor: float) -> None:
    before = metrics.calibration_ratio(some.labels, some.scores)
    after = metrics.calibration_ratio(some.labels, some.scores * factor)
    if isinstance(before, Undefined):
        assert after == before == Undefined("no positive row")
    else:
        assert same(after, before * factor)
