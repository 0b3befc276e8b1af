"""The figures of orders against plain loops and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score
from tests.fusing import COLUMNS, loose

from umbel.fuse.ranked import METRICS, Ranked, Rows
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import Linear

CASES = settings(max_examples=30, deadline=None)
POLICY = Fusion((Term("click", Linear(1.0)), Term("hate", Linear(0.7), -1)))


def rows(seed: int) -> Rows:
    predictions, labels, group, user = loose(10, seed)
    predictions = predictions + np.random.default_rng(seed).random(predictions.shape) * 1e-3
    return Rows.of(COLUMNS, predictions, labels, group=group, user=user)


def groups(given: Rows) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores and labels of each group."""
    scores = given.predictions[:, 0] - 0.7 * given.predictions[:, 2]
    return [(scores[own], given.labels[own]) for one in np.unique(given.group) for own in [given.group == one]]


@CASES
@given(st.integers(0, 2**31), st.integers(1, 6))
def test_top(seed: int, count: int) -> None:
    given = rows(seed)
    total, seen = [0.0, 0.0], [0, 0]
    for scores, labels in groups(given):
        if len(scores) <= count:
            continue
        for row in sorted(range(len(scores)), key=lambda row: -scores[row])[:count]:
            for task in range(2):
                if not math.isnan(labels[row, task]):
                    total[task] += labels[row, task]
                    seen[task] += 1
    found = Ranked.of(given, METRICS["top"](count), where="")(POLICY).values
    assert found is not None
    assert found.tolist() == pytest.approx([a / b for a, b in zip(total, seen, strict=True)])


@CASES
@given(st.integers(0, 2**31))
def test_ndcg(seed: int) -> None:
    given = rows(seed)
    found = Ranked.of(given, METRICS["ndcg"](0), where="")(POLICY).values
    assert found is not None
    for task in range(2):
        each = []
        for scores, labels in groups(given):
            gains = np.nan_to_num(labels[:, task])
            if len(scores) > 1 and gains.max() > 0:
                each.append(ndcg_score(gains[None], scores[None]))
        assert found[task] == pytest.approx(float(np.mean(each)))


@CASES
@given(st.integers(0, 2**31))
def test_auc(seed: int) -> None:
    given = rows(seed)
    found = Ranked.of(given, METRICS["auc"](0), where="")(POLICY).values
    assert found is not None
    for task in range(2):
        each, weight = [], []
        for scores, labels in groups(given):
            seen = ~np.isnan(labels[:, task])
            positive = labels[seen, task] > 0
            if len(scores) > 1 and 0 < positive.sum() < len(positive):
                each.append(roc_auc_score(positive, scores[seen]))
                weight.append(len(positive))
        assert found[task] == pytest.approx(float(np.average(each, weights=weight)))


def test_ties_have_nothing_to_do_with_the_order_of_the_log() -> None:
    """Where all scores are one, what stands on top is a fair share of the labels, though they come first in the log."""
    group = np.repeat(np.arange(400), 10)
    labels = np.tile(np.array([1.0, 1.0, 0, 0, 0, 0, 0, 0, 0, 0]), 400)[:, None].repeat(2, axis=1)
    tied = Rows.of(COLUMNS, np.zeros((4000, 3)), labels, group=group, user=group)
    found = Ranked.of(tied, METRICS["top"](2), where="")(POLICY).values
    assert found is not None
    assert found[0] == pytest.approx(0.2, abs=0.05)
