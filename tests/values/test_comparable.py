"""Users by which task they answer more: by hand, and by what grouping must never do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import logs

from umbel.errors import UserError
from umbel.run.sharing import TransferSection
from umbel.study.transfer.comparable import COMPARABLE, NEITHER, Answers, Lean, lean, leaning, leans, members


def answers(name: str, positives: object, seen: object = None) -> Answers:
    own = np.asarray(positives, float)
    return Answers(name, own, np.ones(len(own), bool) if seen is None else np.asarray(seen, bool))


def of(clicks: list[float], likes: list[float], users: list[int]) -> dict[int, str]:
    found = lean(answers("click", clicks), answers("like", likes), np.array(users))
    return dict(zip(found.members.tolist(), found.labels(found.members).tolist(), strict=True))


def test_the_ratio_by_hand() -> None:
    # Clicks 4, 0, 2 (mean 2), likes 0, 2, 1 (mean 1) of users 1, 2, 3.
    clicks = [1, 1, 1, 1, 0, 0, 1, 1]
    likes = [0, 0, 0, 0, 1, 1, 1, 0]
    found = lean(answers("click", clicks), answers("like", likes), np.array([1, 1, 1, 1, 2, 2, 3, 3]))
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
    found = lean(answers("click", [1.0, 0.0]), answers("like", [1.0, 0.0]), np.array([4, 6]))
    assert found.labels(np.array([3, 4, 5, 6, 7])).tolist() == [NEITHER, COMPARABLE, NEITHER, NEITHER, NEITHER]


@pytest.mark.parametrize(("lead", "expected"), [(1.1, ["mostly click", "mostly like"]), (150.0, [COMPARABLE, COMPARABLE])])
def test_a_larger_lead_makes_more_comparable(lead: float, expected: list[str]) -> None:
    how = TransferSection(lead=lead)
    found = lean(answers("click", [3, 1]), answers("like", [1, 3]), np.array([1, 2]), how=how)
    assert found.labels(np.array([1, 2])).tolist() == expected


def test_the_edges_are_comparable() -> None:
    """Exactly twice as active is no lead yet."""
    found = Lean("click", "like", np.arange(4), np.log([2.0, 2.0001, 0.5, 0.4999]), lead=2.0)
    assert found.labels(np.arange(4)).tolist() == [COMPARABLE, "mostly click", COMPARABLE, "mostly like"]


def test_without_a_centre_the_frequent_event_leads() -> None:
    """Ten clicks a like for everybody: (10 + .5 * 5.5) / (1 + .5 * 5.5) is 3.4."""
    users = np.repeat(np.arange(5), 11)
    clicks, likes = answers("click", ([1] * 10 + [0]) * 5), answers("like", ([0] * 10 + [1]) * 5)
    found = lean(clicks, likes, users, how=TransferSection(center="none"))
    assert found.ratio.tolist() == pytest.approx([np.log(12.75 / 3.75)] * 5)
    assert set(found.labels(users)) == {"mostly click"}
    assert set(lean(clicks, likes, users).labels(users)) == {COMPARABLE}


def test_a_rate_counts_where_a_label_was_seen() -> None:
    """User 1 liked 2 of 2 seen, 2 liked 2 of 4: by count alike, by rate not."""
    users = np.array([1, 1, 1, 1, 2, 2, 2, 2])
    likes = answers("like", [1, 1, 0, 0, 1, 1, 0, 0], [1, 1, 0, 0, 1, 1, 1, 1])
    clicks = answers("click", [1, 0, 0, 0, 1, 0, 0, 0])
    by_count = lean(clicks, likes, users)
    assert by_count.ratio.tolist() == pytest.approx([0.0, 0.0])
    by_rate = lean(clicks, likes, users, how=TransferSection(by="rate"))
    assert by_rate.ratio.tolist() == pytest.approx([np.log(1.5 / (1 / 0.75 + 0.5)), np.log(1.5 / (0.5 / 0.75 + 0.5))])


def test_a_user_whose_label_was_never_seen_has_no_rate() -> None:
    found = lean(answers("click", [0.0]), answers("like", [0.0], [0]), np.array([3]), how=TransferSection(by="rate"))
    assert found.labels(np.array([3])).tolist() == [NEITHER]


def test_an_event_that_never_happened_leads_nowhere() -> None:
    assert set(of([1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1, 2, 3]).values()) == {NEITHER, "mostly click"}


def test_no_row_at_all() -> None:
    found = lean(answers("click", []), answers("like", []), np.zeros(0, np.int64))
    assert found.labels(np.array([1, 2])).tolist() == [NEITHER, NEITHER]


ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 5)), min_size=1, max_size=40)


@given(rows=ROWS)
@settings(max_examples=80, deadline=None)
def test_changing_the_two_tasks_round_changes_the_sign(rows: list[tuple[int, int, int]]) -> None:
    clicks, likes, users = (np.array(column) for column in zip(*rows, strict=True))
    one = lean(answers("click", clicks), answers("like", likes), users)
    other = lean(answers("like", likes), answers("click", clicks), users)
    np.testing.assert_allclose(one.ratio, -other.ratio, atol=1e-12)
    assert (one.labels(users) == other.labels(users)).all()


@given(rows=ROWS, seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_does_not_matter(rows: list[tuple[int, int, int]], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    clicks, likes, users = (np.array(column) for column in zip(*rows, strict=True))
    one = lean(answers("click", clicks), answers("like", likes), users)
    other = lean(answers("click", clicks[order]), answers("like", likes[order]), users[order])
    np.testing.assert_array_equal(one.ratio, other.ratio)


def test_a_table_counts_training_rows_alone(tmp_path: Path) -> None:
    table = logs.table(tmp_path)
    (name, found), *others = leans(table).items()
    assert (name, others) == ("click against buy", [])  # the regression is no event
    # Training rows 0 to 5: user 1 clicks once and buys once, 2 clicks once, 3 clicks once; users 8 and 9 come later.
    assert found.members.tolist() == [1, 2, 3]
    assert found.ratio.tolist() == pytest.approx([np.log(1.5 / 3.5), np.log(1.5 / 0.5), np.log(1.5 / 0.5)])
    assert found.labels(table.groups("test")).tolist() == ["mostly click", NEITHER]


def test_items_may_lean_too(tmp_path: Path) -> None:
    table = logs.table(tmp_path)
    how = TransferSection(of="item")
    (found,) = leans(table, how=how).values()
    assert found.members.tolist() == sorted(set(table.column("item", "train").tolist()))
    assert leaning(table, how=how)["click against buy"].tolist() == found.labels(table.column("item", "test")).tolist()
    assert members(table, "test", of="item").tolist() == table.column("item", "test").tolist()


def test_without_a_field_of_items_none_can_lean(tmp_path: Path) -> None:
    table = logs.table(tmp_path)
    table.source = replace(table.source, item=None)
    with pytest.raises(UserError, match=r"transfer\.of = 'item': no field holds the items"):
        leans(table, how=TransferSection(of="item"))
