"""How many numbers a recipe learns: a formula from the counts of views, experts and gates that its name promises."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import torch
from tests import everykind
from tests.everykind import VOCABULARY, fields

from umbel.nn.layer import Layer
from umbel.nn.recommender import Recommender, Sizes
from umbel.nn.routing import PARADIGMS
from umbel.recipes import RECIPES, views_of
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

DIM, EXPERT, TOWER = 3, (10, 8), (6,)
INPUT = len(everykind.FIELDS) * DIM
TABLES = ("alone", "shared_bottom", "omoe", "mmoe", "ple", "stem", "me_mmoe", "me_ple")
COUNTS = [(1, (1, 0)), (1, (2, 1)), (2, (1, 0)), (2, (1, 1)), (3, (2, 1)), (4, (1, 3))]


def dense(widths: tuple[int, ...]) -> int:
    """Weights and biases of an MLP."""
    return sum(fan_in * out + out for fan_in, out in pairwise(widths))


def experts(recipe: str, tasks: int, own: int, shared: int) -> int:
    return {"alone": tasks * own, "shared_bottom": 1}.get(recipe, tasks * own + shared)


def gates(recipe: str, tasks: int, own: int, shared: int) -> tuple[int, int]:
    """How many gates, and over how many experts each; none over one expert."""
    all_of = tasks * own + shared
    number, heard = {
        "alone": (tasks, own),
        "shared_bottom": (tasks, 1),
        "omoe": (1, all_of),
        "mmoe": (tasks, all_of),
        "me_mmoe": (tasks, all_of),
        "ple": (tasks, own + shared),
        "me_ple": (tasks, own + shared),
        "stem": (tasks, all_of),
    }[recipe]
    return (number, heard) if heard > 1 else (0, 0)


def views(recipe: str, paradigm: str, counts: tuple[int, int, int]) -> int:
    """As many views as somebody reads."""
    tasks, own, shared = counts
    number, gated = experts(recipe, tasks, own, shared), gates(recipe, tasks, own, shared)[0] > 0
    unowned = recipe in ("shared_bottom", "omoe", "mmoe", "me_mmoe")
    if paradigm == "shared":
        return 1
    if paradigm == "each":
        return number
    if paradigm == "own":
        return min(number, tasks) if recipe in ("shared_bottom", "omoe") or not gated else tasks
    if unowned:  # experts of nobody read the view of all; a task's gate reads the task's
        return 1 + (tasks if gated and recipe != "omoe" else 0)
    reads_shared = recipe != "alone" and (shared > 0 or (recipe == "stem" and gated))
    return tasks + reads_shared


def per_number() -> int:
    """What a view learns besides the table for every number of its width: projections, and what stands for missing."""
    learned = sum(parameter.numel() for parameter in build("shared_bottom", "shared", (1, 1, 1)).views.parameters())
    assert learned % DIM == 0
    return learned // DIM


def whole(recipe: str, paradigm: str, counts: tuple[int, int, int]) -> int:
    tasks, own, shared = counts
    width = DIM * views(recipe, paradigm, counts)
    table = sum(VOCABULARY.values()) * width
    projected = width * per_number()
    number, heard = gates(recipe, tasks, own, shared)
    return (
        table + projected + experts(recipe, tasks, own, shared) * dense((INPUT, *EXPERT))
        + number * (dense((INPUT, heard)) if heard else 0) + tasks * dense((EXPERT[-1], *TOWER, 1))
    )


def build(recipe: str, paradigm: str, counts: tuple[int, int, int], *, layers: int = 1) -> Recommender:
    tasks, own, shared = counts
    size = Sizes(VOCABULARY, dim=DIM, expert=EXPERT, tower=TOWER, specific=own, shared=shared, layers=layers)
    with torch.device("meta"):
        model: Recommender = RECIPES[recipe](everykind.schema(tasks), size, paradigm=PARADIGMS[paradigm])
    return model


def levels(model: Recommender) -> list[Layer]:
    return [layer for layer in model.layers if isinstance(layer, Layer)]


def total(model: Recommender) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("paradigm", PARADIGMS)
@pytest.mark.parametrize("recipe", TABLES)
def test_every_number_is_accounted_for(recipe: str, paradigm: str) -> None:
    for tasks, (own, shared) in COUNTS:
        counts = (tasks, own, shared)
        model = build(recipe, paradigm, counts)
        assert model.views.views == views(recipe, paradigm, counts), counts
        assert total(model) == whole(recipe, paradigm, counts), counts
        assert sum(parameter.numel() for parameter in model.dense_parameters()) == total(model) - model.table.numel()


@pytest.mark.parametrize("paradigm", PARADIGMS)
@pytest.mark.parametrize("recipe", TABLES)
def test_views_are_known_without_a_model(recipe: str, paradigm: str) -> None:
    made = partial(RECIPES[recipe], paradigm=PARADIGMS[paradigm])
    for tasks, (own, shared) in COUNTS:
        size = Sizes(VOCABULARY, specific=own, shared=shared)
        assert views_of(partial(made, everykind.schema(tasks), size)) == views(recipe, paradigm, (tasks, own, shared))


@pytest.mark.parametrize("recipe", TABLES)
def test_deep_gates_and_narrow_towers(recipe: str) -> None:
    """Hidden layers of gates, and towers without any."""
    tasks, own, shared = 3, 2, 1
    size = Sizes(VOCABULARY, dim=DIM, expert=EXPERT, gate=(5,), tower=(), specific=own, shared=shared)
    with torch.device("meta"):
        deep = RECIPES[recipe](everykind.schema(tasks), size, paradigm=PARADIGMS["shared"])
    number, heard = gates(recipe, tasks, own, shared)
    change = number * (dense((INPUT, 5, heard)) - dense((INPUT, heard))) if number else 0
    change += tasks * (dense((EXPERT[-1], 1)) - dense((EXPERT[-1], *TOWER, 1)))
    assert total(deep) == whole(recipe, "shared", (tasks, own, shared)) + change


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_layers_by_hand(layers: int) -> None:
    """A layer more of MMoE: experts over hidden numbers, and below it a gate for the commons, which the next experts read."""
    upper, tasks, number = layers - 1, 3, 4
    model = build("mmoe", "shared", (tasks, 1, 1), layers=layers)
    # one gate more, the commons', in every layer but the top
    below = dense((INPUT, number)) + (upper - 1) * dense((EXPERT[-1], number)) if upper else 0
    added = upper * (number * dense((EXPERT[-1], *EXPERT)) + tasks * dense((EXPERT[-1], number)))
    assert total(model) == whole("mmoe", "shared", (tasks, 1, 1)) + below + added
    assert [len(mixture.voice) for mixture in levels(model)] == [tasks + 1] * upper + [tasks]


@pytest.mark.parametrize("layers", [2, 3])
def test_a_shared_bottom_of_layers_is_a_longer_mlp(layers: int) -> None:
    model = build("shared_bottom", "shared", (4, 1, 1), layers=layers)
    assert total(model) == whole("shared_bottom", "shared", (4, 1, 1)) + (layers - 1) * dense((EXPERT[-1], *EXPERT))


def test_without_paradigm_a_recipe_has_the_views_of_its_paper() -> None:
    expected = {"alone": 3, "shared_bottom": 1, "omoe": 1, "mmoe": 1, "ple": 1, "stem": 4, "me_mmoe": 4, "me_ple": 4}
    assert {name: views_of(partial(RECIPES[name], everykind.schema(3), Sizes(VOCABULARY))) for name in TABLES} == expected


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_kind_and_the_name_of_a_task_cost_nothing(recipe: str) -> None:
    named = Schema(everykind.FIELDS, (Task("лайк.a b", weight=3.0), Task("秒", kind=REGRESSION, given="лайк.a b")))
    size = Sizes(VOCABULARY, dim=DIM, expert=EXPERT, tower=TOWER)
    torch.manual_seed(0)
    one = RECIPES[recipe](everykind.schema(2), size).eval()
    torch.manual_seed(0)
    other = RECIPES[recipe](named, size).eval()
    assert torch.equal(one(fields(6)), other(fields(6)))
    assert {"tower лайк.a b", "tower 秒"} <= set(other.groups())


@pytest.mark.parametrize("recipe", RECIPES)
def test_fields_that_share_a_table_do_not_add_to_it(recipe: str) -> None:
    once = Schema((Field("item", FieldKind.ID),), (Task("click"),))
    twice = Schema((*once.fields, Field("last", FieldKind.ID, like="item"), Field("seen", FieldKind.BAG, like="item")), once.tasks)
    size = Sizes({"item": 9}, dim=2, expert=(4,))
    with torch.device("meta"):
        tables = [RECIPES[recipe](schema, size).table.shape for schema in (once, twice)]
    assert tables[0] == tables[1]
    assert tables[0][0] == 9


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_table_without_its_size_is_named(recipe: str) -> None:
    with pytest.raises(KeyError, match="tags"):
        RECIPES[recipe](everykind.schema(), Sizes({name: rows for name, rows in VOCABULARY.items() if name != "tags"}))
