"""STEM's gradient flow and its three analytic checks, and the parameter counts of the published settings."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests import everykind
from tests.everykind import fields, gradients, sizes, touched
from torch import Tensor

from umbel.nn.bank import Part
from umbel.nn.mixture import Mixture
from umbel.nn.recommender import Recommender, Sizes
from umbel.nn.routing import own_views
from umbel.recipes import alone, mmoe, omoe, ple, shared_bottom, stem
from umbel.schema import Field, FieldKind, Schema, Task

TASKS = 2
PUBLISHED = Schema(tuple(Field(f"f{number}", FieldKind.CATEGORY) for number in range(8)), (Task("finish"), Task("like")))
VOCABULARY = {f"f{number}": 10 + number for number in range(8)}
ROWS = sum(VOCABULARY.values())
COLUMNS = ("view 0", "view 1", "view 2", "layer 0 expert 0", "layer 0 expert 1", "layer 0 expert 2", "layer 0 gate 0", "layer 0 gate 1",
           "tower click", "tower seconds")
FLOW = {
    0: (True, False, True, True, False, True, True, False, True, False),
    1: (False, True, True, False, True, True, False, True, False, True),
}


def published(specific: int, shared: int, tower: tuple[int, ...] = (128, 64)) -> Sizes:
    return Sizes(VOCABULARY, dim=16, expert=(512, 512, 512), gate=(128, 64), tower=tower, specific=specific, shared=shared)


def dense(model: Recommender) -> int:
    return sum(parameter.numel() for parameter in model.dense_parameters())


@pytest.mark.parametrize("task", [0, 1])
def test_the_published_flow(task: int) -> None:
    model = everykind.awake(stem(everykind.schema(TASKS), sizes()))
    found = gradients(model, model(fields(48))[:, task].square().sum())
    assert tuple(touched(model.groups()[name], found) for name in COLUMNS) == FLOW[task]


@pytest.mark.parametrize("task", [0, 1])
def test_the_published_shared_gate_gets_none(task: int) -> None:
    model = everykind.awake(stem(everykind.schema(TASKS), sizes(), legacy=True))
    found = gradients(model, model(fields(48))[:, task].square().sum())
    assert not touched(model.groups()["layer 0 gate 2"], found)
    assert model.reach["layer 0 gate 2"] == ()
    assert tuple(touched(model.groups()[name], found) for name in COLUMNS) == FLOW[task]


def test_a_uniform_gate_gives_the_mean_of_the_experts() -> None:
    """Check (a): with gate weights of zero, h_i is the mean of all N candidates, whichever are stopped."""
    model = everykind.awake(stem(everykind.schema(TASKS), sizes(specific=2, shared=3)))
    silence(model)
    batch = fields()
    voices, experts = said(model, batch)
    assert len(experts) == 7
    for voice in voices:
        torch.testing.assert_close(voice, torch.stack(experts).mean(0), atol=1e-6, rtol=1e-6)


def test_a_uniform_gate_of_ple_gives_the_mean_of_those_it_hears() -> None:
    model = everykind.awake(ple(everykind.schema(TASKS), sizes(specific=1, shared=2)))
    silence(model)
    voices, experts = said(model, fields())
    for task, voice in enumerate(voices):
        heard = torch.stack([experts[task], experts[2], experts[3]])
        torch.testing.assert_close(voice, heard.mean(0), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_stopping_gradients_changes_no_value(layers: int) -> None:
    """Check (b)."""
    stopped = everykind.awake(stem(everykind.schema(3), sizes(layers=layers, shared=2)))
    taught = everykind.awake(stem(everykind.schema(3), sizes(layers=layers, shared=2), taught=True))
    taught.load_state_dict(stopped.state_dict())
    batch = fields()
    torch.testing.assert_close(stopped(batch), taught(batch), atol=1e-6, rtol=1e-6)
    first = gradients(stopped, stopped(batch)[:, 0].sum())
    second = gradients(taught, taught(batch)[:, 0].sum())
    assert not touched(stopped.groups()["layer 0 expert 1"], first)
    assert touched(taught.groups()["layer 0 expert 1"], second)


def test_without_shared_experts_and_gates_on_its_own_each_task_is_alone() -> None:
    """Check (c): K2 = 0, every gate one-hot on its task's expert: T independent single-task nets."""
    together = everykind.awake(stem(everykind.schema(TASKS), sizes(shared=0), paradigm=own_views))
    apart = everykind.awake(alone(everykind.schema(TASKS), sizes()))
    for name, parts in apart.groups().items():
        transfer(together.groups()[name], together, parts, apart)
    decide(together)
    batch = fields()
    torch.testing.assert_close(together(batch), apart(batch), atol=1e-6, rtol=1e-6)


