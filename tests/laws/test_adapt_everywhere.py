"""Adaptation over every recipe, kind of task, interaction and encoder: users together are users one by one, and all stays finite."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from tests import rated
from torch import Tensor
from torch.func import functional_call

from umbel.coldstart.prior import ItemMeans
from umbel.coldstart.source import Reader
from umbel.data.batch import Batch
from umbel.data.episodes import Protocol, episodes
from umbel.data.shots import parted
from umbel.data.table import Table
from umbel.kinds import Ordinal, Poisson, Quantile
from umbel.learn.adapt import Inner, Steps, adapt, shadow
from umbel.learn.episode import Learner, Untouched
from umbel.learn.rates import fixed
from umbel.learn.scope import DECISION, LAST
from umbel.nn.interact import INTERACTS, InteractSizes
from umbel.nn.recommender import Parts, Recommender
from umbel.nn.sequence import SEQUENCES, SequenceSizes
from umbel.recipes import RECIPES
from umbel.schema import REGRESSION, Schema, Task

PROTOCOL = Protocol(support=None, query=3, history=(7, 100))
CHAINED = ("esmm", "escm2", "aitm")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="module")
def batch(table: Table) -> Batch:
    return Reader(table, ItemMeans.of(table)).batch(episodes(table, "train", PROTOCOL))


def awake(model: Recommender) -> Recommender:
    torch.manual_seed(3)
    with torch.no_grad():
        for one in model.parameters():
            one.normal_(std=0.4)
    return model.eval()


def alone(model: Recommender, batch: Batch, inner: Inner, rate: float) -> Tensor:
    """A user at a time, without padding, each by `adapt` and a plain call of the model."""
    support, query = parted(batch.fields)
    users, found = len(support.labels), []
    for user in range(users):
        there = support.weight[user] > 0
        fields = {name: column[user][there] for name, column in support.fields.items()}
        rows = Batch(fields, support.labels[user][there], support.seen[user][there], torch.arange(int(there.sum())))
        own = adapt(model, rows, inner=inner, rate=rate, prior=support.prior[user][there])
        asked = {name: column.view(users, -1, *column.shape[1:])[user] for name, column in query.items()}
        found.append(functional_call(shadow(model), own, (asked,)))
    logits = torch.cat(found)
    logits[:, : batch.fields[":prior"].shape[1]] += batch.fields[":prior"]
    return logits


def check(model: Recommender, batch: Batch, inner: Inner, *, rate: float = 0.0625) -> None:
    together = Learner(model, Steps(model, inner, rates=fixed(rate))).eval()(batch.fields)
    assert together.isfinite().all()
    torch.testing.assert_close(together, alone(model, batch, inner, rate), rtol=2e-4, atol=2e-5)
    assert not torch.allclose(together, Learner(model, Untouched())(batch.fields)), "nothing was adapted"


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name not in CHAINED])
def test_every_recipe_adapts_its_decision_layers(table: Table, batch: Batch, recipe: str) -> None:
    check(awake(RECIPES[recipe](table.schema, rated.sizes(table, tower=(4,)))), batch, Inner(DECISION, steps=2))


@pytest.mark.parametrize("recipe", ["alone", "mmoe", "ple", "stem", "me_mmoe"])
def test_every_table_of_experts_adapts_its_last_layer(table: Table, batch: Batch, recipe: str) -> None:
    check(awake(RECIPES[recipe](table.schema, rated.sizes(table, tower=(4,)))), batch, Inner(LAST, steps=3))


@pytest.mark.parametrize("interact", INTERACTS)
def test_every_interaction(table: Table, batch: Batch, interact: str) -> None:
    parts = Parts(interact=INTERACTS[interact](InteractSizes(hidden=4)))
    check(awake(RECIPES["shared_bottom"](table.schema, rated.sizes(table), parts=parts)), batch, Inner(DECISION, steps=1))


@pytest.mark.parametrize("sequence", [name for name in SEQUENCES if name != "din"])
def test_every_encoder_of_lists(table: Table, batch: Batch, sequence: str) -> None:
    parts = Parts(sequence=SEQUENCES[sequence](SequenceSizes(hidden=3)))
    check(awake(RECIPES["shared_bottom"](table.schema, rated.sizes(table), parts=parts)), batch, Inner(LAST, steps=1))


@pytest.mark.parametrize("kind", [Poisson(), Quantile((0.1, 0.5, 0.9)), Ordinal(6)])
def test_tasks_of_other_kinds_adapt_beside_the_others(table: Table, batch: Batch, kind: object) -> None:
    """Their priors are 0: what is known of an item's mean has no place in their outputs."""
    schema = Schema(table.schema.fields, (Task("rating", kind), Task("click")))  # type: ignore[arg-type]
    model = awake(RECIPES["mmoe"](schema, rated.sizes(table)))
    width = sum(task.kind.outputs for task in schema.tasks)
    fields = {**batch.fields, ":prior": torch.zeros(len(batch.labels), width)}
    fields["support/:prior"] = torch.zeros(*batch.fields["support/:labels"].shape[:2], width)
    check(model, Batch(fields, batch.labels, batch.seen, batch.index), Inner(DECISION, steps=2))


