"""Item to item by hand: who liked both, shrunk; and what a user's latest items bring."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from umbel.retrieve import neighbours as module
from umbel.retrieve.neighbours import neighbours

# Users 1 to 4: item 0 was liked by 1, 2, 3; item 1 by 1, 2; item 2 by 3; item 3 by 4 (twice); item 4 by nobody.
USER = np.array([1, 1, 2, 2, 3, 3, 4, 4])
ITEM = np.array([0, 1, 1, 0, 2, 0, 3, 3])


@pytest.mark.parametrize("shrink", [0.0, 10.0])
def test_likeness_is_a_shrunk_cosine(shrink: float) -> None:
    found = neighbours(USER, ITEM, 5, most=3, shrink=shrink)
    one, two = 2 / (sqrt(3 * 2) + shrink), 1 / (sqrt(3 * 1) + shrink)
    assert found.places.tolist() == [[1, 2, -1], [0, -1, -1], [0, -1, -1], [-1] * 3, [-1] * 3]
    assert_allclose(found.likeness, np.array([[one, two, 0], [one, 0, 0], [two, 0, 0], [0.0] * 3, [0.0] * 3]), rtol=1e-6)


def test_only_so_many_are_kept_the_likest() -> None:
    assert neighbours(USER, ITEM, 5, most=1).places[:, 0].tolist() == [1, 0, 0, -1, -1]


def test_scores_add_up_over_what_a_user_liked() -> None:
    found = neighbours(USER, ITEM, 5, most=3, shrink=0.0)
    assert_allclose(found.scores(np.array([1, 2])), [2 / sqrt(6) + 1 / sqrt(3), 0, 0, 0, 0], rtol=1e-6)
    assert_allclose(found.scores(np.array([0])), [0, 2 / sqrt(6), 1 / sqrt(3), 0, 0], rtol=1e-6)
    assert not found.scores(np.array([], np.int64)).any()
    assert not found.scores(np.array([3, 4])).any()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    user, item = draw.integers(0, 30, 400), draw.integers(0, 25, 400)
    whole = neighbours(user, item, 25, most=6)
    monkeypatch.setattr(module, "BLOCK", 4)
    parts = neighbours(user, item, 25, most=6)
    assert parts.places.tolist() == whole.places.tolist()
    assert_allclose(parts.likeness, whole.likeness)


def test_of_a_long_history_the_latest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 2)
    found = neighbours(np.array([1, 2, 1, 1]), np.array([0, 0, 1, 2]), 3, most=2, shrink=0.0)
    assert found.places.tolist() == [[-1, -1], [2, -1], [1, -1]]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), min_size=1, max_size=40), st.sampled_from([0.0, 2.5, 10.0]))
def test_likeness_is_that_of_a_loop(pairs: list[tuple[int, int]], shrink: float) -> None:
    user, item = (np.array(column) for column in zip(*pairs, strict=True))
    found = neighbours(user, item, 6, most=6, shrink=shrink)
    liked = [{one for one, other in pairs if other == place} for place in range(6)]
    for place in range(6):
        expected = {
            other: len(liked[place] & liked[other]) / (sqrt(len(liked[place]) * len(liked[other])) + shrink)
            for other in range(6) if other != place and liked[place] & liked[other]
        }  # fmt: skip
        mine = {int(other): float(alike) for other, alike in zip(found.places[place], found.likeness[place], strict=True) if other >= 0}
        assert mine == pytest.approx(expected, rel=1e-5)
        assert list(mine.values()) == sorted(mine.values(), reverse=True)
