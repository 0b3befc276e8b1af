"""A new user's embedding by each method, against the sum done by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests import rated
from torch import Tensor

from umbel.coldstart.method import Prepared, Setup
from umbel.coldstart.newcomers import DropoutNet, MeanEmbedding, MetaEmbedding, MetaWarmUp, spots
from umbel.coldstart.tanp import Tanp
from umbel.data.batch import Batch
from umbel.data.episodes import Protocol, episodes
from umbel.data.shots import KNOWN, LABELS, SEEN, WEIGHT, Shots, even
from umbel.data.source import Source
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.learn.episode import Episode, Learner, Untouched
from umbel.learn.newcomer import Generated, MeanUser, Warmed
from umbel.learn.offset import residuals
from umbel.learn.process import Process
from umbel.nn.losses import Denominator

RAGGED = Protocol(support=None, query=3, history=(7, 100))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="module")
def setup(table: Table) -> Setup:
    return rated.setup(table)


def read(made: Prepared, table: Table) -> tuple[Batch, Episode]:
    batch = made.read(episodes(table, "test", RAGGED))
    made.learner.eval()
    return batch, made.learner.episode(made.learner.rows(batch.fields), batch.fields)


def base(made: Prepared, batch: Batch) -> Tensor:
    found: Tensor = Learner(made.learner.model, Untouched(), user="user").eval()(batch.fields)
    return found


def test_where_things_stand(setup: Setup) -> None:
    """The age never changes within a user; genres and year are the item's."""
    found = spots(setup, "any")
    assert (found.user, found.traits, found.item) == (0, (2,), 1)


def test_a_model_without_user_ids_is_an_error_that_names_the_mend(table: Table) -> None:
    without = rated.setup(table)
    nameless = table.under(table.schema.tasks)
    nameless.source = Source(str(table.source.log), user="someone", item="item", time="time")
    with pytest.raises(UserError, match="no id field reads the log's user column"):
        MeanEmbedding().prepare(replace(without, reader=replace(without.reader, table=nameless)))


def test_the_mean_user_is_the_mean_of_the_trained_ones(table: Table, setup: Setup) -> None:
    made = MeanEmbedding().prepare(setup)
    batch, _ = read(made, table)
    model = made.learner.model
    users = table.encoder.vocabularies["user"].size
    assert isinstance(made.learner.adapter, MeanUser)
    found = made.learner(batch.fields)
    with torch.no_grad():
        model.table[0] = model.table[1:users].mean(0)
    torch.testing.assert_close(found, base(made, batch))


def test_in_training_everyone_is_read_by_id(setup: Setup) -> None:
    for method, share in ((MeanEmbedding(), 1.0), (DropoutNet(drop=0.0), 1.0), (DropoutNet(drop=0.999), 0.0)):
        made = method.prepare(setup)
        assert made.batches is not None
        for batch in made.batches(0, 0):
            assert float(batch.fields[KNOWN].float().mean()) == share


def test_dropout_of_ids_is_the_share_that_is_asked_for(setup: Setup) -> None:
    made = DropoutNet(drop=0.5).prepare(setup)
    assert made.batches is not None
    known = torch.cat([batch.fields[KNOWN] for epoch in range(60) for batch in made.batches(epoch, 0)]).float()
    assert abs(float(known.mean()) - 0.5) < 4 * 0.5 / len(known) ** 0.5