def test_a_task_that_is_given_another_adapts_where_that_holds(table: Table, batch: Batch) -> None:
    schema = Schema(table.schema.fields, (Task("rating", REGRESSION), Task("click")))
    model = awake(RECIPES["stem"](schema, rated.sizes(table)))
    unseen = batch.fields["support/:seen"].clone()
    unseen[:, :, 1] = False
    half = Batch({**batch.fields, "support/:seen": unseen}, batch.labels, batch.seen, batch.index)
    learner = Learner(model, Steps(model, Inner(LAST, steps=2), rates=fixed(0.1))).eval()
    base, moved = Learner(model, Untouched())(half.fields), learner(half.fields)
    torch.testing.assert_close(moved[:, 1], base[:, 1], msg="a task of which nothing was seen moved its tower")
    assert not torch.allclose(moved[:, 0], base[:, 0])


@pytest.mark.parametrize("chunk", [None, 1, 2, 5])
def test_users_may_be_held_a_few_at_a_time(table: Table, batch: Batch, chunk: int | None) -> None:
    model = awake(RECIPES["mmoe"](table.schema, rated.sizes(table)))
    make: Callable[..., Steps] = partial(Steps, model, Inner(DECISION, steps=2), rates=fixed(0.1))
    found = Learner(model, make(chunk=chunk))(batch.fields)
    torch.testing.assert_close(found, Learner(model, make(chunk=None))(batch.fields), rtol=1e-5, atol=1e-6)


def test_dropout_draws_for_every_user_while_training(table: Table, batch: Batch) -> None:
    from dataclasses import replace

    sizes = replace(rated.sizes(table), dropout=0.5)
    model = awake(RECIPES["shared_bottom"](table.schema, sizes))
    learner = Learner(model, Steps(model, Inner(DECISION, steps=1), rates=fixed(0.1)))
    first, second = learner.train()(batch.fields), learner(batch.fields)
    assert first.isfinite().all()
    assert not torch.equal(first, second)
    assert torch.equal(learner.eval()(batch.fields), learner(batch.fields))


def test_a_shadow_has_its_own_places_for_the_same_parameters(table: Table) -> None:
    model = rated.model(table, "stem")
    twin = shadow(model)
    assert {name: id(one) for name, one in twin.named_parameters()} == {name: id(one) for name, one in model.named_parameters()}
    assert all(one is not other for one, other in zip(twin.modules(), model.modules(), strict=True))
    name = next(name for name, _ in twin.head.named_parameters())
    part = twin.head
    *path, last = name.split(".")
    for step in path:
        part = getattr(part, step) if not step.isdigit() else part[int(step)]  # type: ignore[index]
    part._parameters[last] = torch.nn.Parameter(torch.zeros(1))
    assert dict(model.head.named_parameters())[name].numel() > 1, "what is put into the twin is not in the model"
