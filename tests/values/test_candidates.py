"""Who is like whom on paper: rare attributes, items in common, exact profiles, pools that are too small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from tests import rated

from umbel.coldstart.attributes import Attributes
from umbel.coldstart.pool import Described, Pool, described
from umbel.data.episodes import Episodes, episodes
from umbel.data.table import Table

PROFILES = np.array([[1, 1], [1, 2], [1, 1], [2, 2], [0, 0]])  # the last says nothing of itself
ITEMS = np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 1, 1, 0], [0, 1, 1, 1]])


def people(profiles: np.ndarray = PROFILES, items: np.ndarray = ITEMS) -> Described:
    return Described(np.arange(10, 10 + len(profiles)), profiles, csr_matrix(items.astype(float)))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


def test_equal_attributes_count_by_how_rare_they_are_and_items_by_jaccard() -> None:
    """Of user 0: log(5/3) + log(5/2) for user 2, log(5/3) + 1/2 for user 1, 1 for user 3 (the same items), 2/3 for user 4."""
    near = Pool(people(), size=4).near(people())
    by_hand = {2: np.log(5 / 3) + np.log(5 / 2), 1: np.log(5 / 3) + 1 / 2, 3: 1.0, 4: 2 / 3}
    assert near[0].tolist() == sorted(by_hand, key=lambda one: -by_hand[one])


def test_nobody_is_a_candidate_of_their_own_nor_twice() -> None:
    near = Pool(people(), size=0).near(people())
    for user, row in enumerate(near):
        known = row[row >= 0]
        assert user not in known
        assert sorted(known) == [other for other in range(5) if other != user]
    assert (near[:, -1] == -1).all(), "everybody but oneself"


def test_a_user_who_asks_again_under_another_place_is_known_by_the_raw_id() -> None:
    asking = Described(np.array([12]), PROFILES[[0]], csr_matrix(ITEMS[[0]].astype(float)))
    assert 2 not in Pool(people(), size=5).near(asking)[0]


def test_values_nobody_knows_are_equal_to_nothing() -> None:
    strangers = np.zeros((3, 2), int)
    nothing = np.zeros((3, 4), int)
    score, _ = Pool(people(strangers, nothing), size=2)._scores(people(strangers, nothing))
    assert (score < 1e-8).all()


def test_exact_profiles_only() -> None:
    near = Pool(people(), size=4, exact=True).near(people())
    assert near[0].tolist() == [2, -1, -1, -1]
    assert near[4].tolist() == [-1, -1, -1, -1], "who says nothing is equal to nobody"


def test_a_new_value_beyond_training_is_no_error() -> None:
    asking = Described(np.array([99]), np.array([[7, 7]]), csr_matrix(ITEMS[[0]].astype(float)))
    near = Pool(people(), size=3).near(asking)
    assert set(near[0, :2]) == {0, 3}, "only the items are left"


def test_equals_are_drawn_by_the_seed_and_the_same_again() -> None:
    alike = people(np.ones((40, 1), int), np.zeros((40, 2), int))
    one, again, other = (Pool(alike, size=5, seed=seed).near(alike) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_more_users_than_are_scored_at_a_time() -> None:
    draw = np.random.default_rng(0)
    many = people(draw.integers(1, 4, (300, 2)), draw.integers(0, 2, (300, 6)))
    pool = Pool(many, size=3)
    assert np.array_equal(pool.near(many)[250:260], pool.near(Described(many.user[250:260], many.profile[250:260], many.items[250:260])))


def test_attributes_are_what_never_changes(table: Table) -> None:
    assert Attributes.of(table) == Attributes(users=("age",), items=("genres",))


def test_users_are_described_by_their_rows_without_labels(table: Table) -> None:
    own = episodes(table, "train", rated.SHORT)
    whole, support = (described(table, own, ("age",), query=query) for query in (True, False))
    item = table.column("item", "train")
    start = table.parts["train"].start
    for user in range(len(own)):
        rows = own.support[user][own.support[user] >= 0] - start
        assert set(support.items[user].indices) == set(item[rows]) - {0}
        assert set(support.items[user].indices) < set(whole.items[user].indices)
        assert whole.profile[user, 0] == table.column("age", "train")[rows[0]]


def test_users_without_support_are_described_by_their_profile(table: Table) -> None:
    own = episodes(table, "train", rated.SHORT)
    without = Episodes(own.user, own.support[:, :0], own.query)
    found = described(table, without, ("age",), query=False)
    assert found.items.nnz == 0
    assert np.array_equal(found.profile, described(table, own, ("age",), query=False).profile)


def test_items_met_twice_are_met_once(tmp_path: Path) -> None:
    frame = rated.log()
    made = rated.table(tmp_path / "twice", frame.with_columns(item=frame["item"].replace("i1", "i2")))
    own = episodes(made, "train", rated.SHORT)
    assert described(made, own, (), query=True).items.max() == 1.0
