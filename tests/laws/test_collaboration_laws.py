"""CCML's loop: without shares it is MAML, with them the joint loss written out; its bank is autograd's; nobody helps who must not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tests import rated
from torch import Tensor
from torch.func import functional_call

from umbel.coldstart.ccml import PUBLISHED, Ccml
from umbel.coldstart.choice import Chosen
from umbel.coldstart.collaboration import Collaboration, Joining, Others, joined
from umbel.coldstart.gradient import Melu
from umbel.coldstart.method import Method, Prepared
from umbel.coldstart.rungs import climb
from umbel.coldstart.sampling import Looks
from umbel.data.batch import Batch
from umbel.data.episodes import Episodes, episodes
from umbel.data.shots import LABELS, SUPPORT, WEIGHT, parted
from umbel.data.table import Table
from umbel.data.together import MEMBER
from umbel.errors import UserError
from umbel.learn.fit import Epoch, fit
from umbel.learn.joint import Joint
from umbel.learn.ladder import Rung
from umbel.learn.plan import Plan
from umbel.learn.scope import DECISION, LAST
from umbel.nn.losses import Denominator

PLAIN = Ccml(graph=False, filter="none", gate=False, warmup=0, kept=3, most=4, steps=2, clip=1e9)
SOME = Chosen(torch.tensor([[1, 2, -1], [0, 5, 4], [3, -1, -1]]), torch.tensor([[0.3, 0.2, 0.0], [0.1, 0.5, 0.4], [0.7, 0.0, 0.0]]))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="module")
def own(table: Table) -> Episodes:
    return episodes(table, "train", rated.SHORT)


def prepared(table: Table, method: Method = PLAIN) -> Prepared:
    return method.prepare(rated.setup(table))


def collaboration(made: Prepared) -> Collaboration:
    assert isinstance(made.batches, Collaboration)
    return made.batches


def adapter(made: Prepared) -> Joint:
    assert isinstance(made.learner.adapter, Joint)
    return made.learner.adapter


def trained(made: Prepared, epochs: int) -> dict[str, Tensor]:
    assert made.batches is not None
    for _ in fit(made.learner, made.batches, plan=Plan(epochs=epochs), judge=lambda _: 0.0):
        pass
    return {name: one.detach() for name, one in made.learner.model.state_dict().items()}


@pytest.mark.parametrize("method", [
    replace(PLAIN, share=0.0), replace(PLAIN, kept=0, most=0), replace(PLAIN, warmup=9), replace(PLAIN, share=0.0, normalise=False),
], ids=["no share", "nobody kept", "warming up", "no share, not normalised"])
def test_without_collaborators_it_is_maml_bit_for_bit(table: Table, method: Ccml) -> None:
    own, other = trained(prepared(table, method), 2), trained(prepared(table, Melu(steps=2)), 2)
    assert all(torch.equal(one, other[name]) for name, one in own.items())


def test_with_collaborators_it_is_not(table: Table) -> None:
    made = prepared(table)
    own, other = trained(made, 1), trained(prepared(table, Melu(steps=2)), 1)
    assert any(not torch.equal(one, other[name]) for name, one in own.items())
    assert adapter(made).kept == 3.0


def rows_of(batch: Batch, user: int, member: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Fields, labels and priors of one member's support rows."""
    support, _ = parted(batch.fields)
    there = (support.fields[MEMBER][user] == member) & (support.weight[user] > 0)
    fields = {name: column[user][there] for name, column in support.fields.items()}
    return fields | {"user": torch.zeros_like(fields["user"])}, support.labels[user][there], support.prior[user][there]


def mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    event = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 1], labels[:, 1])
    return (logits[:, 0] - labels[:, 0]).square().mean() + event


@pytest.mark.parametrize("normalise", [True, False])
def test_the_inner_loop_descends_the_joint_loss(table: Table, own: Episodes, *, normalise: bool) -> None:
    made = prepared(table)
    batch = joined(collaboration(made).sampler.reader, own.of(np.arange(3)), others=Others(SOME, own, Joining(normalise)))
    model = made.learner.eval().model
    found = made.learner(batch.fields).view(3, -1, 2)
    _, query = parted(batch.fields)
    for user in range(3):
        mine: dict[str, Tensor] = {name: one for name, one in model.named_parameters() if name.startswith(("layers.", "head."))}
        for _ in range(2):
            cost = torch.zeros(())
            for member, share in enumerate([1.0, *SOME.share[user].tolist()]):
                if share:
                    fields, labels, prior = rows_of(batch, user, member)
                    cost = cost + share * mean_loss(functional_call(model, mine, (fields,)) + prior, labels)
            cost = cost / (1 + float(SOME.share[user].sum()) if normalise else 1.0)
            slope = torch.autograd.grad(cost, list(mine.values()))
            mine = {name: one - 0.05 * down for (name, one), down in zip(mine.items(), slope, strict=True)}
        asked = {name: column.view(3, -1, *column.shape[1:])[user] for name, column in query.items()}
        expected = functional_call(model, mine, ({**asked, "user": torch.zeros_like(asked["user"])},))
        torch.testing.assert_close(found[user], expected + batch.fields[":prior"].view(3, -1, 2)[user], rtol=1e-4, atol=1e-5)


