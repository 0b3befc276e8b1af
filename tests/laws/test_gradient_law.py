"""The gradient law: a task's gradient reaches a group of parameters if and only if the recipe declares it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from tests import everykind
from tests.everykind import fields, gradients, sizes, touched
from torch import Tensor, nn

from umbel.nn.bank import Fan, Part
from umbel.nn.heads import Head, Taught
from umbel.nn.interact import Interact, Shape
from umbel.nn.losses import Denominator, Labelled, task_losses
from umbel.nn.recommender import Parts, Recommender, Sizes
from umbel.nn.routing import PARADIGMS, Route, Routing
from umbel.recipes import RECIPES, alone, mmoe, ple, routed, stem
from umbel.schema import Schema


def check(model: Recommender, rows: int = 48) -> None:
    """Every task against every group, and every group against its declaration.

    No draw of the numbers reaches what is not declared; where a loss has hinges, several draws together reach all that is.
    """
    batch = everykind.labels(rows, len(model.schema.tasks))
    groups, reach = model.groups(), model.reach
    assert set(groups) == set(reach)
    declared = {(task, name) for name, tasks in reach.items() for task in tasks}
    reached: set[tuple[int, str]] = set()
    for seed in range(1, 9):
        losses = model.losses(everykind.turned(everykind.awake(model, seed), seed).eval()(fields(rows)), batch)
        for task, loss in enumerate(losses):
            found = gradients(model, loss)
            reached |= {(task, name) for name, parts in groups.items() if touched(parts, found)}
        if reached >= declared:
            break
    assert reached == declared


@pytest.mark.parametrize(("recipe", "paradigm", "layers"), everykind.cover(3))
def test_reach_is_what_is_declared(recipe: str, paradigm: str | None, layers: int) -> None:
    torch.manual_seed(0)
    check(everykind.build(recipe, paradigm, sizes(layers=layers), tasks=3))


@pytest.mark.parametrize(("recipe", "paradigm", "layers"), everykind.cover(2))
def test_reach_with_more_experts_and_deep_gates(recipe: str, paradigm: str | None, layers: int) -> None:
    torch.manual_seed(1)
    check(everykind.build(recipe, paradigm, sizes(layers=layers, specific=2, shared=3, gate=(7, 5))))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("recipe", [stem, ple])
def test_reach_of_the_published_code(recipe: object, layers: int) -> None:
    torch.manual_seed(2)
    assert callable(recipe)
    check(recipe(everykind.schema(2), sizes(layers=layers), legacy=True))


def test_reach_of_the_ablation() -> None:
    torch.manual_seed(3)
    model = stem(everykind.schema(2), sizes(), taught=True)
    check(model)
    assert model.reach["layer 0 expert 0"] == (0, 1)


@pytest.mark.parametrize(("recipe", "paradigm", "layers"), everykind.cover(2))
def test_groups_cover_every_number_once(recipe: str, paradigm: str | None, layers: int) -> None:
    model = everykind.build(recipe, paradigm, sizes(layers=layers, specific=2), tasks=3)
    counts = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for parts in model.groups().values():
        for part in parts:
            part.of(counts).add_(1)
    assert all(bool((count == 1).all()) for count in counts.values())


@pytest.mark.parametrize("recipe", RECIPES)
def test_groups_bear_the_tasks_names(recipe: str) -> None:
    model = RECIPES[recipe](everykind.schema(3), sizes())
    assert {"tower click", "tower seconds", "tower like", "view 0"} <= set(model.groups())
    assert model.reach["tower seconds"] == (1,)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_stem_keeps_tasks_apart_however_deep(layers: int) -> None:
    model = stem(everykind.schema(3), sizes(layers=layers, shared=2))
    for level in range(layers):
        assert [model.reach[f"layer {level} expert {task}"] for task in range(3)] == [(0,), (1,), (2,)]
    assert [model.reach[f"view {view}"] for view in range(4)] == [(0,), (1,), (2,), (0, 1, 2)]


def test_the_published_stem_leaks_with_two_layers() -> None:
    assert stem(everykind.schema(), sizes(layers=1), legacy=True).reach["layer 0 expert 0"] == (0,)
    assert stem(everykind.schema(), sizes(layers=2), legacy=True).reach["layer 0 expert 0"] == (0, 1)


def test_alone_shares_nothing() -> None:
    model = alone(everykind.schema(4), sizes(layers=2, specific=2))
    assert all(len(tasks) == 1 for tasks in model.reach.values())


def test_mmoe_shares_all_but_gates_and_towers_at_the_top() -> None:
    model = mmoe(everykind.schema(2), sizes())
    apart = {name for name, tasks in model.reach.items() if len(tasks) == 1}
    assert apart == {"tower click", "tower seconds", "layer 0 gate 0", "layer 0 gate 1"}


def test_a_custom_routing_is_held_to_its_table() -> None:
    """One way: task 1 learns from what task 0 knows and never teaches it."""
    routing = Routing(views=(0, 1), table=((Route.OPEN, Route.HIDDEN), (Route.STOPPED, Route.OPEN)), gates=((0,), (1,)))
    torch.manual_seed(4)
    model = routed(everykind.schema(2), sizes(), routings=(routing,))
    check(model)
    assert model.reach["view 0"] == (0,)
    assert "layer 0 gate 0" not in model.reach


class Handed(Head):
    """Each tower also reads the reader before it, not stopped: a head whose tasks speak to each other."""

    def __init__(self, schema: Schema, voice: tuple[int, ...], *, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.voice = voice
        self.names = [task.name for task in schema.tasks]
        self.hears = tuple(tuple(range(max(task - 1, 0), task + 1)) for task in range(len(self.names)))
        self.hand = nn.Parameter(torch.randn(len(self.names), widths[0]))
        self.towers = Fan(tuple(range(len(self.names))), widths, lasts=(1,) * len(self.names), dropout=dropout)

    def forward(self, voices: Sequence[Tensor]) -> Tensor:
        own = [voices[voice] for voice in self.voice[:len(self.names)]]
        handed = [one + (own[task - 1] * self.hand[task] if task else 0.0 * self.hand[0]) for task, one in enumerate(own)]
        return torch.cat(self.towers(handed), 1)

    def losses(self, logits: Tensor, batch: Labelled, schema: Schema, *, denominator: Denominator) -> Tensor:
        return task_losses(logits, batch, schema, denominator=denominator)

    def paid(self, batch: Labelled) -> Tensor:
        return batch.seen

    def groups(self) -> dict[str, Taught]:
        found: dict[str, Taught] = {}
        for task, name in enumerate(self.names):
            found[f"tower {name}"] = (tuple(part.under("towers") for part in self.towers.parts(task)), (task,))
            found[f"hand {name}"] = ((Part("hand", (slice(task, task + 1),)),), (task,) if task else ())
        return found


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("recipe", [alone, ple, stem])
def test_a_head_whose_towers_speak_declares_it(recipe: object, layers: int) -> None:
    torch.manual_seed(5)
    assert callable(recipe)
    model = recipe(everykind.schema(3), sizes(layers=layers), parts=Parts(head=Handed))
    check(model)
    assert model.reach[f"layer {layers - 1} expert 0"] == (0, 1)
    assert model.reach[f"layer {layers - 1} expert 2"] == (2,)


class Scaled(Interact):
    """Fields side by side, each number scaled by a weight of its view."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        views, fields, dim = shape
        self.width = fields * dim
        self.scale = nn.Parameter(torch.rand(views, fields, dim) + 0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(view.flatten(1) for view in (x * self.scale).unbind(1))

    def parts(self, view: int) -> tuple[Part, ...]:
        return (Part("scale", (slice(view, view + 1),)),)


@pytest.mark.parametrize("recipe", [alone, mmoe, stem])
def test_an_interaction_has_weights_per_view(recipe: object) -> None:
    torch.manual_seed(6)
    assert callable(recipe)
    model = recipe(everykind.schema(2), sizes(), parts=Parts(interact=Scaled))
    check(model)
    assert any(part.name == "interact.scale" for part in model.groups()["view 0"])


def test_the_law_can_be_broken() -> None:
    """A declaration that is wrong in one place is caught."""
    model = everykind.awake(mmoe(everykind.schema(2), Sizes(everykind.VOCABULARY)))
    other = stem(everykind.schema(2), Sizes(everykind.VOCABULARY), paradigm=PARADIGMS["shared"]).layers[0]
    object.__setattr__(model.layers[0], "routing", other.routing)
    with pytest.raises(AssertionError):
        check(model)
