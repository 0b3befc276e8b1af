"""The laws of every recipe: what any architecture must keep, whatever its routing and paradigm."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests import everykind
from tests.everykind import fields, sizes
from torch import Tensor

from umbel.nn.recommender import Recommender
from umbel.nn.routing import PARADIGMS
from umbel.nn.views import compact
from umbel.recipes import RECIPES, views_of
from umbel.schema import Schema

COVER = everykind.cover(2)


def build(recipe: str, paradigm: str | None = None, *, tasks: int = 2, layers: int = 1, specific: int = 1) -> Recommender:
    torch.manual_seed(0)
    return everykind.awake(everykind.build(recipe, paradigm, sizes(layers=layers, specific=specific), tasks=tasks)).eval()


@pytest.mark.parametrize(("recipe", "paradigm", "layers"), COVER)
def test_rows_together_are_rows_alone(recipe: str, paradigm: str | None, layers: int) -> None:
    model, batch = build(recipe, paradigm, layers=layers), fields(9)
    together = model(batch)
    alone = torch.cat([model({name: column[row:row + 1] for name, column in batch.items()}) for row in range(9)])
    assert together.shape == (9, 2)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("recipe", RECIPES)
def test_permuting_rows_permutes_scores(recipe: str) -> None:
    model, batch = build(recipe), fields(16)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(5))
    moved = model({name: column[order] for name, column in batch.items()})
    torch.testing.assert_close(moved, model(batch)[order], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("recipe", RECIPES)
def test_unknown_and_missing_are_finite(recipe: str) -> None:
    model, batch = build(recipe), fields(4)
    batch["user"] = torch.tensor([0, 10_000, -1, 11], dtype=torch.int32)
    batch["item"] = torch.tensor([0, 17, 2**31 - 1, -1], dtype=torch.int32)
    batch["watched"] = torch.full_like(batch["watched"], -1)
    batch["age"] = torch.full_like(batch["age"], torch.nan)
    batch["picture"] = torch.full_like(batch["picture"], torch.nan)
    assert model(batch).isfinite().all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_code_beyond_the_vocabulary_is_unknown(recipe: str) -> None:
    model, batch = build(recipe), fields(6)
    beyond = dict(batch, user=torch.full_like(batch["user"], 11), item=torch.full_like(batch["item"], 400))
    unknown = dict(batch, user=torch.zeros_like(batch["user"]), item=torch.zeros_like(batch["item"]))
    assert torch.equal(model(beyond), model(unknown))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_field_counts(recipe: str) -> None:
    model, batch = build(recipe), fields(24, missing=False)
    before = model(batch)
    for name, other in fields(24, seed=1, missing=False).items():
        assert not torch.allclose(model({**batch, name: other}), before), name


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_batch_of_no_rows(recipe: str) -> None:
    model = build(recipe)
    assert model({name: column[:0] for name, column in fields(3).items()}).shape == (0, 2)


@pytest.mark.parametrize(("recipe", "paradigm", "layers"), COVER)
def test_touched_rows_score_as_the_whole_table(recipe: str, paradigm: str | None, layers: int) -> None:
    model, batch = build(recipe, paradigm, layers=layers), fields()
    touched, local = compact(model.rows(batch))
    logits = model.score(local, batch)
    assert torch.equal(logits, model(batch))
    whole = torch.autograd.grad(model(batch).square().sum(), model.table)[0]
    few = torch.autograd.grad(logits.square().sum(), local["table"])[0]
    torch.testing.assert_close(few, whole[touched], atol=1e-5, rtol=1e-4)
    rest = torch.ones(len(whole), dtype=torch.bool).index_fill(0, touched, False)
    assert not whole[rest].any()


@pytest.mark.parametrize("recipe", RECIPES)
def test_nothing_is_changed_in_place(recipe: str) -> None:
    model, batch = build(recipe), fields()
    before = {name: column.clone() for name, column in batch.items()}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = model.rows(batch)
    place = rows["place"].clone()
    torch.autograd.backward(model.score(rows, batch).square().sum())
    compact(rows)
    assert all(torch.equal(batch[name].nan_to_num(9), before[name].nan_to_num(9)) for name in batch)
    assert all(torch.equal(model.state_dict()[name], state[name]) for name in state)
    assert torch.equal(rows["place"], place)
    assert rows["table"] is model.table


@pytest.mark.parametrize("recipe", RECIPES)
def test_save_and_load(recipe: str, tmp_path: Path) -> None:
    model, batch = build(recipe, layers=2), fields()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(77)
    other = RECIPES[recipe](everykind.schema(), sizes(layers=2)).eval()
    assert not torch.equal(other(batch), model(batch))
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(other(batch), model(batch))


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_state_is_the_parameters(recipe: str) -> None:
    model = build(recipe, layers=2)
    assert set(model.state_dict()) == set(dict(model.named_parameters()))
    dense = model.dense_parameters()
    assert not any(parameter is model.table for parameter in dense)
    assert len(dense) + 1 == len(list(model.parameters()))


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_caller_seeds(recipe: str) -> None:
    first, again = build(recipe).state_dict(), build(recipe).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("recipe", RECIPES)
def test_one_batch_can_be_overfitted(recipe: str) -> None:
    torch.manual_seed(2)
    model = RECIPES[recipe](everykind.schema(), sizes())
    batch, labels = fields(16), everykind.labels(16, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses: list[float] = []
    while len(losses) < 250 and min(losses, default=1.0) >= 0.02:
        optimizer.zero_grad()
        loss = model.losses(model(batch), labels).sum()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.02


@pytest.mark.parametrize(("recipe", "paradigm", "place"), everykind.cover(3))
def test_any_number_of_tasks(recipe: str, paradigm: str | None, place: int) -> None:
    tasks = (1, 2, 5)[place - 1]
    model = build(recipe, paradigm, tasks=tasks, layers=2)
    logits = model(fields(5))
    assert logits.shape == (5, tasks)
    assert logits.isfinite().all()
    for other in range(1, tasks):
        assert not torch.equal(logits[:, 0], logits[:, other])


@pytest.mark.parametrize(("recipe", "paradigm", "specific"), COVER)
def test_every_parameter_learns(recipe: str, paradigm: str | None, specific: int) -> None:
    model = build(recipe, paradigm, layers=2, specific=specific)
    found = everykind.gradients(model, model(fields(64)).square().sum())
    assert all(bool(gradient.any()) for gradient in found.values())


@pytest.mark.parametrize(("recipe", "paradigm", "tasks"), everykind.cover(3))
def test_the_width_of_a_recipe_is_known_beforehand(recipe: str, paradigm: str | None, tasks: int) -> None:
    model = build(recipe, paradigm, tasks=tasks)
    made = RECIPES[recipe] if paradigm is None else partial(RECIPES[recipe], paradigm=PARADIGMS[paradigm])
    views = views_of(partial(made, everykind.schema(tasks), sizes()))
    assert model.table.shape == (sum(everykind.VOCABULARY.values()), 3 * views)


def test_knowing_the_width_draws_no_numbers() -> None:
    torch.manual_seed(4)
    before = torch.get_rng_state()
    views_of(partial(RECIPES["stem"], everykind.schema(3), sizes()))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_unknown_argument_is_an_error(recipe: str) -> None:
    with pytest.raises(TypeError):
        RECIPES[recipe](everykind.schema(), sizes(), paradim=PARADIGMS["own"])


@pytest.mark.parametrize("recipe", RECIPES)
def test_dropout_is_for_training_only(recipe: str) -> None:
    torch.manual_seed(0)
    size = sizes()
    model = everykind.awake(RECIPES[recipe](everykind.schema(), type(size)(everykind.VOCABULARY, dim=3, dropout=0.5)))
    batch = fields()
    assert not torch.equal(model.train()(batch), model(batch))
    assert torch.equal(model.eval()(batch), model(batch))


def test_a_field_of_the_wrong_width_is_named() -> None:
    model, batch = build("mmoe"), fields()
    batch["watched"] = batch["watched"][:, :3]
    with pytest.raises(ValueError, match=r"watched.*4 columns"):
        model(batch)


@pytest.mark.parametrize("recipe", RECIPES)
def test_fields_of_one_kind_only(recipe: str) -> None:
    for field in everykind.FIELDS:
        if field.like is None:
            one = Schema((field,), everykind.schema().tasks)
            model, batch = RECIPES[recipe](one, sizes()), {field.name: fields(5)[field.name]}
            touched, local = compact(model.rows(batch))
            assert model.score(local, batch).shape == (5, 2)
            assert bool(len(touched)) == field.coded


@pytest.mark.parametrize("recipe", ["mmoe", "stem"])
def test_half_precision_is_near(recipe: str) -> None:
    model, batch = build(recipe, layers=2), fields()
    _, local = compact(model.rows(batch))
    with torch.autocast("cpu", torch.bfloat16):
        near = model.score(local, batch)
        losses = model.losses(near, everykind.labels(24, 2))
    torch.testing.assert_close(near.float(), model(batch), atol=0.05, rtol=0.05)
    (gradient,) = torch.autograd.grad(losses.sum(), local["table"])
    assert gradient.dtype == torch.float32
    assert gradient.isfinite().all()


def test_codes_of_any_integer_type_score_alike() -> None:
    model, batch = build("stem"), fields()
    wide = {name: column.long() if column.dtype == torch.int32 else column for name, column in batch.items()}
    assert torch.equal(model(batch), model(wide))


def test_a_column_of_one_is_a_column() -> None:
    model, batch = build("stem"), fields()
    tall: dict[str, Tensor] = {name: column[:, None] if column.ndim == 1 else column for name, column in batch.items()}
    assert torch.equal(model(batch), model(tall))
