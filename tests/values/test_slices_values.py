"""How slices are cut: frequency bins, columns, what is too small, what is pooled."""

from __future__ import annotations

import numpy as np
import pytest

from umbel.evaluate.slices import FEWEST_OF_A_CLASS, FEWEST_ROWS, MOST_LABELS, cut, frequency_bins, too_small


@pytest.mark.parametrize(
    ("count", "label"),
    [
        (0, "unknown"),
        (1, "1-9"),
        (9, "1-9"),
        (10, "10-99"),
        (99, "10-99"),
        (100, "100-999"),
        (999, "100-999"),
        (1000, "1000-9999"),
        (9999, "1000-9999"),
        (10_000, "10000+"),
        (2**40, "10000+"),
    ],
)
def test_frequency_bins_at_their_edges(count: int, label: str) -> None:
    assert frequency_bins(np.array([count])).tolist() == [label]


def test_frequency_bins_keep_their_own_order() -> None:
    assert list(cut(frequency_bins(np.array([5000, 0, 50, 3, 3, 3, 20_000])))) == ["unknown", "1-9", "10-99", "1000-9999", "10000+"]


def test_other_labels_come_by_falling_count_then_by_name() -> None:
    assert list(cut(np.array(["b", "a", "c", "c", "b", "c", "d"]))) == ["c", "b", "a", "d"]


def test_masks_split_the_rows() -> None:
    labels = np.random.default_rng(0).integers(0, 50, 1000)
    masks = cut(labels)
    assert len(masks) == MOST_LABELS + 1
    assert (np.sum(list(masks.values()), axis=0) == 1).all()
    assert list(masks)[-1] == "others"
    kept = {int(name) for name in masks if name != "others"}
    assert not set(labels[masks["others"]].tolist()) & kept


@pytest.mark.parametrize("labels", [np.array([3, 3, 1]), np.array([3.0, 3.0, 1.0]), np.array([True, True, False])])
def test_labels_of_any_kind_are_named(labels: np.ndarray) -> None:
    masks = cut(labels)
    assert list(masks) == [str(labels[0]), str(labels[2])]
    assert [mask.tolist() for mask in masks.values()] == [[True, True, False], [False, False, True]]


def test_no_rows_have_no_labels() -> None:
    assert cut(np.empty(0, dtype=np.int64)) == {}


def test_too_small_says_which_count() -> None:
    assert too_small(FEWEST_ROWS, FEWEST_OF_A_CLASS) is None
    assert too_small(FEWEST_ROWS, None) is None
    few = too_small(FEWEST_ROWS - 1, 50)
    assert few is not None
    assert few.reason == "99 rows: fewer than 100"
    for positives in (FEWEST_OF_A_CLASS - 1, 1000 - FEWEST_OF_A_CLASS + 1):
        rare = too_small(1000, positives)
        assert rare is not None
        assert rare.reason == "19 rows of the rarer class: fewer than 20"
