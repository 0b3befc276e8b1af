"""A recommender taken apart, looked at closely: what each portion holds, and any use of it in any order."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import everykind
from tests.everykind import FIELDS, fields, sizes
from torch import Tensor

from umbel.nn.apart import Apart, Portion
from umbel.nn.interact import INTERACTS, InteractSizes
from umbel.nn.pieced import Pieced
from umbel.nn.recommender import Parts, Recommender
from umbel.nn.sequence import SEQUENCES, SequenceSizes
from umbel.recipes import RECIPES

NAMES = tuple(field.name for field in FIELDS)


def model(recipe: str = "stem", *, sequence: str = "mean", interact: str = "concatenate") -> Recommender:
    torch.manual_seed(1)
    parts = Parts(INTERACTS[interact](InteractSizes(hidden=4)), SEQUENCES[sequence](SequenceSizes(hidden=3)))
    made: Recommender = RECIPES[recipe](everykind.schema(3), sizes(), parts=parts)
    return everykind.awake(made).eval()


def names(portion: Portion) -> list[str]:
    return [field.name for field in portion.order]


@pytest.mark.parametrize("own", [NAMES, ("user",), ("price", "age"), ("tags", "watched"), ("picture", "item", "price"), ("tags",)])
def test_a_portion_is_what_the_views_see_of_its_fields(own: Sequence[str]) -> None:
    made, batch = model(), fields(6)
    portion = Portion(made, own)
    assert set(names(portion)) == set(own)
    seen = made.seen(batch)
    expected = torch.stack([seen[:, :, NAMES.index(name)] for name in names(portion)], 2).flatten(2)
    torch.testing.assert_close(portion({name: batch[name] for name in own}), expected, atol=1e-7, rtol=1e-6)


def test_a_portion_knows_its_columns_among_all() -> None:
    made, batch = model(), fields(6)
    whole = made.interact(made.seen(batch))
    portion = Portion(made, ("picture", "hour", "tags"))
    found = portion({name: batch[name] for name in ("picture", "hour", "tags")})
    for view, x in enumerate(whole):
        torch.testing.assert_close(found[:, view], x[:, portion.columns], atol=1e-7, rtol=1e-6)


def test_a_portion_of_nothing_is_empty() -> None:
    portion = Portion(model(), ())
    assert names(portion) == []
    assert len(portion.columns) == 0


@pytest.mark.parametrize(
    ("sequence", "once", "own", "rest"),
    [
        ("mean", ("user", "watched"), ("item", "tags"), {"age", "hour", "price", "picture"}),
        # The unit that reads a history looks at its target: lists of two owners are read for every row.
        ("din", ("user", "watched"), ("item", "tags"), {"watched", "tags", "age", "hour", "price", "picture"}),
        ("sasrec", ("user", "watched"), ("item", "tags"), {"watched", "tags", "age", "hour", "price", "picture"}),
        ("din", ("user",), ("item", "tags", "watched"), {"age", "hour", "price", "picture"}),
        ("din", ("watched", "tags", "item"), ("price",), {"user", "age", "hour", "picture"}),
        ("din", ("watched", "tags"), ("item",), {"watched", "tags", "user", "age", "hour", "price", "picture"}),
    ],
)
def test_lists_go_where_they_can_be_read(sequence: str, once: Sequence[str], own: Sequence[str], rest: set[str]) -> None:
    apart = Apart(model(sequence=sequence), once=once, own=own)
    assert set(names(apart.rest)) == rest
    assert set(names(apart.once)) == set(once) - rest
    assert set(names(apart.own)) == set(own) - rest


def test_concatenated_fields_never_become_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    apart = Apart(model(), once=("user", "age", "hour", "watched"), own=("item", "price", "tags", "picture"))
    numbers = apart.keep({name: fields(5)[name] for name in names(apart.own)})
    shared = {name: column for name, column in fields(1).items() if name in names(apart.once)}
    expected = apart.logits(numbers, shared, {})

    def never(self: Pieced) -> Tensor:
        raise AssertionError("made whole")

    monkeypatch.setattr(Pieced, "whole", never)
    assert torch.equal(apart.logits(numbers, shared, {}), expected)


def test_an_interaction_that_needs_all_fields_gets_them() -> None:
    made = model(interact="fm")
    apart = Apart(made, once=("user", "age", "hour", "watched"), own=("item", "price", "tags", "picture"))
    batch = fields(5)
    shared = {name: batch[name][:1] for name in names(apart.once)}
    numbers = apart.keep({name: batch[name] for name in names(apart.own)})
    common = {name: column.expand(5, *column.shape[1:]) for name, column in shared.items()}
    torch.testing.assert_close(apart.logits(numbers, shared, {}), made({**batch, **common}).detach(), atol=1e-6, rtol=1e-6)


kinds = st.lists(st.sampled_from(("once", "own", "rest")), min_size=len(NAMES), max_size=len(NAMES))
steps = st.lists(st.one_of(st.integers(-4, 4), st.lists(st.integers(0, 99), min_size=1, max_size=6)), max_size=8)


@settings(max_examples=60, deadline=None)
@given(kinds, st.sampled_from(sorted(RECIPES)), st.sampled_from(sorted(SEQUENCES)), steps)
def test_any_use_in_any_order_is_the_models_own_answer(
    cut: Collection[str], recipe: str, sequence: str, uses: Sequence[int | list[int]],
) -> None:
    """Keep so many things, forget so many (below 0), or ask for some of them: against a plain list of things and the whole model."""
    made = model(recipe, sequence=sequence)
    once, own, rest = ([name for name, kind in zip(NAMES, cut, strict=True) if kind == wanted] for wanted in ("once", "own", "rest"))
    apart, came = Apart(made, once=once, own=own), 0
    things: list[dict[str, Tensor]] = []
    for turn, use in enumerate(uses):
        if isinstance(use, int) and use <= 0:
            gone = min(-use, len(things))
            apart.forget(gone)
            del things[:gone]
        elif isinstance(use, int):
            came += 1
            new = fields(use, seed=came)
            apart.keep({name: new[name] for name in own} or {"user": new["user"]})
            things += [{name: new[name][row:row + 1] for name in own} for row in range(use)]
        elif things:
            numbers = torch.tensor([number % len(things) for number in use])
            asked = fields(len(use), seed=1000 + turn)
            shared = {name: asked[name][:1] for name in once}
            others = {name: asked[name] for name in rest}
            whole = {name: column.expand(len(use), *column.shape[1:]) for name, column in shared.items()}
            whole |= {name: torch.cat([things[number][name] for number in numbers.tolist()]) for name in own} | others
            found = apart.logits(numbers, shared, others)
            torch.testing.assert_close(found, made(whole).detach(), atol=2e-6, rtol=1e-5)
    assert apart.kept == len(things)
