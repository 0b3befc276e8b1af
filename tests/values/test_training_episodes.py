"""What training draws: rows divided anew every epoch, items forgotten, users known, and the same again from any step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import rated

from umbel.coldstart.prior import ItemMeans, fold
from umbel.coldstart.source import Reader, Training, in_order
from umbel.data.batch import Batch
from umbel.data.episodes import PADDING, Protocol, episodes
from umbel.data.shots import KNOWN, LABELS, PRIOR, QUERY_PRIOR, SUPPORT, parted
from umbel.data.table import Table

RAGGED = Protocol(support=None, query=3, history=(7, 100))
OPEN = Protocol(support=2, query=None, history=(3, 100))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"), rated.log(users=40))


@pytest.fixture(scope="module")
def reader(table: Table) -> Reader:
    return Reader(table, ItemMeans.of(table))


def training(reader: Reader, *, forget: float = 0.0, ids: float = 0.0, seed: int = 1, size: int = 4) -> Training:
    return Training(reader, rated.SHORT, size=size, seed=seed, forget=forget, ids=ids)


def same(one: Iterable[Batch], other: Iterable[Batch]) -> bool:
    return all(all(torch.equal(a.fields[name], b.fields[name]) for name in a.fields) and torch.equal(a.labels, b.labels)
               for a, b in zip(one, other, strict=True))


def users(batches: Iterable[Batch]) -> list[int]:
    """The code of every episode's user, in the order drawn."""
    return [int(code) for batch in batches for code in parted(batch.fields)[0].fields["user"][:, 0]]


def test_every_user_is_drawn_once_an_epoch(table: Table, reader: Reader) -> None:
    drawn = users(training(reader)(0, 0))
    assert sorted(drawn) == sorted(set(drawn))
    assert len(drawn) == len(episodes(table, "train", rated.SHORT))


def test_an_epoch_from_a_step_on_is_the_rest_of_it(reader: Reader) -> None:
    made = training(reader, forget=0.5, ids=0.5)
    whole = list(made(3, 0))
    assert same(made(3, 2), whole[2:])
    assert same(made(3, len(whole)), [])


def test_a_seed_draws_the_same_and_another_does_not(reader: Reader) -> None:
    assert same(training(reader, seed=5)(0, 0), training(reader, seed=5)(0, 0))
    assert users(training(reader, seed=5)(0, 0)) != users(training(reader, seed=6)(0, 0))


def test_every_epoch_divides_a_users_rows_anew(reader: Reader) -> None:
    """The same rows, other ones of them support."""
    def by_user(epoch: int) -> dict[int, tuple[frozenset[int], frozenset[int]]]:
        found = {}
        for batch in training(reader)(epoch, 0):
            support, query = parted(batch.fields)
            items = query["item"].view(len(support.labels), -1)
            for user in range(len(support.labels)):
                own = frozenset(support.fields["item"][user].tolist())
                found[int(support.fields["user"][user, 0])] = (own, own | frozenset(items[user].tolist()))
        return found

    first, second = by_user(0), by_user(1)
    assert {user: every for user, (_, every) in first.items()} == {user: every for user, (_, every) in second.items()}
    assert sum(first[user][0] != second[user][0] for user in first) > len(first) / 2


def test_forgotten_items_are_unknown_with_the_mean_of_all(reader: Reader) -> None:
    """Whole episodes, support and query, about as many as asked."""
    forgotten, seen = 0, 0
    mean = float(reader.means.overall[0])
    for epoch in range(20):
        for batch in training(reader, forget=0.4)(epoch, 0):
            support, query = parted(batch.fields)
            items = query["item"].view(len(support.labels), -1)
            for user in range(len(support.labels)):
                new = bool((support.fields["item"][user] == 0).all())
                assert new == bool((items[user] == 0).all())
                seen, forgotten = seen + 1, forgotten + new
                if new:
                    assert support.prior[user, :, 0].tolist() == pytest.approx([mean] * support.prior.shape[1], abs=0.25)
                    assert len(set(support.prior[user, :, 0].tolist())) == 1
    assert forgotten / seen == pytest.approx(0.4, abs=0.06)


def test_nothing_is_forgotten_unless_asked(reader: Reader) -> None:
    batches = list(training(reader)(0, 0))
    assert all(bool((batch.fields["item"] > 0).all()) for batch in batches)
    assert not any(bool(batch.fields[KNOWN].any()) for batch in batches)


def test_about_as_many_users_are_known_as_asked(reader: Reader) -> None:
    marks = [batch.fields[KNOWN] for epoch in range(20) for batch in training(reader, ids=0.3)(epoch, 0)]
    assert float(torch.cat(marks).float().mean()) == pytest.approx(0.3, abs=0.06)


def test_who_is_known_and_what_is_forgotten_are_drawn_apart(reader: Reader) -> None:
    pairs = []
    for epoch in range(40):
        for batch in training(reader, forget=0.5, ids=0.5)(epoch, 0):
            support, _ = parted(batch.fields)
            pairs += list(zip((support.fields["item"] == 0).all(1).tolist(), batch.fields[KNOWN].tolist(), strict=True))
    assert abs(np.corrcoef(np.array(pairs, float).T)[0, 1]) < 0.1


