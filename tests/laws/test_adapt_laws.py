"""Adaptation by gradient: many users at once are users one by one, the empty support is the base model, no query label is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import rated
from torch import Tensor
from torch.func import functional_call

from umbel.coldstart.source import Reader
from umbel.data.batch import Batch
from umbel.data.episodes import Protocol, episodes
from umbel.data.shots import LABELS, PRIOR, SUPPORT, WEIGHT, parted
from umbel.data.table import Table
from umbel.learn.adapt import Inner, Steps, adapt
from umbel.learn.episode import Learner, Untouched
from umbel.learn.rates import fixed, per_layer, per_weight
from umbel.learn.scope import ALL, DECISION, EMBEDDING, LAST, SCOPES, Scope
from umbel.nn.recommender import Recommender

RECIPES = ("shared_bottom", "mmoe", "stem")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="module")
def reader(table: Table) -> Reader:
    return rated.setup(table).reader


@pytest.fixture(scope="module")
def batch(table: Table, reader: Reader) -> Batch:
    return reader.batch(episodes(table, "train", Protocol(support=None, query=3, history=(7, 100))))


def learner(table: Table, inner: Inner, *, recipe: str = "shared_bottom", rate: float = 0.125) -> Learner:
    model = rated.model(table, recipe)
    return Learner(model, Steps(model, inner, rates=fixed(rate)), user="user").eval()


def user_by_user(model: Recommender, batch: Batch, inner: Inner, *, rate: float = 0.125) -> Tensor:
    """The plain loop: each user's copy by `adapt`, its own rows alone, no padding."""
    support, query = parted(batch.fields)
    users = len(support.labels)
    found = []
    for user in range(users):
        there = support.weight[user] > 0
        fields = {name: column[user][there] for name, column in support.fields.items()}
        fields["user"] = torch.zeros_like(fields["user"])
        rows = Batch(fields, support.labels[user][there], support.seen[user][there], torch.arange(int(there.sum())))
        own = adapt(model, rows, inner=inner, rate=rate, user="user", prior=support.prior[user][there])
        asked = {name: column.view(users, -1, *column.shape[1:])[user] for name, column in query.items()}
        asked["user"] = torch.zeros_like(asked["user"])
        found.append(functional_call(model, own, (asked,)))
    return torch.cat(found) + batch.fields[":prior"]


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
def test_users_together_are_users_one_by_one(table: Table, batch: Batch, scope: Scope, recipe: str, steps: int) -> None:
    inner = Inner(scope, steps=steps)
    together = learner(table, inner, recipe=recipe)
    alone = user_by_user(together.model, batch, inner)
    torch.testing.assert_close(together(batch.fields), alone, rtol=1e-4, atol=1e-5)
    base = Learner(together.model, Untouched(), user="user")(batch.fields)
    assert (alone - base).abs().max() > 1e-3, "nothing was adapted"


@pytest.mark.parametrize("scope", [ALL, EMBEDDING], ids=["all", "embedding"])
def test_asked_without_gradients_users_copy_the_rows_that_are_touched(table: Table, reader: Reader, scope: Scope) -> None:
    asked = reader.batch(episodes(table, "valid", rated.SHORT).of(np.array([0])))
    made, copied = learner(table, Inner(scope, steps=2)), set[int]()
    made.model.views.register_forward_pre_hook(lambda _, given: copied.add(len(given[0]["table"])))
    with_gradients = made(asked.fields)
    whole = copied.copy()
    copied.clear()
    with torch.no_grad():
        torch.testing.assert_close(made(asked.fields), with_gradients.detach(), rtol=0, atol=1e-6)
    assert max(copied) < min(whole) == len(made.table)


