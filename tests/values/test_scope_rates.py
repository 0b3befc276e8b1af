"""What becomes a user's own, recipe by recipe, and the learning rates of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests import rated

from umbel.data.table import Table
from umbel.errors import UserError
from umbel.learn.rates import MakeRates, Rates, fixed, per_layer, per_weight
from umbel.learn.scope import ALL, DECISION, EMBEDDING, LAST, SCOPES, Scope, scope
from umbel.nn.heads import HEADS
from umbel.nn.recommender import Parts, Recommender
from umbel.recipes import RECIPES
from umbel.schema import Schema, Task


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


def dense(model: Recommender) -> set[str]:
    return {name for name, _ in model.named_parameters() if name != "table"}


@pytest.mark.parametrize("recipe", ["alone", "shared_bottom", "mmoe", "ple", "stem", "cross_stitch", "home", "pepnet"])
def test_all_is_everything_dense_and_the_table(table: Table, recipe: str) -> None:
    model = rated.model(table, recipe)
    assert set(ALL.chosen(model)) == dense(model)
    assert ALL.table
    assert not ALL.own


@pytest.mark.parametrize("recipe", ["alone", "shared_bottom", "mmoe", "ple", "stem", "cross_stitch", "home", "pepnet"])
def test_decision_layers_are_all_but_what_makes_the_views(table: Table, recipe: str) -> None:
    model = rated.model(table, recipe)
    chosen = set(DECISION.chosen(model))
    left = dense(model) - chosen
    assert chosen
    assert all(name.startswith(("views.", "interact.")) for name in left)
    assert not DECISION.table


@pytest.mark.parametrize("recipe", ["alone", "shared_bottom", "mmoe", "ple", "stem"])
@pytest.mark.parametrize("tower", [(), (4,), (4, 3)])
def test_the_last_layer_is_the_topmost_of_every_tower(table: Table, recipe: str, tower: tuple[int, ...]) -> None:
    model = RECIPES[recipe](table.schema, rated.sizes(table, tower=tower))
    chosen = LAST.chosen(model)
    assert {name.rpartition(".")[2] for name in chosen} == {str(len(tower))}
    assert all(name.startswith("head.") for name in chosen)
    outputs = model(table.batch(torch.arange(4)).fields)
    gradients = torch.autograd.grad(outputs.sum(), list(chosen.values()))
    assert all(one.shape == mine.shape for one, mine in zip(gradients, chosen.values(), strict=True))


def test_the_outputs_are_linear_in_the_last_layer(table: Table) -> None:
    """Doubling its weights and biases doubles the logits."""
    model = rated.model(table)
    fields = table.batch(torch.arange(5)).fields
    before = model(fields)
    with torch.no_grad():
        for one in LAST.chosen(model).values():
            one.mul_(2)
    torch.testing.assert_close(model(fields), 2 * before)


def test_a_users_embedding_is_nothing_dense(table: Table) -> None:
    assert EMBEDDING.chosen(rated.model(table)) == {}
    assert EMBEDDING.table
    assert EMBEDDING.own


@pytest.mark.parametrize("head", ["esmm", "aitm", "dbmtl"])
def test_heads_whose_towers_speak_to_each_other_have_last_layers_too(table: Table, head: str) -> None:
    schema = Schema(table.schema.fields, (Task("click"), Task("buy", given="click")))
    model = RECIPES["shared_bottom"](schema, rated.sizes(table, tower=(4,)), parts=Parts(head=HEADS[head]()))
    chosen = LAST.chosen(model)
    assert chosen
    assert set(chosen) < set(DECISION.chosen(model))


@pytest.mark.parametrize("name", SCOPES)
def test_every_scope_has_a_name(name: str) -> None:
    assert scope(name) is SCOPES[name]


@pytest.mark.parametrize(("name", "said"), [("lst", "last"), ("decisions", "decision"), ("everything", "known:")])
def test_a_scope_that_does_not_exist_names_the_nearest(name: str, said: str) -> None:
    with pytest.raises(UserError, match="no ") as caught:
        scope(name)
    assert said in str(caught.value)


def test_scopes_are_values() -> None:
    assert Scope(("head.",), last=True) == LAST
    assert len({*SCOPES.values()}) == len(SCOPES)


NAMED = {"head.weights.0": torch.zeros(2, 3), "head.biases.0": torch.zeros(2), "table": torch.zeros(())}


@pytest.mark.parametrize("make", [fixed, per_layer, per_weight])
def test_rates_begin_at_the_rate_that_is_given(make: Callable[[float], MakeRates]) -> None:
    found = make(0.25)(NAMED)()
    assert set(found) == set(NAMED)
    assert all(bool((one == 0.25).all()) for one in found.values())


@pytest.mark.parametrize(("make", "shapes"), [
    (fixed, [(), (), ()]),
    (per_layer, [(), (), ()]),
    (per_weight, [(2, 3), (2,), ()]),
])
def test_one_number_a_tensor_or_one_a_weight(make: Callable[[float], MakeRates], shapes: list[tuple[int, ...]]) -> None:
    assert [tuple(one.shape) for one in make(0.1)(NAMED)().values()] == shapes


@pytest.mark.parametrize(("make", "learned"), [(fixed, False), (per_layer, True), (per_weight, True)])
def test_only_learned_rates_are_trained(make: Callable[[float], MakeRates], *, learned: bool) -> None:
    assert all(one.requires_grad is learned for one in make(0.1)(NAMED).parameters())


def test_rates_are_kept_with_a_models_weights() -> None:
    rates = per_layer(0.1)(NAMED)
    with torch.no_grad():
        next(rates.parameters()).fill_(0.7)
    other: Rates = per_layer(0.1)(NAMED)
    other.load_state_dict(rates.state_dict())
    told = [{name: one.item() for name, one in made().items()} for made in (other, rates)]
    assert told[0] == told[1]
    assert any(one == pytest.approx(0.7) for one in told[0].values())


def test_rates_of_nothing_are_nothing() -> None:
    assert fixed(0.1)({})() == {}


def test_names_with_dots_come_back_as_they_were(tmp_path: Path) -> None:
    torch.save(per_weight(0.5)(NAMED).state_dict(), tmp_path / "rates.pt")
    assert set(per_weight(0.5)(NAMED)()) == {"head.weights.0", "head.biases.0", "table"}