def test_one_hot_gates_with_the_paper_s_views() -> None:
    """The same with a shared view that only gates read."""
    together = everykind.awake(stem(everykind.schema(TASKS), sizes(shared=0)))
    apart = everykind.awake(alone(everykind.schema(TASKS), sizes()))
    assert together.views.views == 3
    for name, parts in apart.groups().items():
        transfer(together.groups()[name], together, parts, apart)
    decide(together)
    batch = fields()
    torch.testing.assert_close(together(batch), apart(batch), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("recipe", "total"), [
    (lambda: stem(PUBLISHED, published(1, 8), legacy=True), 6_137_824),
    (lambda: ple(PUBLISHED, published(1, 8), legacy=True), 6_137_564),
    (lambda: mmoe(PUBLISHED, published(0, 8)), 4_929_426),
    (lambda: omoe(PUBLISHED, published(0, 8)), 4_904_138),
    (lambda: shared_bottom(PUBLISHED, published(0, 1, tower=(128, 128))), 755_970),
], ids=["stem", "ple", "mmoe", "omoe", "shared_bottom"])
def test_dense_parameters_as_published(recipe: Callable[[], Recommender], total: int) -> None:
    assert dense(recipe()) == total


@pytest.mark.parametrize(("recipe", "views"), [
    (lambda: stem(PUBLISHED, published(1, 8), legacy=True), 3),
    (lambda: ple(PUBLISHED, published(1, 8), legacy=True), 1),
    (lambda: mmoe(PUBLISHED, published(0, 8)), 1),
    (lambda: shared_bottom(PUBLISHED, published(0, 1)), 1),
], ids=["stem", "ple", "mmoe", "shared_bottom"])
def test_embedding_parameters_as_published(recipe: Callable[[], Recommender], views: int) -> None:
    assert recipe().table.shape == (ROWS, 16 * views)


@pytest.mark.parametrize(("recipe", "groups"), [
    (lambda: stem(PUBLISHED, published(1, 8), legacy=True), {"expert": 591_360, "gate": 25_418, "tower": 73_985}),
    (lambda: mmoe(PUBLISHED, published(0, 8)), {"expert": 591_360, "gate": 25_288, "tower": 73_985}),
    (lambda: omoe(PUBLISHED, published(0, 8)), {"expert": 591_360, "gate": 25_288, "tower": 73_985}),
], ids=["stem", "mmoe", "omoe"])
def test_the_breakdown_as_published(recipe: Callable[[], Recommender], groups: dict[str, int]) -> None:
    assert numbers(recipe(), "expert") == {groups["expert"]}
    assert numbers(recipe(), "gate") == {groups["gate"]}
    assert numbers(recipe(), "tower") == {groups["tower"]}


def test_the_breakdown_of_ple() -> None:
    """Task gates choose among nine experts, the shared gate of the published code among eight."""
    assert numbers(ple(PUBLISHED, published(1, 8), legacy=True), "gate") == {25_353, 25_288}


def test_without_parity_nothing_is_dead() -> None:
    """One layer has no use for a shared gate: 25,418 parameters less."""
    assert dense(stem(PUBLISHED, published(1, 8))) == 6_137_824 - 25_418
    assert dense(ple(PUBLISHED, published(1, 8))) == 6_137_564 - 25_288


def test_recipes_of_one_size_have_the_same_experts() -> None:
    size = published(2, 3)
    for recipe in (mmoe, omoe, ple, stem):
        experts = [name for name in recipe(PUBLISHED, size).groups() if "expert" in name]
        assert len(experts) == 7


def numbers(model: Recommender, kind: str) -> set[int]:
    """How many parameters the groups of one kind have."""
    named = {name: parameter for name, parameter in model.named_parameters() if name != "table"}
    groups = [parts for name, parts in model.groups().items() if kind in name]
    return {sum(part.of(dict(named)).numel() for part in parts) for parts in groups}


def silence(model: Recommender) -> None:
    """Gates whose last layer is zero."""
    with torch.no_grad():
        for name, parts in model.groups().items():
            if "gate" in name:
                for part in parts:
                    part.of(dict(model.named_parameters())).zero_()


def decide(model: Recommender) -> None:
    """Gates that give everything to the task's own expert: weights of zero, and one large bias."""
    silence(model)
    with torch.no_grad():
        for task in range(TASKS):
            for part in model.groups()[f"layer 0 gate {task}"]:
                if "biases" in part.name:
                    part.of(dict(model.named_parameters())).flatten()[task] = 100.0


def transfer(to: tuple[Part, ...], target: Recommender, of: tuple[Part, ...], source: Recommender) -> None:
    """Copy one group's numbers into another's."""
    with torch.no_grad():
        for own, other in zip(to, of, strict=True):
            own.of(dict(target.named_parameters())).copy_(other.of(dict(source.named_parameters())))


def said(model: Recommender, batch: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """What each task hears, and what each expert says."""
    inputs = model.interact(model.views(model.rows(batch), batch))
    mixture = model.layers[0]
    assert isinstance(mixture, Mixture)
    bank, voice = mixture.bank, mixture.voice
    blocks: list[Tensor] = [one for block in bank(inputs) for one in block.unbind(0)]
    experts = [blocks[bank.order.index(expert)] for expert in range(len(blocks))]
    voices = mixture(inputs)
    return [voices[one] for one in voice], experts