@pytest.mark.parametrize("second", [False, True])
def test_the_outer_gradient_is_the_loops(table: Table, batch: Batch, *, second: bool) -> None:
    inner = Inner(DECISION, steps=2, second=second, clip=1e9)
    together = learner(table, inner).double()
    batch = doubled(batch)
    own = torch.autograd.grad(together(batch.fields).square().sum(), list(together.model.parameters()))
    loop = torch.autograd.grad(differentiable_loop(together.model, batch, inner).square().sum(), list(together.model.parameters()))
    for one, other in zip(own, loop, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def differentiable_loop(model: Recommender, batch: Batch, inner: Inner, *, rate: float = 0.125) -> Tensor:
    """Gradient steps written out with `torch.autograd`, a user at a time."""
    support, query = parted(batch.fields)
    users, found = len(support.labels), []
    for user in range(users):
        fields = {name: column[user] for name, column in support.fields.items()} | {"user": torch.zeros_like(support.fields["user"][user])}
        own: dict[str, Tensor] = {name: one for name, one in model.named_parameters() if name.startswith(("layers.", "head."))}
        for _ in range(inner.steps):
            logits = functional_call(model, own, (fields,)) + support.prior[user]
            error = (logits[:, 0] - support.labels[user][:, 0]).square()
            event = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 1], support.labels[user][:, 1], reduction="none")
            cost = (support.weight[user] * (error + event)).sum()
            slope = torch.autograd.grad(cost, list(own.values()), create_graph=inner.second)
            own = {name: one - rate * down for (name, one), down in zip(own.items(), slope, strict=True)}
        asked = {name: column.view(users, -1, *column.shape[1:])[user] for name, column in query.items()}
        found.append(functional_call(model, own, ({**asked, "user": torch.zeros_like(asked["user"])},)))
    return torch.cat(found) + batch.fields[":prior"]


def doubled(batch: Batch) -> Batch:
    fields = {name: one.double() if one.is_floating_point() else one for name, one in batch.fields.items()}
    return replace(batch, fields=fields, labels=batch.labels.double())


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
def test_no_steps_or_no_support_is_the_base_model_bit_for_bit(table: Table, reader: Reader, batch: Batch, scope: Scope) -> None:
    plain = learner(table, Inner(scope, steps=0))
    base = Learner(plain.model, Untouched(), user="user")
    assert torch.equal(plain(batch.fields), base(batch.fields))
    nothing = reader.batch(episodes(table, "train", Protocol(support=0, query=None, history=(7, 100))))
    stepped = Learner(plain.model, Steps(plain.model, Inner(scope, steps=3), rates=fixed(0.1)), user="user")
    assert torch.equal(stepped(nothing.fields), base(nothing.fields))


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
def test_padding_changes_nothing(table: Table, batch: Batch, scope: Scope) -> None:
    made = learner(table, Inner(scope, steps=2))
    longer = {name: torch.cat([one, one[:, :2]], 1) if name.startswith(SUPPORT) else one for name, one in batch.fields.items()}
    longer[WEIGHT] = torch.cat([batch.fields[WEIGHT], torch.zeros(len(batch.fields[WEIGHT]), 2)], 1)
    torch.testing.assert_close(made(longer), made(batch.fields), rtol=1e-5, atol=1e-6)


def test_no_query_label_reaches_a_prediction(table: Table, batch: Batch) -> None:
    made = learner(table, Inner(DECISION, steps=2))
    before = made(batch.fields)
    other = replace(batch, labels=batch.labels + 7)
    assert torch.equal(made(other.fields), before)
    support = {**batch.fields, LABELS: batch.fields[LABELS] + 1}
    assert not torch.equal(made(support), before), "the support's labels are what is read"


def test_adapt_leaves_the_model_as_it_was(table: Table, batch: Batch) -> None:
    model = rated.model(table)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    support, _ = parted(batch.fields)
    fields = {name: column[0] for name, column in support.fields.items()}
    rows = Batch(fields, support.labels[0], support.seen[0], torch.arange(len(support.labels[0])))
    own = adapt(model, rows, inner=Inner(ALL, steps=2))
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert any(not torch.equal(own[name], before[name]) for name in own)


@pytest.mark.parametrize(("scope", "names"), [
    (LAST, {"head.towers.banks.0.blocks.0.weights.0", "head.towers.banks.0.blocks.0.biases.0"}),
    (EMBEDDING, set()),
])
def test_a_scope_holds_what_it_says(table: Table, scope: Scope, names: set[str]) -> None:
    assert set(scope.chosen(rated.model(table))) == names


