"""Laws of the judge: what cannot matter does not, counts add up, and a saved calibrator judges the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float, Int
from sklearn.metrics import average_precision_score, roc_auc_score

from umbel.evaluate.calibrate import from_json, to_json
from umbel.evaluate.figures import METRICS, REGRESSION_METRICS, Figures
from umbel.evaluate.intervals import Interval, resample
from umbel.evaluate.judge import (
    Predictions,
    TaskReport,
    calibrate_all,
    cross_calibrated,
    evaluate,
    fit_calibrators,
    marginals,
    mean_score,
)
from umbel.evaluate.metrics import Undefined, gauc
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

SCHEMA = Schema(
    (Field("user", FieldKind.ID),),
    (Task("click"), Task("buy", given="click"), Task("like"), Task("seconds", REGRESSION, given="click")),
)


def log(seed: int, count: int = 900) -> Predictions:
    """Four tasks, some labels unobserved, logits with ties."""
    draw = np.random.default_rng(seed)
    logits = np.round(draw.normal(size=(count, 4)) * 2, 1)
    events = (draw.random((count, 4)) < 1 / (1 + np.exp(-logits / 2))).astype(np.float64)
    events[:, 1] *= events[:, 0]
    events[:, 3] = logits[:, 3] + draw.normal(size=count)
    observed = draw.random((count, 4)) < np.array([1.0, 0.9, 0.6, 0.8])
    return Predictions(SCHEMA, logits, events, observed, draw.integers(0, 60, count) * 1009)


def some(one: Predictions, rows: Int[np.ndarray, "some"]) -> Predictions:
    return Predictions(one.schema, one.logits[rows], one.events[rows], one.observed[rows], one.groups[rows])


def judged(one: Predictions, resamples: int = 12) -> tuple[TaskReport, ...]:
    slices = {"user": one.groups % 3, "sign": np.where(one.logits[:, 0] > 0, "up", "down")}
    chance = calibrate_all(one.schema, one.logits, fit_calibrators(one))
    return evaluate(one, chance, slices=slices, by=resample(one.groups, resamples=resamples))


def every(reports: tuple[TaskReport, ...]) -> dict[str, Figures]:
    """All figures of a report by a name of their own."""
    found = {}
    for task in reports:
        found[task.name] = task.figures
        if task.marginal is not None:
            found[f"{task.name} marginal"] = task.marginal
        for name, labels in task.slices.items():
            found |= {f"{task.name} {name} {label}": figures for label, figures in labels.items()}
    return found


def assert_same(left: tuple[TaskReport, ...], right: tuple[TaskReport, ...]) -> None:
    one, two = every(left), every(right)
    assert list(one) == list(two)
    for name, figures in one.items():
        other = two[name]
        assert (figures.rows, figures.users, figures.positives) == (other.rows, other.users, other.positives), name
        for metric, value in figures.metrics.items():
            found = other.metrics[metric]
            if isinstance(value, Undefined):
                assert value == found, (name, metric)
                continue
            assert isinstance(found, Interval), (name, metric)
            assert found.value == pytest.approx(value.value, abs=1e-9), (name, metric)
            assert found.low == pytest.approx(value.low, abs=1e-9), (name, metric)
            assert found.high == pytest.approx(value.high, abs=1e-9), (name, metric)


@pytest.mark.parametrize("seed", range(4))
def test_a_marginal_s_ranking_is_that_of_its_calibrated_product(seed: int) -> None:
    one = log(seed)
    chance = calibrate_all(SCHEMA, one.logits, fit_calibrators(one))
    marginal = evaluate(one, chance, by=resample(one.groups, resamples=3))[1].marginal
    assert marginal is not None
    rows = one.settled("buy")
    event, product, groups = one.event("buy")[rows], (chance[:, 0] * chance[:, 1])[rows], one.groups[rows]
    areas = {"auc": roc_auc_score(event, product), "pr_auc": average_precision_score(event, product)}
    for name, number in {**areas, "gauc": gauc(event, product, groups)}.items():
        found = marginal.metrics[name]
        assert isinstance(found, Interval), name
        assert found.value == pytest.approx(number, abs=1e-9), name


def test_judging_twice_is_the_same_to_the_last_bit() -> None:
    one = log(0)
    assert judged(one) == judged(one)


def test_the_order_of_rows_does_not_matter() -> None:
    one = log(1)
    assert_same(judged(one), judged(some(one, np.random.default_rng(0).permutation(900))))


def test_names_of_users_do_not_matter_as_long_as_their_order_stays() -> None:
    one = log(2)
    renamed = Predictions(one.schema, one.logits, one.events, one.observed, one.groups * 3 - 2**40)
    slices = {"user": one.groups % 3}
    chance = calibrate_all(one.schema, one.logits, fit_calibrators(one))
    first, second = (resample(log.groups, resamples=12) for log in (one, renamed))
    assert_same(evaluate(one, chance, slices=slices, by=first), evaluate(renamed, chance, slices=slices, by=second))


def test_rows_nobody_observed_do_not_matter() -> None:
    one = log(3)
    more = some(one, np.concatenate([np.arange(900), np.arange(50)]))
    observed = more.observed.copy()
    observed[900:] = False
    padded = Predictions(more.schema, more.logits, more.events, observed, more.groups)
    assert_same(judged(one), judged(padded))


def test_a_task_is_judged_the_same_alone() -> None:
    one = log(4)
    alone = Schema(SCHEMA.fields, (Task("like"),))
    single = Predictions(alone, one.logits[:, 2:3], one.events[:, 2:3], one.observed[:, 2:3], one.groups)
    together = next(task for task in judged(one) if task.name == "like")
    by = resample(one.groups, resamples=12)
    by_itself = evaluate(single, calibrate_all(alone, single.logits, fit_calibrators(single)), by=by)[0]
    assert by_itself.figures == together.figures


def test_no_logit_of_another_task_matters_to_a_conditional() -> None:
    one = log(5)
    plain = judged(one)
    for at, task in enumerate(SCHEMA.tasks):
        logits = np.random.default_rng(at).normal(size=one.logits.shape)
        logits[:, at] = one.logits[:, at]
        other = Predictions(SCHEMA, logits, one.events, one.observed, one.groups)
        assert judged(other)[at].figures == plain[at].figures, task.name


def test_slices_split_the_rows_of_a_task() -> None:
    for task in judged(log(6)):
        for name, labels in task.slices.items():
            assert sum(figures.rows for figures in labels.values()) == task.figures.rows, name
            if task.figures.positives is not None:
                assert sum(figures.positives or 0 for figures in labels.values()) == task.figures.positives


def test_counts_are_counts() -> None:
    one = log(7)
    for at, task in enumerate(judged(one)):
        seen = one.seen(task.name)
        assert task.figures.rows == seen.sum()
        assert task.figures.users == len(np.unique(one.groups[seen]))
        if task.figures.positives is not None:
            assert task.figures.positives == one.events[seen, at].sum()
        assert sum(point.rows for point in task.figures.curve) == task.figures.rows


def test_every_task_has_every_metric_of_its_kind() -> None:
    for task in judged(log(8)):
        names = REGRESSION_METRICS if task.kind == "regression" else METRICS
        assert tuple(task.figures.metrics) == names
        for labels in task.slices.values():
            assert all(set(figures.metrics) == set(names) for figures in labels.values())


def test_the_worst_slice_is_no_better_than_any_other_judged_one() -> None:
    for task in judged(log(9)):
        assert not isinstance(task.worst, Undefined)
        sign = -1 if task.worst.metric == "rmse" else 1
        for labels in task.slices.values():
            for figures in labels.values():
                value = figures.metrics[task.worst.metric]
                if isinstance(value, Interval):
                    assert sign * task.worst.value.value <= sign * value.value


def test_saved_calibrators_judge_the_same_to_the_last_bit() -> None:
    one = log(10, 5000)
    calibrators = fit_calibrators(one)
    again = {name: from_json(json.loads(json.dumps(to_json(each)))) for name, each in calibrators.items()}
    first, second = (calibrate_all(SCHEMA, one.logits, some_of_them) for some_of_them in (calibrators, again))
    assert (first == second).all()
    by = resample(one.groups, resamples=12)
    assert evaluate(one, first, by=by) == evaluate(one, second, by=by)


def test_values_lie_between_their_bounds() -> None:
    for name, figures in every(judged(log(11), 100)).items():
        for metric, value in figures.metrics.items():
            if isinstance(value, Interval) and value.low is not None and value.high is not None:
                assert value.low - 0.02 <= value.value <= value.high + 0.02, (name, metric)
                assert value.low <= value.high


def test_marginals_are_never_more_likely_than_what_they_are_given() -> None:
    one = log(12)
    chance = calibrate_all(SCHEMA, one.logits, fit_calibrators(one))
    assert (marginals(SCHEMA, chance, "buy") <= marginals(SCHEMA, chance, "click")).all()


def test_cross_calibrated_predictions_come_in_the_tables_order() -> None:
    one = log(13)
    order = np.random.default_rng(0).permutation(900)
    assert cross_calibrated(some(one, order)) == pytest.approx(cross_calibrated(one)[order], abs=1e-9)


def test_inputs_are_left_alone() -> None:
    one = log(14)
    before = one.logits.copy(), one.events.copy(), one.observed.copy(), one.groups.copy()
    for column in (one.logits, one.events, one.observed, one.groups):
        column.setflags(write=False)
    judged(one)
    cross_calibrated(one)
    after = one.logits, one.events, one.observed, one.groups
    assert all((x == y).all() for x, y in zip(before, after, strict=True))


def test_fewer_resamples_are_the_first_of_more() -> None:
    groups = log(15).groups
    few, many = resample(groups, resamples=10, seed=1), resample(groups, resamples=30, seed=1)
    assert (few.count == many.count[:10]).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 40), st.integers(1, 6))
def test_any_small_log_is_judged_without_a_fault(seed: int, count: int, users: int) -> None:
    draw = np.random.default_rng(seed)
    logits: Float[np.ndarray, "rows outputs"] = np.round(draw.normal(size=(count, 4)), 1)
    events = draw.integers(0, 2, (count, 4)).astype(np.float64)
    one = Predictions(SCHEMA, logits, events, draw.random((count, 4)) < 0.5, draw.integers(0, users, count))
    for figures in every(judged(one, 3)).values():
        for value in figures.metrics.values():
            assert isinstance(value, Undefined) or np.isfinite(value.value)
    assert np.isfinite(cross_calibrated(one)).all()
    score = mean_score(SCHEMA, events, one.observed, logits=logits)
    assert isinstance(score, Undefined) or np.isfinite(score)
