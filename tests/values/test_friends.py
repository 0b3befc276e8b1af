"""Who is a friend, counted by hand; gates that are nothing at zero and open by what friends are like."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from tests import rated

from umbel.coldstart.friends import FRIENDS, Friends
from umbel.coldstart.paml import Paml
from umbel.data.episodes import Episodes, Protocol, episodes
from umbel.data.shots import LABELS, SEEN, SUPPORT, WEIGHT
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.learn.episode import Learner, Untouched
from umbel.learn.gated import Gated

RAGGED = Protocol(support=None, query=3, history=(7, 100))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


def by_hand(table: Table, own: Episodes, part: str, place: int) -> dict[int, int]:
    """How many items of one user's support each training user rated alike."""
    support = own.support[place][own.support[place] >= 0] - table.parts[part].start
    times = set(table.times(part)[support].tolist())
    log = rated.log()
    told = {one["item"]: one["rating"] for one in log.iter_rows(named=True) if one["time"] in times}
    places = dict(zip(table.times("train").tolist(), np.unique(table.groups("train"), return_inverse=True)[1].tolist(), strict=True))
    counts: dict[int, int] = {}
    for one in log.filter(pl.col("part") == "train").iter_rows(named=True):
        if told.get(one["item"]) == one["rating"]:
            counts[places[one["time"]]] = counts.get(places[one["time"]], 0) + 1
    return counts


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_friends_are_those_who_rated_most_items_alike(table: Table, part: str) -> None:
    own = episodes(table, part, RAGGED)
    made = Friends.of(table, 3)
    found = made.joined(rated.setup(table).reader.batch(own), own.user).fields[FRIENDS].view(len(own), -1, 3)
    for place in range(len(own)):
        counts = by_hand(table, own, part, place)
        counts.pop(int(np.searchsorted(made.users, own.user[place])) if part == "train" else -1, None)
        wanted = sorted(counts, key=lambda who: (-counts[who], who))[:3]
        for row in found[place]:
            assert row.tolist() == wanted + [-1] * (3 - len(wanted))


def test_what_is_not_seen_or_not_known_makes_no_friend(table: Table) -> None:
    own = episodes(table, "valid", RAGGED)
    made, reader = Friends.of(table, 3), rated.setup(table).reader
    batch = reader.batch(own)
    for name, value in ((SEEN, False), (WEIGHT, 0.0), (f"{SUPPORT}item", 0), (f"{SUPPORT}item", 10_000)):
        fields = {**batch.fields, name: torch.full_like(batch.fields[name], value)}
        changed = type(batch)(fields, batch.labels, batch.seen, batch.index, batch.weight, batch.group)
        assert (made.joined(changed, own.user).fields[FRIENDS] == -1).all()


def test_no_support_is_no_friend(table: Table) -> None:
    own = episodes(table, "valid", Protocol(support=0, query=None, history=(7, 100)))
    found = Friends.of(table, 2).joined(rated.setup(table).reader.batch(own), own.user)
    assert (found.fields[FRIENDS] == -1).all()
    assert found.fields[f"{SUPPORT}{FRIENDS}"].shape == (len(own), 0, 2)


def test_more_friends_than_users_are_nobody(table: Table) -> None:
    own = episodes(table, "valid", RAGGED)
    made = Friends.of(table, 50)
    found = made.joined(rated.setup(table).reader.batch(own), own.user).fields[FRIENDS]
    assert found.shape[1] == 50
    assert (found[:, len(made.users):] == -1).all()


def test_closed_gates_of_zero_are_the_model_and_friends_move_them(table: Table) -> None:
    made = Paml(steps=0).prepare(rated.setup(table))
    own, gated = episodes(table, "test", RAGGED), made.learner.adapter
    assert isinstance(gated, Gated)
    made.learner.eval()
    batch = made.read(own)
    base = Learner(made.learner.model, Untouched(), user="user").eval()(batch.fields)
    with torch.no_grad():
        gated.gate.weight.zero_()
    torch.testing.assert_close(made.learner(batch.fields), base)
    with torch.no_grad():
        gated.gate.weight.normal_()
        before = made.learner(batch.fields)
        gated.taste.weight.add_(1.0)
        assert (made.learner(batch.fields) - before).abs().max() > 1e-3
        alone = {**batch.fields, FRIENDS: torch.full_like(batch.fields[FRIENDS], -1)}
        lonely = made.learner(alone)
        gated.taste.weight.add_(1.0)
        torch.testing.assert_close(made.learner(alone), lonely)


def test_a_step_that_is_no_number_is_counted(table: Table) -> None:
    made = Paml(steps=2).prepare(rated.setup(table))
    made.learner.eval()
    batch = made.read(episodes(table, "test", RAGGED))
    fields = {name: one.clone() for name, one in batch.fields.items()}
    fields[LABELS][0, 0, 0] = float("inf")
    assert made.learner(fields).isfinite().all()
    assert isinstance(made.learner.adapter, Gated)
    assert int(made.learner.adapter.lost) == 2


@pytest.mark.parametrize(("friends", "steps"), [(0, 1), (5, -1)])
def test_numbers_that_make_no_sense_are_refused(friends: int, steps: int) -> None:
    with pytest.raises(UserError):
        Paml(friends=friends, steps=steps)
