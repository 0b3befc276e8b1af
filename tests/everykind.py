"""A schema with a field of every kind, and random rows of it: what every architecture must cope with."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from umbel.nn.bank import Part
from umbel.nn.recommender import Recommender, Sizes
from umbel.nn.routing import PARADIGMS
from umbel.recipes import RECIPES
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

VOCABULARY = {"user": 11, "hour": 5, "item": 17, "tags": 7}
LENGTH = 4
FIELDS = (
    Field("user", FieldKind.ID),
    Field("age", FieldKind.NUMBER),
    Field("watched", FieldKind.SEQUENCE, like="item", target="item", length=LENGTH),
    Field("hour", FieldKind.CATEGORY),
    Field("item", FieldKind.ID),
    Field("price", FieldKind.NUMBER),
    Field("tags", FieldKind.BAG, length=2),
    Field("picture", FieldKind.VECTOR, width=3),
)
NAMES = ("click", "seconds", "like", "share", "buy")

TAKES_VIEWS = [recipe for recipe, made in RECIPES.items() if "paradigm" in inspect.signature(made).parameters]
PAIRS = [(recipe, paradigm) for recipe in RECIPES for paradigm in (PARADIGMS if recipe in TAKES_VIEWS else [None])]


def cover(layers: int) -> list[tuple[str, str | None, int]]:
    """Every recipe with every paradigm, and either with every depth up to `layers`, in one case a pair."""
    rows, columns = ({name: at for at, name in enumerate(names)} for names in (RECIPES, PARADIGMS))  # another recipe moves no other's case
    return [(recipe, paradigm, 1 + (rows[recipe] + columns.get(paradigm or "", 0)) % layers) for recipe, paradigm in PAIRS]


def build(recipe: str, paradigm: str | None, model_sizes: Sizes, *, tasks: int = 2) -> Recommender:
    """A recipe over all eight fields, under its own paradigm where none is named."""
    made = RECIPES[recipe]
    model: Recommender = made(schema(tasks), model_sizes, **({} if paradigm is None else {"paradigm": PARADIGMS[paradigm]}))
    return model


def schema(tasks: int = 2) -> Schema:
    """All eight fields; the second task is a regression, the others are binary."""
    own = [Task(name, kind=REGRESSION) if name == "seconds" else Task(name) for name in NAMES[:tasks]]
    return Schema(FIELDS, tuple(own))


def binned(tasks: int = 2) -> Schema:
    """The same, one of its two numbers read piece by piece."""
    return replace(schema(tasks), fields=tuple(replace(one, bins=3) if one.name == "price" else one for one in FIELDS))


def sizes(*, layers: int = 1, specific: int = 1, shared: int = 1, gate: tuple[int, ...] = ()) -> Sizes:
    """Small, and with room enough that no expert is dead by chance."""
    return Sizes(VOCABULARY, dim=3, expert=(10, 8), gate=gate, tower=(6,), specific=specific, shared=shared, layers=layers)


def fields(rows: int = 24, *, seed: int = 0, missing: bool = True) -> dict[str, Tensor]:
    """Random rows, with unknown codes, padding, empty lists and missing numbers among them."""
    draw = torch.Generator().manual_seed(seed)
    found = {
        "user": torch.randint(0, 11, (rows,), generator=draw, dtype=torch.int32),
        "age": torch.randn(rows, generator=draw),
        "watched": torch.randint(-1, 17, (rows, LENGTH), generator=draw, dtype=torch.int32),
        "hour": torch.randint(0, 5, (rows,), generator=draw, dtype=torch.int32),
        "item": torch.randint(0, 17, (rows,), generator=draw, dtype=torch.int32),
        "price": torch.randn(rows, generator=draw),
        "tags": torch.randint(-1, 7, (rows, 2), generator=draw, dtype=torch.int32),
        "picture": torch.randn(rows, 3, generator=draw),
    }
    if missing:
        found["age"][::3] = torch.nan
        found["picture"][1::4] = torch.nan
        found["watched"][2::5] = -1
        found["user"][::7] = 0
    return found


def awake(model: Recommender, seed: int = 1) -> Recommender:
    """The model with embeddings and biases far from zero, so that every path carries a gradient that can be told from none."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "table" or "missing" in name:
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=draw))
            if "biases" in name:
                parameter.copy_(0.5 * torch.rand(parameter.shape, generator=draw))
    return model


def turned(model: Recommender, seed: int) -> Recommender:
    """The model with the signs of its numbers drawn anew; as it was for seed 1."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters() if seed > 1 else ():
            parameter.mul_(torch.randint(0, 2, parameter.shape, generator=draw) * 2 - 1)
    return model


def gradients(model: Recommender, objective: Tensor) -> dict[str, Tensor]:
    """The gradient at every parameter by name, zeros where there is none."""
    named = dict(model.named_parameters())
    found = torch.autograd.grad(objective, list(named.values()), allow_unused=True, retain_graph=True)
    return {name: torch.zeros_like(named[name]) if one is None else one for name, one in zip(named, found, strict=True)}


def touched(parts: tuple[Part, ...], found: dict[str, Tensor]) -> bool:
    """Whether any number of a group has a gradient."""
    return any(bool(part.of(found).any()) for part in parts)


@dataclass(frozen=True)
class Labels:
    """The labels of a batch, as a loss wants them."""

    labels: Tensor
    seen: Tensor
    weight: Tensor | None = None
    group: Tensor | None = None


def labels(rows: int, tasks: int, *, seed: int = 3, seen: float = 1.0) -> Labels:
    """Random labels, of which a share is seen."""
    draw = torch.Generator().manual_seed(seed)
    return Labels(torch.randint(0, 2, (rows, tasks), generator=draw).float(), torch.rand(rows, tasks, generator=draw) < seen)