def test_the_users_embedding_is_the_unknown_row_alone(table: Table, batch: Batch) -> None:
    """Adapting it moves no row of an item, an age or a genre."""
    model = rated.model(table)
    support, _ = parted(batch.fields)
    fields = {name: column[0] for name, column in support.fields.items()} | {"user": torch.zeros_like(support.fields["user"][0])}
    rows = Batch(fields, support.labels[0], support.seen[0], torch.arange(len(support.labels[0])))
    own = adapt(model, rows, inner=Inner(EMBEDDING, steps=2), user="user")
    moved = (own["table"] != model.table).any(1).nonzero().flatten().tolist()
    assert moved == [0]


def test_a_step_that_is_no_number_is_not_taken_and_counted(table: Table, batch: Batch) -> None:
    made = learner(table, Inner(DECISION, steps=2))
    broken = {**batch.fields, PRIOR: batch.fields[PRIOR].clone()}
    broken[PRIOR][0] = float("inf")
    logits = made(broken)
    assert logits.isfinite().all()
    assert isinstance(made.adapter, Steps)
    assert int(made.adapter.lost) == 2


def test_inner_gradients_are_clipped(table: Table, batch: Batch) -> None:
    """No step moves a user's copy further than rate times clip."""
    model = rated.model(table)
    support, _ = parted(batch.fields)
    rows = Batch({name: column[0] for name, column in support.fields.items()}, support.labels[0] * 1e4, support.seen[0],
                 torch.arange(len(support.labels[0])))
    own = adapt(model, rows, inner=Inner(DECISION, steps=1, clip=2.0), rate=0.5)
    shared = dict(model.named_parameters())
    moved = torch.stack([(one - shared[name].detach()).square().sum() for name, one in own.items()]).sum().sqrt()
    assert float(moved) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize(("rates", "learned"), [(fixed, False), (per_layer, True), (per_weight, True)])
def test_learned_rates_are_trained_and_fixed_ones_are_not(
    table: Table, batch: Batch, rates: Callable[[float], object], *, learned: bool
) -> None:
    model = rated.model(table)
    made = Learner(model, Steps(model, Inner(DECISION, second=True), rates=rates(0.1)), user="user")  # type: ignore[arg-type]
    own = [one for name, one in made.named_parameters() if name.startswith("adapter")]
    assert all(one.requires_grad is learned for one in own)
    if learned:
        made(batch.fields).sum().backward()
        assert any(bool(one.grad.abs().sum() > 0) for one in own if one.grad is not None)


def test_first_and_second_order_agree_as_the_rate_vanishes(table: Table, batch: Batch) -> None:
    slopes = []
    for second in (False, True):
        made = learner(table, Inner(DECISION, steps=2, second=second), rate=1e-7).double()
        loss = made(doubled(batch).fields).square().sum()
        slopes.append(torch.autograd.grad(loss, list(made.model.parameters())))
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_the_second_order_gradient_is_that_of_finite_differences(table: Table, batch: Batch) -> None:
    made = learner(table, Inner(DECISION, steps=2, second=True, clip=1e9)).double()
    fields = doubled(batch).fields
    parameter = made.model.dense_parameters()[0]
    slope = torch.autograd.grad(made(fields).square().sum(), parameter)[0].flatten()
    for place in np.random.default_rng(0).permutation(parameter.numel())[:5]:
        values = []
        for change in (1e-6, -1e-6):
            with torch.no_grad():
                parameter.view(-1)[place] += change
                values.append(float(made(fields).square().sum()))
                parameter.view(-1)[place] -= change
        assert float(slope[place]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4, abs=1e-5)


def test_order_of_users_changes_nothing(table: Table, reader: Reader, tmp_path: Path) -> None:
    own = episodes(table, "train", rated.SHORT)
    made = learner(table, Inner(DECISION, steps=2))
    turned = np.arange(len(own))[::-1].copy()
    first, other = made(reader.batch(own).fields), made(reader.batch(own.of(turned)).fields)
    shape = (len(own), -1, first.shape[1])
    torch.testing.assert_close(other.view(shape).flip(0), first.view(shape), rtol=1e-5, atol=1e-6)