def test_no_training_row_is_told_its_own_label(tmp_path: Path, table: Table) -> None:
    """Turning one user's labels round moves the priors of other folds' users, and none of that user's own fold."""
    frame = rated.log(users=40)
    turned = frame.with_columns(rating=frame["rating"].zip_with(frame["user"] != 4, 6 - frame["rating"]))
    other = rated.table(tmp_path, turned)
    priors = []
    for made in (table, other):
        own = episodes(made, "train", rated.SHORT)
        priors.append((own, Reader(made, ItemMeans.of(made)).shots(own.support).prior[..., 0]))
    (own, before), (_, after) = priors
    folds = fold(own.user)
    (place,) = np.flatnonzero(own.user == 4)
    assert not np.array_equal(frame["rating"].to_numpy(), turned["rating"].to_numpy())
    kept = folds == folds[place]
    overall = abs(float(ItemMeans.of(other).overall[0] - ItemMeans.of(table).overall[0]))
    moved = (before - after).abs()
    assert float(moved[kept].max()) <= overall + 1e-6, "only the mean of all has moved, which shrinks"
    assert float(moved[~kept].max()) > overall + 1e-3


def test_rows_of_new_users_are_told_by_all(table: Table, reader: Reader) -> None:
    own = episodes(table, "test", RAGGED)
    found = reader.shots(own.query)
    items = found.fields["item"].numpy().ravel()
    assert found.prior.view(-1, 2).numpy() == pytest.approx(reader.means(items), abs=1e-6)


def test_training_rows_are_told_by_other_folds(table: Table, reader: Reader) -> None:
    own = episodes(table, "train", RAGGED)
    found = reader.shots(own.query)
    items, groups = found.fields["item"].numpy().ravel(), np.repeat(own.user, own.query.shape[1])
    told = reader.means(items, folds=fold(groups))
    assert found.prior.view(-1, 2).numpy() == pytest.approx(told, abs=1e-6)
    assert not np.allclose(told, reader.means(items))


def test_marked_items_are_new_in_support_and_query(table: Table, reader: Reader) -> None:
    own = episodes(table, "train", RAGGED)
    marks = np.arange(len(own)) % 2 == 0
    batch = reader.batch(own, new=marks)
    plain = reader.batch(own)
    support, query = parted(batch.fields)
    items = query["item"].view(len(own), -1)
    assert bool((items[marks] == 0).all())
    assert bool((support.fields["item"][marks] == 0).all())
    assert torch.equal(items[~marks], parted(plain.fields)[1]["item"].view(len(own), -1)[~marks])
    assert torch.equal(batch.labels, plain.labels)
    assert torch.equal(batch.fields["genres"], plain.fields["genres"]), "its attributes are known all the same"


def test_no_mark_is_no_change(table: Table, reader: Reader) -> None:
    own = episodes(table, "train", RAGGED)
    plain = reader.batch(own)
    assert torch.equal(reader.batch(own, new=np.zeros(len(own), bool)).fields["item"], plain.fields["item"])
    assert reader.batch(own, known=np.ones(len(own), bool)).fields[KNOWN].all()


def test_the_rows_of_a_batch_are_numbered(table: Table, reader: Reader) -> None:
    own = episodes(table, "valid", RAGGED)
    batch = reader.batch(own)
    assert batch.index.tolist() == np.where(own.query == PADDING, 0, own.query).ravel().tolist()
    assert torch.equal(table.batch(batch.index).labels[batch.seen[:, 0]], batch.labels[batch.seen[:, 0]])


@pytest.mark.parametrize("protocol", [RAGGED, OPEN])
def test_all_episodes_in_order_of_length(table: Table, reader: Reader, protocol: Protocol) -> None:
    own = episodes(table, "train", protocol)
    sizes, places = [], []
    for some, batch in in_order(reader, own, size=3):
        places += some.tolist()
        sizes += own.sizes[some].tolist()
        assert batch.fields[LABELS].shape[1] + len(batch.labels) // len(some) == own.sizes[some].max(), "no padding beyond the longest"
    assert sorted(places) == list(range(len(own)))
    assert sizes == sorted(sizes)


def test_training_puts_users_of_like_queries_together(table: Table, reader: Reader) -> None:
    made = Training(reader, OPEN, size=4)
    own = made.episodes(0)
    assert len(set(own.lengths.tolist())) == 1 < len(set(own.sizes.tolist())), "supports of one size, queries of several"
    spans = sorted((int(own.sizes[places].min()), int(own.sizes[places].max())) for places, *_ in made.drawn(own, 0, 0))
    assert all(longest <= shortest for (_, longest), (shortest, _) in pairwise(spans))


def test_a_support_of_none_is_a_batch_all_the_same(table: Table, reader: Reader) -> None:
    own = episodes(table, "train", replace(rated.SHORT, support=0))
    batch = reader.batch(own)
    assert batch.fields[PRIOR].shape[1] == 0
    assert batch.fields[f"{SUPPORT}item"].shape == (len(own), 0)
    assert batch.fields[QUERY_PRIOR].isfinite().all()
