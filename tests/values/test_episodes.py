"""Which rows of a user are support and which query: sizes, nesting, scenarios, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests import rated

from umbel.data.episodes import FIRST_TEN, LAST_TEN, PADDING, Drawer, Protocol, Scenario, afresh, episodes, scenarios
from umbel.data.groups import nobody
from umbel.data.shots import even, gather
from umbel.data.table import Table
from umbel.errors import UserError


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


@pytest.mark.parametrize(
    ("protocol", "rows", "cut"),
    [
        (LAST_TEN, 13, (3, 3)),
        (LAST_TEN, 100, (90, 90)),
        (FIRST_TEN, 13, (10, 10)),
        (FIRST_TEN, 100, (10, 10)),
        (Protocol(support=5, query=10), 40, (5, 30)),
        (Protocol(support=20, query=10), 25, (15, 15)),
        (Protocol(support=0, query=None, skip=20, history=(30, 100)), 30, (0, 20)),
    ],
)
def test_where_a_user_is_cut(protocol: Protocol, rows: int, cut: tuple[int, int]) -> None:
    assert protocol.cut(rows) == cut


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_support_and_query_are_a_users_own_rows_each_once(table: Table, part: str) -> None:
    own = episodes(table, part, rated.SHORT)
    groups = table.groups(part)
    for place, user in enumerate(own.user):
        support, query = ([row for row in rows[place].tolist() if row != PADDING] for rows in (own.support, own.query))
        rows = (np.flatnonzero(groups == user) + table.parts[part].start).tolist()
        assert sorted(support + query) == rows
        assert len(support) == 4


def test_supports_of_all_sizes_are_nested_before_one_query(table: Table) -> None:
    curve = [episodes(table, "train", Protocol(support=k, query=None, skip=5, history=(7, 100))) for k in (0, 1, 3, 5)]
    assert all(np.array_equal(one.query, curve[0].query) for one in curve)
    assert [one.support.shape[1] for one in curve] == [0, 1, 3, 5]
    assert all(np.array_equal(one.support, curve[3].support[:, : one.support.shape[1]]) for one in curve)


def test_another_seed_draws_another_order_of_the_same_rows(table: Table) -> None:
    first, other = (episodes(table, "train", protocol) for protocol in (rated.SHORT, afresh(rated.SHORT, 0)))
    assert np.array_equal(first.user, other.user)
    assert not np.array_equal(first.support, other.support)
    assert first.support.tolist() == episodes(table, "train", rated.SHORT).support.tolist()


def test_a_users_order_knows_nothing_of_other_users(tmp_path: Path) -> None:
    """The same user's support is the same rows, whoever else is in the log."""
    frame = rated.log()
    few = rated.table(tmp_path / "few", frame.filter(pl.col("user").is_in([0, 1, 2, 3, 4])))
    many = rated.table(tmp_path / "many", frame)
    items = []
    for table in (few, many):
        own = episodes(table, "train", rated.SHORT)
        rows = own.support[np.flatnonzero(own.user == 0)[0]] - table.parts["train"].start
        items.append(table.encoder.decode("item", table.column("item", "train")[rows]))
    assert list(items[0]) == list(items[1])


def test_by_time_the_support_comes_first(table: Table) -> None:
    own = episodes(table, "train", Protocol(support=4, query=None, history=(7, 100), by_time=True))
    times = np.concatenate([table.times("train"), [np.iinfo(np.int64).max]])
    start = table.parts["train"].start
    for support, query in zip(own.support, own.query, strict=True):
        assert times[support - start].max() < times[np.where(query == PADDING, len(times) - 1, query - start)].min()


def test_users_outside_the_history_are_left_out(table: Table) -> None:
    counts = dict(zip(*np.unique(table.groups("train"), return_counts=True), strict=True))
    own = episodes(table, "train", Protocol(support=4, query=None, history=(9, 9)))
    assert set(own.user) == {user for user, count in counts.items() if count == 9}


def test_longer_users_stand_by_as_many_rows_as_are_not_too_many(table: Table) -> None:
    plain = Protocol(support=3, query=None, history=(7, 8))
    own, more = episodes(table, "train", plain), episodes(table, "train", replace(plain, longer=True))
    counts = dict(zip(*np.unique(table.groups("train"), return_counts=True), strict=True))
    assert set(own.user) == {user for user, count in counts.items() if count == 8} < set(more.user) == set(counts)
    assert set(more.sizes.tolist()) == {8}
    assert np.array_equal(more.support[np.isin(more.user, own.user)], own.support)
    rows = np.concatenate([more.support, more.query], axis=1)
    assert all(len(set(line)) == 8 for line in rows.tolist())
    assert np.array_equal(table.users(rows.ravel()).reshape(rows.shape), np.repeat(more.user[:, None], 8, 1))
    other = episodes(table, "train", replace(afresh(plain, 1), longer=True))
    drawn = np.concatenate([other.support, other.query], axis=1)
    assert any(set(one) != set(two) for one, two in zip(rows.tolist(), drawn.tolist(), strict=True)), "other rows another time"


