"""What a last layer reads: its output is linear in it, in every bank, fan, recipe and width; and rates and scopes name what they move."""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import everykind, rated
from tests.everykind import fields
from torch import Tensor

from umbel.data.table import Table
from umbel.errors import UserError
from umbel.learn.rates import Rates, fixed, per_layer, per_weight
from umbel.learn.ridge import closed, leaning
from umbel.learn.scope import ALL, DECISION, EMBEDDING, LAST, SCOPES, Scope, scope
from umbel.nn.bank import Bank, Block, Fan
from umbel.nn.heads import Independent
from umbel.nn.recommender import Recommender
from umbel.recipes import RECIPES

WIDTHS = [(5, 3), (5, 4, 3), (5, 6, 4, 1)]


def last(block: Block, hidden: Tensor) -> Tensor:
    """The last layer written out: the first of a block is wide (`members * out, in`), the others are one matrix a member."""
    weight, bias = block.weights[-1], block.biases[-1]
    if len(block.weights) == 1:
        out = torch.nn.functional.linear(hidden[0], weight, bias)
        return out.view(len(out), block.members, -1).transpose(0, 1)
    return torch.baddbmm(bias, hidden, weight)


@pytest.mark.parametrize(("widths", "members"), list(product(WIDTHS, (1, 3))))
def test_a_blocks_output_is_its_last_layer_of_what_that_reads(widths: tuple[int, ...], members: int) -> None:
    torch.manual_seed(0)
    block = Block(members, widths, linear=True, dropout=0.0).eval()
    x = torch.randn(7, 5)
    hidden = block.hidden(x)
    assert hidden.shape == (members, 7, widths[-2])
    torch.testing.assert_close(last(block, hidden), block(x))
    if len(widths) > 2:
        assert (hidden >= 0).all(), "ReLU is below the last layer"


@pytest.mark.parametrize(("widths", "members"), list(product(WIDTHS[1:], (1, 2))))
def test_a_hidden_layer_bends_as_the_block_does(widths: tuple[int, ...], members: int) -> None:
    """Of a block whose last layer bends too, the same hidden layer."""
    torch.manual_seed(0)
    block = Block(members, widths, linear=False, dropout=0.0).eval()
    x = torch.randn(7, 5)
    torch.testing.assert_close(last(block, block.hidden(x)).relu(), block(x))


def test_dropout_is_below_the_last_layer_while_training() -> None:
    torch.manual_seed(0)
    block = Block(2, (5, 50, 3), linear=True, dropout=0.5)
    x = torch.randn(9, 5)
    assert torch.equal(block.eval().hidden(x), block.eval().hidden(x))
    block.train()
    assert not torch.equal(block.hidden(x), block.hidden(x))


def test_a_banks_members_come_in_its_order() -> None:
    torch.manual_seed(0)
    bank = Bank((1, 0, 1), (4, 6, 2), linear=True).eval()
    inputs = (torch.randn(3, 4), torch.randn(3, 4))
    hidden, outputs = bank.hidden(inputs), [one for block in bank(inputs) for one in block.unbind(0)]
    assert bank.order == (1, 0, 2)
    assert len(hidden) == 3
    for place, member in enumerate(bank.order):
        (weight, bias) = (bank.get_parameter(part.name)[part.index] for part in bank.parts(member)[2:])
        torch.testing.assert_close(hidden[place] @ weight[0] + bias[0], outputs[place])


def test_a_fans_members_come_by_number() -> None:
    """Towers of two widths, in two banks."""
    torch.manual_seed(0)
    fan = Fan((0, 1, 0), (4, 6), lasts=(1, 3, 1)).eval()
    inputs = (torch.randn(5, 4), torch.randn(5, 4))
    for member, (hidden, out) in enumerate(zip(fan.hidden(inputs), fan(inputs), strict=True)):
        (weight, bias) = (fan.get_parameter(part.name)[part.index] for part in fan.parts(member)[2:])
        torch.testing.assert_close(hidden @ weight[0] + bias[0], out)


def built(name: str, tower: tuple[int, ...]) -> Recommender:
    torch.manual_seed(0)
    sizes = everykind.sizes(shared=2)
    from dataclasses import replace

    return everykind.awake(RECIPES[name](everykind.schema(3), replace(sizes, tower=tower))).eval()