def test_the_outer_loss_asks_collaborators_too(table: Table, own: Episodes) -> None:
    """The mean over users of the loss on their own query, and eta times the mean over their collaborators'."""
    made, eta = prepared(table), 0.3
    reader = collaboration(made).sampler.reader
    few = own.of(np.arange(3))
    batch = joined(reader, few, others=Others(SOME, own, Joining(eta=eta)))
    logits = made.learner.eval()(batch.fields).detach()
    found = made.learner.losses(logits, batch, denominator=Denominator.SEEN)
    width = len(batch.labels) // 3
    error = (logits[:, 0] - batch.labels[:, 0]).square().view(3, width)
    member = batch.fields[MEMBER].view(3, width)
    total = 0.0
    for user in range(3):
        asked = [float(error[user][member[user] == one].mean()) for one in (1, 2, 3) if (member[user] == one).any()]
        assert len(asked) == int((SOME.who[user] >= 0).sum())
        total += float(error[user][member[user] == 0].mean()) + eta * float(np.mean(asked))
    assert float(found[0]) == pytest.approx(total / 3, rel=1e-4)
    plain = joined(reader, few, others=Others(SOME, own, Joining()))
    torch.testing.assert_close(made.learner(plain.fields)[:, 0], logits.view(3, width, 2)[:, : len(plain.labels) // 3, 0].flatten())


def test_collaborators_bring_their_own_rows_and_nobody_brings_none(table: Table, own: Episodes) -> None:
    reader = collaboration(prepared(table)).sampler.reader
    batch = joined(reader, own.of(np.arange(3)), others=Others(SOME, own, Joining()))
    support, _ = parted(batch.fields)
    for user, row in enumerate(SOME.who.tolist()):
        for member, who in enumerate(row, start=1):
            there = (support.fields[MEMBER][user] == member) & (support.weight[user] > 0)
            if who < 0:
                assert not there.any()
                continue
            rows = own.support[who][own.support[who] >= 0]
            assert torch.equal(support.labels[user][there], table.batch(rows).labels)
            assert torch.equal(support.fields["item"][user][there], table.batch(rows).fields["item"])
    assert torch.allclose(support.weight.sum(1), torch.ones(3)), "normalised weights add up to 1"


@pytest.mark.parametrize(("looks", "names"), [
    (Looks(DECISION, 0), ("layers.", "head.")), (Looks(LAST, 0), ("head.",)),
])
def test_a_row_of_the_bank_is_that_users_own_gradient(table: Table, own: Episodes, looks: Looks, names: tuple[str, ...]) -> None:
    made = prepared(table)
    sampler = collaboration(made).sampler
    sampler.looks = looks
    found = sampler.traits(made.learner, own).slope
    model, batch = made.learner.model, sampler.reader.batch(own)
    support, _ = parted(batch.fields)
    for user in range(len(own)):
        there = support.weight[user] > 0
        fields = {name: column[user][there] for name, column in support.fields.items()}
        logits = model({**fields, "user": torch.zeros_like(fields["user"])}) + support.prior[user][there]
        chosen = [one for name, one in model.named_parameters() if name.startswith(names)]
        slope = torch.cat([one.flatten() for one in torch.autograd.grad(mean_loss(logits, support.labels[user][there]), chosen)])
        torch.testing.assert_close(found[user], slope / slope.norm(), rtol=1e-3, atol=1e-5)
    assert made.learner.training, "the learner is as it was"


def test_the_bank_is_asked_with_the_query_where_that_is_wanted(table: Table, own: Episodes) -> None:
    """g_w of the support against g_u of the query, the most direct question of who helps."""
    made = prepared(table, replace(PLAIN, grad_target="query", sketch=0, kept=1, most=1))
    sampler = collaboration(made).sampler
    found = sampler.among(made.learner, own, moment=0)
    support = sampler.traits(made.learner, own).slope
    query = sampler.traits(made.learner, Episodes(own.user, own.query, own.support)).slope
    likeness = (query @ support.T).fill_diagonal_(-torch.inf)
    assert torch.equal(found.who[:, 0], likeness.argmax(1))


def test_a_training_user_never_helps_itself(table: Table, own: Episodes) -> None:
    for method in (PLAIN, replace(PLAIN, similar="random", kept=4)):
        made = prepared(table, method)
        who = collaboration(made).sampler.among(made.learner, own, moment=0).who
        assert not (who == torch.arange(len(own))[:, None]).any()
        assert all(len(set(row)) == len(row) for row in ([one for one in line if one >= 0] for line in who.tolist()))
        assert int(who.max()) < len(own)


def test_new_users_are_helped_by_training_users_alone(table: Table) -> None:
    """No row of a validation or test user, but the user's own support, is read: the others' items are all known to training."""
    made = prepared(table, replace(PLAIN, test_collab=True))
    own = episodes(table, "test", rated.SHORT)
    batch = made.read(own)
    support, _ = parted(batch.fields)
    helped = (support.fields[MEMBER] > 0) & (support.weight > 0)
    assert helped.any(1).all()
    train = table.batch(np.array(table.parts["train"]))
    known = {(float(rating), int(item)) for rating, item in zip(train.labels[:, 0], train.fields["item"], strict=True)}
    brought = zip(support.labels[..., 0][helped].tolist(), support.fields["item"][helped].tolist(), strict=True)
    assert {(rating, item) for rating, item in brought} <= known


def turned(tmp_path: Path, rows: np.ndarray) -> Table:
    """The same log, other labels in some rows of the test part."""
    frame = rated.log()
    test = np.flatnonzero((frame["part"] == "test").to_numpy())
    marks = np.zeros(len(frame), bool)
    marks[test[rows]] = True
    changed = frame.with_columns(
        rating=pl.when(pl.Series(marks)).then(6 - pl.col("rating")).otherwise(pl.col("rating")),
        click=pl.when(pl.Series(marks)).then(1 - pl.col("click")).otherwise(pl.col("click")),
    )
    return rated.table(tmp_path / "turned", changed)


@pytest.mark.parametrize("method", [
    replace(PLAIN, test_collab=True, gate=True, filter="agree_minus_conflict"),
    Ccml(test_collab=True, graph_items=("genres",), predictor="avae", transductive=True),
], ids=["plain", "every part"])
def test_collaborating_at_test_reads_no_label_of_the_query(tmp_path: Path, table: Table, method: Ccml) -> None:
    own = episodes(table, "test", rated.SHORT)
    start = table.parts["test"].start
    other = turned(tmp_path, own.query[own.query >= 0] - start)
    found = [answered(prepared(one, method), own) for one in (table, other)]
    torch.testing.assert_close(found[0], found[1])
    another = turned(tmp_path / "support", own.support[own.support >= 0] - start)
    assert not torch.allclose(answered(prepared(another, method), own), found[0]), "the support's labels are what is read"


def answered(made: Prepared, own: Episodes) -> Tensor:
    batch = made.read(own)
    logits: Tensor = made.learner.eval()(batch.fields).detach()[:, :2]
    return logits


@pytest.mark.parametrize("method", [
    replace(PLAIN, test_collab=True), Ccml(test_collab=True, graph_items=("genres",), predictor="avae", gate=False, temperature=0.5),
], ids=["plain", "every part"])
def test_users_who_are_helped_are_apart_all_the_same(table: Table, method: Ccml) -> None:
    made, own = prepared(table, method), episodes(table, "test", rated.SHORT)
    together = answered(made, own).view(len(own), -1, 2)
    for place in range(len(own)):
        alone = own.of(np.array([place]))
        torch.testing.assert_close(answered(made, alone), together[place], rtol=1e-4, atol=1e-5)


def test_without_rows_a_new_user_is_the_base_model_bit_for_bit(table: Table) -> None:
    made = prepared(table, replace(PLAIN, test_collab=True))
    own = episodes(table, "test", replace(rated.SHORT, support=0))
    batch = made.read(own)
    _, query = parted(batch.fields)
    base = made.learner.eval().model({**query, "user": torch.zeros_like(query["user"])}) + batch.fields[":prior"]
    assert torch.equal(made.learner(batch.fields), base)


def test_the_bank_of_new_users_follows_the_weights(table: Table) -> None:
    made, own = prepared(table, replace(PLAIN, test_collab=True)), episodes(table, "test", rated.SHORT)
    first = made.read(own).fields[WEIGHT].clone()
    assert torch.equal(made.read(own).fields[WEIGHT], first)
    before = made.read(own).fields[LABELS].clone()
    with torch.no_grad():
        for one in made.learner.model.parameters():
            one.copy_(torch.randn(one.shape, generator=torch.Generator().manual_seed(3)))
    assert not torch.equal(made.read(own).fields[LABELS], before), "others are chosen"


def epochs(made: Prepared, *, pause: float | None = None, start: Epoch | None = None) -> Iterator[Epoch]:
    assert made.batches is not None
    plan = Plan(epochs=3, pause=pause)
    yield from fit(made.learner, made.batches, plan=plan, judge=lambda _: 0.0, start=None if start is None else start.state)


@pytest.mark.parametrize(
    "method", [replace(PLAIN, warmup=1), replace(PLAIN, refresh=1, similar="random")], ids=["once an epoch", "every step"],
)
def test_an_interrupted_training_goes_on_with_the_collaborators_it_had(table: Table, method: Ccml) -> None:
    whole = [epoch.state.weights for epoch in epochs(prepared(table, method))][-1]
    whole = {name: one.clone() for name, one in whole.items()}
    parts = epochs(prepared(table, method), pause=1e-9)
    paused = next(epoch for epoch in parts if not epoch.finished and epoch.number == 3 and epoch.step == 1)
    frozen = replace(paused, state=replace(paused.state, weights={name: one.clone() for name, one in paused.state.weights.items()}))
    rest = [epoch.state.weights for epoch in epochs(prepared(table, method), start=frozen)][-1]
    assert all(torch.equal(one, rest[name]) for name, one in whole.items())
    assert {"adapter.who", "adapter.share"} <= set(whole), "they are in the checkpoint"


def test_candidates_fewer_than_collaborators(table: Table) -> None:
    made = prepared(table, Ccml(pool=2, most=20, kept=10, gate=False, warmup=0, graph=False))
    trained(made, 1)
    assert adapter(made).kept == 2.0
    assert adapter(made).who.shape[1] == 10


def test_new_items_are_new_to_collaborators_too(table: Table) -> None:
    made = PLAIN.prepare(replace(rated.setup(table), forget=1.0))
    batch = next(iter(collaboration(made)(0, 0)))
    assert (batch.fields[MEMBER] >= -1).all()
    assert (batch.fields[f"{SUPPORT}item"] == 0).all()


def graph_of(table: Table, *, together: bool) -> Prepared:
    return prepared(table, replace(PLAIN, graph=True, graph_items=("genres",), test_collab=together))


def propagated(made: Prepared, batch: Batch) -> dict[int, list[Tensor]]:
    """What the views see of every support row's age, by member."""
    learner = made.learner.eval()
    episode = learner.episode(learner.rows(batch.fields), batch.fields)
    seen, _ = adapter(made).read(learner.model, episode).episode.seen()
    age = [field.name for field in learner.schema.fields].index("age")
    member = batch.fields[f"{SUPPORT}{MEMBER}"]
    return {one: [seen[0, place, 0, age] for place in (member[0] == one).nonzero().flatten()] for one in (0, 1)}


@pytest.mark.parametrize("together", [False, True])
def test_profiles_are_enriched_by_the_group_or_by_oneself(table: Table, own: Episodes, *, together: bool) -> None:
    """Alone, collaborators leave what a user's age is seen as where it was; together they do not."""
    made = graph_of(table, together=together)
    reader = collaboration(made).sampler.reader
    few = own.of(np.array([0]))
    helped = joined(reader, few, others=Others(Chosen(torch.tensor([[1, 2]]), torch.full((1, 2), 0.5)), own, Joining()))
    lone = propagated(made, joined(reader, few))[0][0]
    mine = propagated(made, helped)[0]
    assert all(torch.equal(one, mine[0]) for one in mine)
    assert torch.allclose(lone, mine[0], atol=1e-6) is not together
    plain = made.learner.model.table[made.learner.model.places(flat(helped))[0, 2]]
    assert not torch.allclose(plain, mine[0], atol=1e-6), "nothing was propagated"


def flat(batch: Batch) -> Mapping[str, Tensor]:
    support, _ = parted(batch.fields)
    return {name: column.flatten(0, 1) for name, column in support.fields.items()}


def test_the_published_graph_works_while_training_alone(table: Table, own: Episodes) -> None:
    made = prepared(table, replace(PLAIN, graph=True, residual=False, graph_items=("genres",)))
    batch = joined(collaboration(made).sampler.reader, own.of(np.arange(2)))
    learner = made.learner
    for training in (True, False):
        learner.train(training)
        episode = learner.episode(learner.rows(batch.fields), batch.fields)
        read = adapter(made).read(learner.model, episode).episode
        assert (read is episode) is not training


def test_the_contrast_has_a_gradient_at_the_embeddings(table: Table, own: Episodes) -> None:
    """Guards the published defect: there InfoNCE is where no gradient of it is taken."""
    slopes = []
    for gamma in (0.0, 0.5):
        made = prepared(table, replace(PLAIN, gamma=gamma))
        batch = joined(collaboration(made).sampler.reader, own.of(np.arange(3)), others=Others(SOME, own, Joining()))
        logits = made.learner(batch.fields)
        made.learner.losses(logits, batch, denominator=Denominator.SEEN).sum().backward()  # type: ignore[no-untyped-call]
        assert made.learner.model.table.grad is not None
        slopes.append(made.learner.model.table.grad.clone())
    assert (slopes[0] - slopes[1]).abs().max() > 1e-4


def test_the_encoding_is_paid_for(table: Table, own: Episodes) -> None:
    free, dear = (prepared(table, Ccml(predictor="avae", kl=kl, graph=False)) for kl in (0.0, 0.1))
    batch = joined(collaboration(dear).sampler.reader, own)
    losses = []
    for made in (free, dear):
        torch.manual_seed(0)
        logits = made.learner(batch.fields)
        assert made.learner.adapter.costs is (made is dear)
        losses.append(made.learner.losses(logits, batch, denominator=Denominator.SEEN).sum())
    assert losses[1] > losses[0]


def test_the_encoding_draws_while_training_and_not_after(table: Table, own: Episodes) -> None:
    for method, noisy in ((Ccml(predictor="avae", graph=False), False), (PUBLISHED, True)):
        made = prepared(table, method)
        batch = made.read(own)
        for training in (True, False):
            made.learner.train(training)
            one, other = made.learner(batch.fields), made.learner(batch.fields)
            assert torch.equal(one, other) is not (training or noisy)


def test_the_published_choices_train(table: Table) -> None:
    made = prepared(table, PUBLISHED)
    state = trained(made, 2)
    assert all(one.isfinite().all() for one in state.values())
    assert not made.learner.adapter.costs


@pytest.mark.parametrize(("change", "says"), [
    ({"predictor": "vae"}, "avae"), ({"rates": "fix"}, "fixed"), ({"grad_scope": "first"}, "all, last"), ({"grad_target": "both"}, "query"),
    ({"warmup": -1}, "at least 0"), ({"refresh": 0}, "at least 1"), ({"scope": "all layers"}, "no 'all layers'"),
    ({"filter": "most"}, "filter"), ({"scope": "embedding"}, "no layer whose gradients .* grad_scope = 'last'"),
])
def test_a_switch_that_does_not_exist_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Ccml(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"grad_scope": "last"}, {"share": 0.0}, {"kept": 0}], ids=["last", "share", "kept"])
def test_an_embedding_alone_is_adapted_where_no_gradient_of_it_is_compared(table: Table, change: dict[str, Any]) -> None:
    made = prepared(table, replace(PLAIN, scope="embedding", test_collab=True, **change))
    assert all(one.isfinite().all() for one in trained(made, 2).values())
    assert made.learner.eval()(made.read(episodes(table, "test", rated.SHORT)).fields).isfinite().all()


