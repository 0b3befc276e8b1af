"""The pooled rest of a slice: every row stays in exactly one label, whatever the labels are called."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.evaluate.slices import MOST_LABELS, OTHERS, cut, frequency_bins


def test_a_label_that_is_called_others_joins_them() -> None:
    labels = np.array([OTHERS] * 30 + [f"tag {number:02}" for number in range(25)])
    masks = cut(labels)
    assert list(masks)[-1] == OTHERS
    assert len(masks) == MOST_LABELS
    assert masks[OTHERS][:30].all()
    assert masks[OTHERS].sum() == 30 + 25 - (MOST_LABELS - 1)


def test_few_labels_keep_one_that_is_called_others() -> None:
    masks = cut(np.array([OTHERS, "a", OTHERS]))
    assert list(masks) == [OTHERS, "a"]
    assert masks[OTHERS].tolist() == [True, False, True]


def test_as_many_labels_as_are_kept_leave_no_others() -> None:
    assert OTHERS not in cut(np.arange(MOST_LABELS))
    more = cut(np.arange(MOST_LABELS + 1))  # equally frequent: the last by name, which is "9", is pooled
    assert np.flatnonzero(more[OTHERS]).tolist() == [9]


def test_the_rarest_go_to_the_others_and_ties_by_name() -> None:
    labels = np.repeat([f"{number:02}" for number in range(22)], [3] * 10 + [1] + [3] * 9 + [2, 2])
    masks = cut(labels)
    assert set(labels[masks[OTHERS]].tolist()) == {"10", "21"}


NAMES = st.one_of(st.sampled_from(["others", "unknown", "1-9", "", "é", "漢字", "a b"]), st.integers(0, 60).map(str))


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES, max_size=200))
def test_masks_split_the_rows_whatever_the_labels(labels: list[str]) -> None:
    masks = cut(np.array(labels, dtype=np.str_))
    assert (np.sum([np.zeros(len(labels)), *masks.values()], axis=0) == 1).all()
    assert len(masks) <= MOST_LABELS + 1
    for name, mask in masks.items():
        if name != OTHERS:
            assert {labels[row] for row in np.flatnonzero(mask)} == {name}
    rarest = [mask.sum() for name, mask in masks.items() if name != OTHERS]
    pooled = {label: labels.count(label) for label in {labels[row] for row in np.flatnonzero(masks.get(OTHERS, np.zeros(0)))} - {OTHERS}}
    if pooled and rarest:
        assert max(pooled.values()) <= min(rarest)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=80))
def test_frequency_labels_hold_their_counts(counts: list[int]) -> None:
    found = frequency_bins(np.array(counts))
    for count, label in zip(counts, found.tolist(), strict=True):
        if label == "unknown":
            assert count == 0
        elif label.endswith("+"):
            assert count >= int(label[:-1])
        else:
            low, high = map(int, label.split("-"))
            assert low <= count <= high
    order = [name for name in ("unknown", "1-9", "10-99", "100-999", "1000-9999", "10000+") if name in set(found.tolist())]
    assert list(cut(found)) == order