@pytest.mark.parametrize("tower", [(), (4,), (5, 4)])
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_independent_head_is_linear_in_what_its_towers_read_last(name: str, tower: tuple[int, ...]) -> None:
    """A closed form for new last layers moves the logits by that much: leaning by `d` adds `f . d`, whatever the recipe."""
    model = built(name, tower)
    if not isinstance(model.head, Independent):
        assert not closed(model)
        return
    batch = fields(6)
    seen = model.seen(batch)
    hidden = model.head.hidden(model.heard(model.interact(seen)))
    wide = max(one.shape[1] for one in hidden) + 1
    lean = torch.randn(1, len(hidden), wide, generator=torch.Generator().manual_seed(2))
    moved = leaning(model, seen[None], lean)[0] - model.beyond(seen)
    starts = [part.start for part in model.schema.outputs]
    for task, own in enumerate(hidden):
        expected = torch.cat([own, torch.ones(len(own), 1)], 1) @ lean[0, task]
        torch.testing.assert_close(moved[:, starts[task]], expected, rtol=1e-4, atol=1e-5)
    others = [output for output in range(moved.shape[1]) if output not in starts]
    assert moved[:, others].abs().sum() == 0


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


def named(model: Recommender) -> dict[str, Tensor]:
    return {name: one for name, one in model.named_parameters() if name != "table"}


def test_one_rate_for_everything() -> None:
    rates = fixed(0.25)({"a.b": torch.ones(2, 3), "c": torch.ones(4)})()
    assert {name: (one.shape, float(one)) for name, one in rates.items()} == {"a.b": ((), 0.25), "c": ((), 0.25)}


def test_a_rate_a_tensor_and_a_rate_a_weight() -> None:
    some = {"a.b": torch.ones(2, 3), "c": torch.ones(4)}
    assert [one.shape for one in per_layer(0.5)(some)().values()] == [(), ()]
    weights = per_weight(0.5)(some)()
    assert [one.shape for one in weights.values()] == [(2, 3), (4,)]
    assert all((one == 0.5).all() for one in weights.values())


def test_names_with_dots_come_back_and_can_be_saved(tmp_path: Path) -> None:
    some = {"head.towers.0": torch.ones(2), "head/odd": torch.ones(1)}
    rates = per_weight(0.1)(some)
    assert list(rates()) == list(some)
    again = Rates({name: torch.zeros_like(one) for name, one in some.items()}, learned=True)
    again.load_state_dict(rates.state_dict())
    assert all(torch.equal(one, again()[name]) for name, one in rates().items())
    assert len(list(rates.parameters())) == 2


def test_only_learned_rates_want_gradients() -> None:
    for make, learned in ((fixed(0.1), False), (per_layer(0.1), True), (per_weight(0.1), True)):
        assert all(one.requires_grad is learned for one in make({"a": torch.ones(2)}).parameters())


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_decision_layers_are_all_but_the_embeddings(name: str) -> None:
    """What a scope holds, in every recipe: the last layer inside the decision layers, these inside everything."""
    model = built(name, (4,))
    every, decision, top = (set(one.chosen(model)) for one in (ALL, DECISION, LAST))
    assert every == set(named(model))
    assert top <= decision <= every
    assert top
    assert {name.split(".")[0] for name in decision} <= {"layers", "head"}
    assert all(name.startswith(("views.", "interact.", "offsets", "places")) for name in every - decision)
    assert EMBEDDING.chosen(model) == {}


@pytest.mark.parametrize(("tower", "level"), [((), 0), ((4,), 1), ((5, 4), 2)])
def test_the_last_layer_is_the_last_of_its_stack(table: Table, tower: tuple[int, ...], level: int) -> None:
    from umbel.recipes import shared_bottom

    found = LAST.chosen(shared_bottom(table.schema, rated.sizes(table, tower=tower)))
    assert {name.rpartition(".")[2] for name in found} == {str(level)}
    assert {name.split(".")[-2] for name in found} == {"weights", "biases"}


def test_a_parameter_of_no_stack_is_its_own_last(table: Table) -> None:
    model = rated.model(table)
    odd = Scope(("views.",), last=True)
    assert set(odd.chosen(model)) == {name for name in named(model) if name.startswith("views.")}


@pytest.mark.parametrize("name", SCOPES)
def test_scopes_by_name(name: str) -> None:
    assert scope(name) == SCOPES[name]


def test_no_such_scope() -> None:
    with pytest.raises(UserError, match=r"episodes\.scope: no 'decisions'; did you mean 'decision'"):
        scope("decisions")


@pytest.mark.parametrize("make", [fixed, per_layer, per_weight])
def test_a_step_by_any_rates_is_the_same_at_the_start(table: Table, make: object) -> None:
    """All begin at one number, so the first adapted answers are equal."""
    from umbel.coldstart.source import Reader
    from umbel.data.episodes import episodes
    from umbel.learn.adapt import Inner, Steps
    from umbel.learn.episode import Learner

    assert callable(make)
    reader: Reader = rated.setup(table).reader
    batch = reader.batch(episodes(table, "train", rated.SHORT))
    model = rated.model(table).eval()
    answers = [Learner(model, Steps(model, Inner(DECISION, steps=2), rates=one), user="user")(batch.fields)
               for one in (make(0.1), partial(fixed(0.1)))]
    torch.testing.assert_close(*answers)
    assert np.isfinite(answers[0].detach().numpy()).all()