def test_a_graph_over_what_is_no_attribute_of_items_is_refused(table: Table) -> None:
    with pytest.raises(UserError, match="graph_items: 'age'"):
        prepared(table, Ccml(graph_items=("age",)))


@pytest.mark.parametrize(("method", "steps"), [
    (PLAIN, True), (replace(PLAIN, test_collab=True), True), (replace(PLAIN, graph=True, graph_items=("genres",)), False),
    (replace(PLAIN, centred=True), False), (replace(PLAIN, scope="all"), False),
], ids=["plain", "helped at test", "graph", "centred", "all parameters"])
def test_a_ladder_takes_the_steps_where_they_are_all_there_is(table: Table, method: Ccml, *, steps: bool) -> None:
    """It is chosen by users alone: a bundle has no training users to help."""
    made = prepared(table, method)
    curve = {shots: episodes(table, "valid", replace(rated.SHORT, support=shots, skip=4)) for shots in (2, 4)}
    found = climb(made.learner.eval(), curve, made.served)
    assert (Rung.STEPS in found.scores) is steps
    assert bool(found.ladder.rates) is steps
    alone = prepared(table, replace(method, test_collab=False))
    alone.learner.load_state_dict(made.learner.state_dict())
    assert climb(alone.learner.eval(), curve, alone.read).scores == found.scores
    batch = made.served(curve[4])
    assert int(batch.fields[f"{SUPPORT}{MEMBER}"].max()) == 0
