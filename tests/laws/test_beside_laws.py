"""What a model must stand beside being scored: other precision, other weights, batches of tables, inner gradients; for every layer kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import pytest
import torch
from tests import everykind
from tests.everykind import fields, sizes
from tests.laws.test_export import Score
from torch import Tensor

from umbel.nn.layer import Layer
from umbel.nn.recommender import Recommender
from umbel.nn.views import compact
from umbel.recipes import RECIPES, ame, cross_stitch, home, pepnet

BESIDE = ("cross_stitch", "snr_trans", "snr_aver", "adatt", "home", "pepnet", "ame", "stem_al", "stem_fields", "grouped")


def model_of(recipe: str, *, layers: int = 2, tasks: int = 2, specific: int = 2) -> Recommender:
    torch.manual_seed(0)
    return everykind.awake(everykind.build(recipe, None, sizes(layers=layers, specific=specific), tasks=tasks)).eval()


@pytest.mark.parametrize("recipe", BESIDE)
def test_half_precision_is_near(recipe: str) -> None:
    model, batch = model_of(recipe), fields()
    _, local = compact(model.rows(batch))
    with torch.autocast("cpu", torch.bfloat16):
        near = model.score(local, batch)
    whole = model(batch).detach()
    torch.testing.assert_close(near.float(), whole, atol=0.06 * float(whole.abs().max()), rtol=0.05)
    (gradient,) = torch.autograd.grad(model.losses(near.float(), everykind.labels(24, 2)).sum(), local["table"])
    assert gradient.dtype == torch.float32
    assert gradient.isfinite().all()


@pytest.mark.parametrize("recipe", BESIDE)
def test_a_model_can_be_told_its_precision(recipe: str) -> None:
    model, batch = model_of(recipe), fields(6)
    single = model(batch)
    double = model.double()(batch)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("recipe", BESIDE)
def test_other_weights_without_another_model(recipe: str) -> None:
    model, batch = model_of(recipe), fields(10)
    rows = model.rows(batch)
    weights = {f"model.{name}": 0.5 * parameter.detach() for name, parameter in model.named_parameters()}
    found = torch.func.functional_call(Score(model), weights, (rows, batch))
    before = model(batch)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "table":
                parameter.mul_(0.5)
    torch.testing.assert_close(found, model(batch))
    assert not torch.allclose(found, before)


@pytest.mark.parametrize("recipe", BESIDE)
def test_many_tables_at_once(recipe: str) -> None:
    """Batched over users: each with a table of its own and places of its own."""
    model = model_of(recipe, layers=1)
    batches = [fields(5, seed=seed) for seed in range(3)]
    tables = torch.randn(3, *model.table.shape, generator=torch.Generator().manual_seed(2))
    places = torch.stack([model.rows(batch)["place"] for batch in batches])
    stacked = {name: torch.stack([batch[name] for batch in batches]) for name in batches[0]}

    def score(table: Tensor, place: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        return model.score({"table": table, "place": place}, batch)

    found = torch.func.vmap(score)(tables, places, stacked)
    for one, batch in enumerate(batches):
        torch.testing.assert_close(found[one], score(tables[one], places[one], batch), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("recipe", BESIDE)
def test_an_inner_gradient_is_a_gradient(recipe: str) -> None:
    """The slope of the objective along a random direction of the touched rows."""
    model, batch = model_of(recipe, layers=1).double(), fields(10)
    _, local = compact(model.rows(batch))

    def objective(table: Tensor) -> Tensor:
        return model.score({**local, "table": table}, batch).square().mean()

    table: Tensor = local["table"].detach()
    gradient = torch.func.grad(objective)(table)
    assert gradient.isfinite().all()
    if recipe == "pepnet":  # it does not follow the slope through what its gates read
        return
    direction = torch.randn(table.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    slope = (objective(table + 1e-6 * direction) - objective(table - 1e-6 * direction)) / 2e-6
    if recipe not in ("stem_al", "stem_fields"):  # nor do these through what other tasks' experts say
        assert slope.item() == pytest.approx((gradient * direction).sum().item(), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("recipe", BESIDE)
def test_every_layer_says_how_wide_it_is(recipe: str) -> None:
    model, batch = model_of(recipe), fields(4)
    inputs: tuple[Tensor, ...] = model.interact(model.views(model.rows(batch), batch))
    for layer in model.layers:
        assert isinstance(layer, Layer)
        voices: tuple[Tensor, ...] = layer(inputs)
        assert {voice.shape for voice in voices} == {(4, layer.width)}
        assert set(layer.voice) == set(range(len(voices)))
        lessons = layer.lessons([(reader,) for reader in range(len(layer.voice))])
        assert len(lessons.inputs) == len(inputs)
        inputs = tuple(voices[own] for own in layer.voice)


@pytest.mark.parametrize("recipe", BESIDE)
def test_lessons_grow_with_their_readers(recipe: str) -> None:
    """A reader that learns from one task more takes no task away from anything below it."""
    for layer in model_of(recipe, tasks=3).layers:
        assert isinstance(layer, Layer)
        few = [(0,)] * len(layer.voice)
        for reader in range(len(layer.voice)):
            before = layer.lessons(few)
            after = layer.lessons([(0, 1) if one == reader else own for one, own in enumerate(few)])
            pairs = [(before.groups[name][1], after.groups[name][1]) for name in before.groups]
            for one, more in [*pairs, *zip(before.inputs, after.inputs, strict=True)]:
                assert set(one) <= set(more)


@pytest.mark.parametrize("recipe", BESIDE)
def test_nobody_teaches_what_nobody_reads(recipe: str) -> None:
    for layer in model_of(recipe).layers:
        assert isinstance(layer, Layer)
        lessons = layer.lessons([()] * len(layer.voice))
        assert not any(tasks for _, tasks in lessons.groups.values())
        assert not any(lessons.inputs)


MADE: list[Callable[..., Recommender]] = [
    partial(home, groups=(("click",), ("seconds", "like"))),
    partial(home, groups=(("click", "seconds", "like"),), rank=1),
    partial(pepnet, domain=("hour", "price"), prior=("item", "tags", "picture")),
    partial(pepnet, domain=(), prior=()),
    partial(pepnet, domain=("watched",)),
    partial(ame, tables=(1,)),
    partial(ame, tables=(2, 1, 1, 1, 1, 1)),
    partial(ame, tables=(1, 2), routes=((0, 1), (1,), (0,))),
    partial(ame, tables=(3, 1), routes=((0,), (1,), (1,))),
    partial(RECIPES["snr_trans"], sparsity=0.0),
    cross_stitch,
]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("made", MADE)
def test_options_keep_the_gradient_law(made: Callable[..., Recommender], layers: int) -> None:
    torch.manual_seed(3)
    model = everykind.awake(made(everykind.schema(3), sizes(layers=layers, shared=2))).eval()
    losses = model.losses(model(fields(48)), everykind.labels(48, 3))
    groups, reach = model.groups(), model.reach
    for task, loss in enumerate(losses):
        found = everykind.gradients(model, loss)
        reached = {name for name, parts in groups.items() if everykind.touched(parts, found)}
        assert reached == {name for name in reach if task in reach[name]}
