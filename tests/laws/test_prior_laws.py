"""Priors of items for any log: plain loops over other folds' users, shrinkage between its ends, offsets in the unit of outputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.coldstart.prior import FOLDS, ItemMeans, fold
from umbel.kinds import Poisson, Quantile
from umbel.schema import REGRESSION, Task

EXAMPLES = settings(max_examples=40, deadline=None)

Rows = list[tuple[int, int, float]]  # fold, item, label
ROWS = st.lists(st.tuples(st.integers(0, FOLDS - 1), st.integers(0, 4), st.integers(0, 1).map(float)), min_size=1, max_size=60)


def means(rows: Rows, task: Task = Task("rating", REGRESSION), *, shrink: float = 10.0) -> ItemMeans:  # noqa: B008
    """From folds, items and labels."""
    sums, counts = np.zeros((FOLDS, 5, 1)), np.zeros((FOLDS, 5, 1))
    for number, item, label in rows:
        sums[number, item, 0] += label
        counts[number, item, 0] += 1
    return ItemMeans((task,), sums, counts, shrink)


def plain(rows: Rows, item: int, own: int | None, *, shrink: float) -> float:
    """The shrunk mean of an item, in a loop, without what one fold said; of the unknown item (0) the mean of all."""
    overall = sum(label for _, _, label in rows) / len(rows)
    told = [label for number, one, label in rows if one == item and number != own] if item else []
    return (sum(told) + shrink * overall) / (len(told) + shrink)


@EXAMPLES
@given(ROWS, st.sampled_from([0.5, 10.0, 100.0]))
def test_any_other_row_is_told_by_all_training_users(rows: Rows, shrink: float) -> None:
    found = means(rows, shrink=shrink)(np.arange(5))
    assert found[:, 0].tolist() == pytest.approx([plain(rows, item, None, shrink=shrink) for item in range(5)])


@EXAMPLES
@given(ROWS)
def test_a_training_row_is_told_by_other_folds_alone(rows: Rows) -> None:
    items, folds = np.array([item for _, item, _ in rows]), np.array([number for number, _, _ in rows])
    found = means(rows)(items, folds=folds)
    expected = [plain(rows, item, number, shrink=10.0) for number, item, _ in rows]
    assert found[:, 0].tolist() == pytest.approx(expected)


@EXAMPLES
@given(ROWS, st.data())
def test_a_rows_own_label_reaches_its_prior_by_the_mean_of_all_at_most(rows: Rows, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(rows) - 1))
    number, item, label = rows[place]
    other = [*rows[:place], (number, item, 1 - label), *rows[place + 1 :]]
    asked = np.array([item]), np.array([number])
    first, second = (means(some)(asked[0], folds=asked[1])[0, 0] for some in (rows, other))
    assert abs(first - second) <= 1 / len(rows) + 1e-12


@EXAMPLES
@given(ROWS)
def test_more_shrinkage_is_nearer_to_the_mean_of_all(rows: Rows) -> None:
    overall = float(means(rows).overall[0])
    gaps = [np.abs(means(rows, shrink=shrink)(np.arange(5))[:, 0] - overall) for shrink in (0.1, 1.0, 10.0, 1e9)]
    for near, far in zip(gaps[1:], gaps, strict=False):
        assert (near <= far + 1e-12).all()
    assert gaps[-1].max() < 1e-6


@EXAMPLES
@given(ROWS)
def test_the_offset_of_an_event_is_the_logit_of_its_mean(rows: Rows) -> None:
    share = means(rows)(np.arange(5))[:, 0]
    logits = means(rows, Task("click"))(np.arange(5))[:, 0]
    held = np.clip(share, 1e-6, 1 - 1e-6)
    np.testing.assert_allclose(logits, np.log(held / (1 - held)), rtol=1e-9, atol=1e-9)
    assert np.isfinite(logits).all(), "where all or none clicked, too"


@pytest.mark.parametrize("task", [Task("n", Poisson()), Task("q", Quantile((0.1, 0.9)))])
def test_tasks_of_other_kinds_have_no_prior(task: Task) -> None:
    found = means([(0, 1, 1.0), (1, 2, 0.0)], task)(np.arange(3))
    assert found.shape == (3, task.kind.outputs)
    assert not found.any()


@EXAMPLES
@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=200, unique=True))
def test_a_users_fold_is_its_own_wherever_it_stands(users: list[int]) -> None:
    raw = np.array(users, np.int64)
    found = fold(raw)
    assert ((found >= 0) & (found < FOLDS)).all()
    assert np.array_equal(fold(raw[::-1])[::-1], found)
    assert [int(fold(raw[at : at + 1])[0]) for at in range(len(raw))] == found.tolist()


def test_folds_are_about_equal() -> None:
    counts = np.bincount(fold(np.arange(50_000)), minlength=FOLDS)
    assert counts.min() > 50_000 / FOLDS * 0.97
    assert counts.max() < 50_000 / FOLDS * 1.03


def test_a_log_without_a_label_has_priors_of_nothing() -> None:
    empty = ItemMeans((Task("rating", REGRESSION),), np.zeros((FOLDS, 3, 1)), np.zeros((FOLDS, 3, 1)))
    assert empty(np.arange(3)).tolist() == [[0.0]] * 3
    assert not math.isnan(float(empty.overall[0]))