@pytest.mark.parametrize("second", [False, True])
def test_a_generated_embedding_takes_one_step(table: Table, setup: Setup, *, second: bool) -> None:
    """Against `torch.autograd`, a user at a time."""
    made = MetaEmbedding(alpha=0.25, rate=0.5, second=second).prepare(setup)
    batch, episode = read(made, table)
    own, model = made.learner.adapter, made.learner.model
    assert isinstance(own, Generated)
    support, query = episode.seen()
    traits = query[:, 0, :, 2].flatten(1)
    found, cold_sum = [], torch.zeros(())
    for user in range(len(query)):
        there = episode.support.weight[user] > 0
        home = own.generate(traits[user : user + 1])[0]
        rows, labels = support[user][there], episode.support.labels[user][there]
        prior = episode.support.prior[user][there]
        logits = model.beyond(with_user(rows, home)) + prior
        event = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 1], labels[:, 1])
        cold = (logits[:, 0] - labels[:, 0]).square().mean() + event
        (slope,) = torch.autograd.grad(cold, home, retain_graph=True)
        home = home - 0.5 * slope * min(1.0, 10 / float(slope.norm()))
        found.append(model.beyond(with_user(query[user], home)) + episode.query_prior[user])
        cold_sum = cold_sum + cold
    answer = made.learner(batch.fields)
    torch.testing.assert_close(answer[:, :2], torch.cat(found), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(answer[:, 2], (cold_sum / 3 / len(query)).expand(len(answer)), rtol=1e-4, atol=1e-4)
    assert made.learner.losses(answer, batch, denominator=Denominator.SEEN).sum() > model.losses(answer[:, :2], batch).sum()


def with_user(seen: Tensor, home: Tensor) -> Tensor:
    changed = seen.clone()
    changed[:, 0, 0] = home
    return changed


def test_no_alpha_is_no_cost(setup: Setup) -> None:
    assert not MetaEmbedding(alpha=0.0).prepare(setup).learner.adapter.costs


def test_a_step_that_is_no_number_is_not_taken(table: Table, setup: Setup) -> None:
    made = MetaEmbedding(rate=0.5).prepare(setup)
    batch, _ = read(made, table)
    fields = {name: one.clone() for name, one in batch.fields.items()}
    fields[LABELS][0, 0, 0] = float("inf")
    before, after = made.learner(batch.fields)[:, :2], made.learner(fields)[:, :2]
    rows = len(before) // len(fields[WEIGHT])
    assert after.isfinite().all()
    torch.testing.assert_close(after[rows:], before[rows:])
    assert (after[:rows] - before[:rows]).abs().max() > 0


def test_without_scale_and_shift_a_warm_embedding_is_the_unknown_one(table: Table, setup: Setup) -> None:
    made = MetaWarmUp().prepare(setup)
    batch, episode = read(made, table)
    own = made.learner.adapter
    assert isinstance(own, Warmed)
    assert not torch.allclose(made.learner(batch.fields), base(made, batch), atol=1e-3)
    with torch.no_grad():
        for net in (own.scale, own.shift):
            for one in list(net.parameters())[2:]:
                one.zero_()
    torch.testing.assert_close(made.learner(batch.fields), base(made, batch))
    with torch.no_grad():
        list(own.shift.parameters())[3].fill_(0.5)
    _, query = episode.seen()
    home = query[0, 0, 0, 0] + 0.5
    torch.testing.assert_close(made.learner(batch.fields)[: query.shape[1]],
                               made.learner.model.beyond(with_user(query[0], home)) + episode.query_prior[0])


def test_what_the_process_is_told_is_labels_less_what_was_expected(table: Table) -> None:
    labels, seen = torch.tensor([[[4.0, 1.0], [2.0, 0.0]]]), torch.tensor([[[True, True], [False, True]]])
    prior = torch.tensor([[[3.0, 0.0], [3.0, 100.0]]])
    found = residuals(table.schema, Shots({}, labels, seen, even(seen), prior))
    torch.testing.assert_close(found, torch.tensor([[[1.0, 0.5], [0.0, -1.0]]]))


def test_a_process_without_gain_or_shift_is_the_model(table: Table, setup: Setup) -> None:
    made = Tanp().prepare(setup)
    batch, _ = read(made, table)
    own = made.learner.adapter
    assert isinstance(own, Process)
    assert not torch.allclose(made.learner(batch.fields)[:, :2], base(made, batch), atol=1e-3)
    with torch.no_grad():
        own.film.weight.zero_()
        own.film.bias.zero_()
    torch.testing.assert_close(made.learner(batch.fields)[:, :2], base(made, batch))


def test_labels_reach_the_process_and_padding_does_not(table: Table, setup: Setup) -> None:
    made = Tanp().prepare(setup)
    batch, _ = read(made, table)
    changed = {name: one.clone() for name, one in batch.fields.items()}
    changed[LABELS][changed[SEEN]] += 1.0
    assert (made.learner(changed)[:, :2] - made.learner(batch.fields)[:, :2]).abs().max() > 1e-3


def test_sure_places_cost_nothing_and_unsure_ones_something(table: Table, setup: Setup) -> None:
    """One kind: everyone is at it. Two: the sharpened assignment differs from a soft one."""
    for kinds, costs in ((1, False), (2, True)):
        made = Tanp(kinds=kinds, price=1.0).prepare(setup)
        batch, _ = read(made, table)
        assert bool((made.learner(batch.fields)[:, 2] > 1e-6).any()) is costs


@pytest.mark.parametrize("make", [
    lambda: DropoutNet(drop=1.0), lambda: DropoutNet(drop=-0.1), lambda: MetaEmbedding(alpha=1.0), lambda: Tanp(kinds=0),
    lambda: Tanp(price=-1.0),
])
def test_a_number_that_makes_no_sense_is_refused(make: object) -> None:
    with pytest.raises(UserError):
        make()  # type: ignore[operator]


def test_methods_that_read_no_label_of_the_support_do_not(tmp_path: Path, table: Table, setup: Setup) -> None:
    for method in (MeanEmbedding(), DropoutNet(), MetaWarmUp()):
        made = method.prepare(setup)
        batch, _ = read(made, table)
        changed = {**batch.fields, LABELS: batch.fields[LABELS] + 3}
        assert torch.equal(made.learner(changed), made.learner(batch.fields))
