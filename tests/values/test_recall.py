"""Recall by hand: ranks with ties and without what was met, intervals by users, differences draw by draw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.evaluate.intervals import Interval, Sampled, resample
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.recall import NEVER, gained, ranks, recall


def test_a_rank_counts_what_stands_before() -> None:
    scores = np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 1.0], [-np.inf, 5.0, 0.0], [-np.inf, 5.0, 0.0]])
    assert ranks(scores, np.array([2, 1, 0, 2])).tolist() == [1, 1, NEVER, 1]


@given(st.lists(st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0]), min_size=4, max_size=4), min_size=1, max_size=6), st.data())
def test_a_rank_is_a_place_in_a_stable_order(rows: list[list[float]], data: st.DataObject) -> None:
    scores = np.array(rows)
    wanted = np.array([data.draw(st.integers(0, 3)) for _ in rows])
    for row, (place, found) in enumerate(zip(wanted, ranks(scores, wanted), strict=True)):
        order = np.argsort(-scores[row], kind="stable").tolist()
        assert found == (NEVER if np.isneginf(scores[row, place]) else order.index(place))


def of(found: list[int], k: int, user: list[int], resamples: int = 200) -> Sampled:
    drawn = recall(np.array(found), k, resample(np.array(user), resamples=resamples))
    assert isinstance(drawn, Sampled)
    return drawn


def test_recall_is_the_share_of_rows() -> None:
    assert of([0, 5, 19, 20, NEVER], 20, [1, 1, 2, 3, 4]).value == pytest.approx(3 / 5)
    assert of([0, 5, 19, 20, NEVER], 1, [1, 1, 2, 3, 4]).value == pytest.approx(1 / 5)


def test_users_are_drawn_with_all_their_rows() -> None:
    user = np.repeat(np.arange(40), 5)
    alike = of(np.repeat(np.arange(40) % 2 * 100, 5).tolist(), 20, user.tolist()).interval()  # a user's rows are all found, or none
    mixed = of(np.tile(np.arange(5) % 2 * 100, 40).tolist(), 20, user.tolist()).interval()  # of every user three of five
    assert alike.low is not None
    assert alike.high is not None
    assert alike.low < 0.4 < 0.6 < alike.high
    assert mixed.low == pytest.approx(0.6)
    assert mixed.high == pytest.approx(0.6)


def test_nothing_asked_is_no_recall() -> None:
    found = recall(np.array([], np.int64), 20, resample(np.array([], np.int64)))
    assert isinstance(found, Undefined)
    assert "no positive row" in found.reason
    assert gained(found, found) == found


def test_a_gain_is_of_the_same_draws() -> None:
    user = list(range(30))
    one, other = of([0] * 30, 20, user), of([0] * 15 + [99] * 15, 20, user)
    gain = gained(one, other)
    assert isinstance(gain, Interval)
    assert gain.value == pytest.approx(0.5)
    assert gained(one, one) == Interval(0.0, 0.0, 0.0)
    assert isinstance(gained(one, Undefined("why")), Undefined)