def test_some_episodes_without_padding_they_do_not_need(table: Table) -> None:
    own = episodes(table, "train", rated.SHORT)
    shortest = np.flatnonzero((own.query != PADDING).sum(1) == (own.query != PADDING).sum(1).min())
    assert own.of(shortest).query.min() != PADDING
    assert own.of(np.array([], np.int64)).query.shape == (0, 0)


def test_scenarios_are_what_training_knew(table: Table) -> None:
    found = scenarios(table, "test")
    assert np.stack(list(found.values())).sum(0).tolist() == [1] * len(table.parts["test"])
    items = np.array(table.encoder.decode("item", table.column("item", "test")))
    assert found[Scenario.USER_COLD].any()
    assert set(items[found[Scenario.BOTH_COLD]]) <= {None, "i12", "i13", "i14"}
    assert not found[Scenario.WARM].any(), "every test user of this log is new"


def test_users_who_validate_are_in_no_scenario_of_the_test_part(tmp_path: Path) -> None:
    """The model was chosen by them: they are neither known to it nor new."""
    frame = rated.log()
    some = (pl.col("user") == 2) & (pl.int_range(pl.len()).over("user") < 3)
    moved = frame.with_columns(part=pl.when(some).then(pl.lit("test")).otherwise("part"))
    table = rated.table(tmp_path, moved)
    rows = table.groups("test") == 2
    assert rows.any()
    assert not np.stack([one[rows] for one in scenarios(table, "test").values()]).any()
    assert scenarios(table, "valid")[Scenario.USER_COLD].all()


def test_rows_without_a_user_are_nobodys_episode_and_in_no_scenario(tmp_path: Path) -> None:
    """In every part, so that a user of all of them would be a known one, or the one of the longest history."""
    gone = pl.int_range(pl.len()) % 5 == 0
    table = rated.table(tmp_path, rated.log().with_columns(user=pl.when(gone).then(None).otherwise("user")))
    assert table.aside.without_user > 20
    for part in ("train", "valid", "test"):
        lost = nobody(table.groups(part))
        assert lost.any()
        found = np.stack(list(scenarios(table, part).values()))
        assert not found[:, lost].any()
        wide = Protocol(support=0, query=None, history=(1, 1000))
        for among in (None, np.ones(len(lost), bool)):
            assert not nobody(episodes(table, part, wide, among=among).user).any()


def test_padding_repeats_the_users_first_row_unseen(table: Table) -> None:
    own = episodes(table, "train", rated.SHORT)
    fields, labels, seen = gather(table, own.query)
    padded = own.query == PADDING
    assert padded.any()
    assert not seen[padded].any()
    assert seen[~padded].all()
    first = fields["item"][:, :1].expand_as(fields["item"])
    assert fields["item"][padded].tolist() == first[padded].tolist()
    assert labels.shape == (*own.query.shape, 2)
    assert even(seen).sum(1).tolist() == pytest.approx([1.0] * len(own))


def test_a_drawer_gives_every_user_once_and_resumes() -> None:
    lengths = np.array([3, 9, 1, 7, 7, 2, 8])
    whole = [places.tolist() for places in Drawer(lengths, 2, seed=4)(5)]
    assert sorted(place for places in whole for place in places) == list(range(7))
    assert [places.tolist() for places in Drawer(lengths, 2, seed=4)(5, 2)] == whole[2:]
    assert [places.tolist() for places in Drawer(lengths, 2, seed=4)(6)] != whole


def test_a_drawer_puts_like_lengths_together() -> None:
    lengths = np.repeat([1, 50], 8)
    assert all(len(set(lengths[places])) == 1 for places in Drawer(lengths, 4)(0))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"support": None, "query": None}, "neither support nor query"),
        ({"support": -1}, "at least 0"),
        ({"query": 0}, "at least 1"),
        ({"support": 13, "query": None}, "do not go together"),
        ({"history": (50, 40)}, "do not go together"),
    ],
)
def test_what_no_protocol_can_be(given: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Protocol(**given)  # type: ignore[arg-type]


def test_a_log_without_such_users_is_told(table: Table) -> None:
    with pytest.raises(UserError, match=r"of \d+ users in the valid part none has 90 to 100 rows"):
        episodes(table, "valid", Protocol(history=(90, 100)))
