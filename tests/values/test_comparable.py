"""Users by which task they answer more: by hand, and by what grouping must never do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import logs

from umbel.study.transfer.comparable import COMPARABLE, NEITHER, lean, leans


def of(clicks: list[float], likes: list[float], users: list[int]) -> dict[int, str]:
    found = lean(("click", np.array(clicks)), ("like", np.array(likes)), np.array(users))
    return dict(zip(found.users.tolist(), found.labels(found.users).tolist(), strict=True))


def test_the_ratio_by_hand() -> None:
    # Clicks 4, 0, 2 (mean 2), likes 0, 2, 1 (mean 1) of users 1, 2, 3.
    clicks = [1, 1, 1, 1, 0, 0, 1, 1]
    likes = [0, 0, 0, 0, 1, 1, 1, 0]
    found = lean(("click", np.array(clicks, float)), ("like", np.array(likes, float)), np.array([1, 1, 1, 1, 2, 2, 3, 3]))
    expected = [np.log(2.5 / 0.5), np.log(0.5 / 2.5), np.log(1.5 / 1.5)]
    assert found.ratio.tolist() == pytest.approx(expected)
    assert found.labels(np.array([3, 2, 1])).tolist() == [COMPARABLE, "mostly like", "mostly click"]


def test_a_frequent_event_does_not_lead_by_being_frequent() -> None:
    """Ten clicks a like for everybody: nobody leans."""
    users = [user for user in range(5) for _ in range(11)]
    clicks = [1.0] * 10 + [0.0]
    likes = [0.0] * 10 + [1.0]
    assert set(of(clicks * 5, likes * 5, users).values()) == {COMPARABLE}


def test_users_without_either_event_and_unknown_users_are_neither() -> None:
    found = lean(("click", np.array([1.0, 0.0])), ("like", np.array([1.0, 0.0])), np.array([4, 6]))
    assert found.labels(np.array([3, 4, 5, 6, 7])).tolist() == [NEITHER, COMPARABLE, NEITHER, NEITHER, NEITHER]


def test_a_wider_tolerance_makes_more_comparable() -> None:
    found = lean(("click", np.array([3.0, 1.0])), ("like", np.array([1.0, 3.0])), np.array([1, 2]))
    assert found.labels(np.array([1, 2]), tolerance=0.1).tolist() == ["mostly click", "mostly like"]
    assert found.labels(np.array([1, 2]), tolerance=5.0).tolist() == [COMPARABLE, COMPARABLE]


def test_an_event_that_never_happened_leads_nowhere() -> None:
    assert set(of([1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1, 2, 3]).values()) == {NEITHER, "mostly click"}


def test_no_row_at_all() -> None:
    found = lean(("click", np.zeros(0)), ("like", np.zeros(0)), np.zeros(0, np.int64))
    assert found.labels(np.array([1, 2])).tolist() == [NEITHER, NEITHER]


ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 5)), min_size=1, max_size=40)


@given(rows=ROWS)
@settings(max_examples=80, deadline=None)
def test_changing_the_two_tasks_round_changes_the_sign(rows: list[tuple[int, int, int]]) -> None:
    clicks, likes, users = (np.array(column) for column in zip(*rows, strict=True))
    one = lean(("click", clicks.astype(float)), ("like", likes.astype(float)), users)
    other = lean(("like", likes.astype(float)), ("click", clicks.astype(float)), users)
    np.testing.assert_allclose(one.ratio, -other.ratio, atol=1e-12)
    assert (one.labels(users) == other.labels(users)).all()


@given(rows=ROWS, seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_does_not_matter(rows: list[tuple[int, int, int]], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    clicks, likes, users = (np.array(column) for column in zip(*rows, strict=True))
    one = lean(("click", clicks.astype(float)), ("like", likes.astype(float)), users)
    other = lean(("click", clicks[order].astype(float)), ("like", likes[order].astype(float)), users[order])
    np.testing.assert_array_equal(one.ratio, other.ratio)


def test_a_table_counts_training_rows_alone(tmp_path: Path) -> None:
    table = logs.table(tmp_path)
    (name, found), *others = leans(table).items()
    assert (name, others) == ("click against buy", [])  # the regression is no event
    # Training rows 0 to 5: user 1 clicks once and buys once, 2 clicks once, 3 clicks once; users 8 and 9 come later.
    assert found.users.tolist() == [1, 2, 3]
    assert found.ratio.tolist() == pytest.approx([np.log(1.5 / 3.5), np.log(1.5 / 0.5), np.log(1.5 / 0.5)])
    assert found.labels(table.groups("test")).tolist() == ["mostly click", NEITHER]
