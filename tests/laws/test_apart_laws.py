"""Rows that share fields score as they do one by one, in every recipe and piece: embedding once changes no answer."""

from __future__ import annotations

from collections.abc import Collection

import pytest
import torch
from tests.everykind import FIELDS, LENGTH, fields
from tests.laws.test_combinations import EACH_ONCE, made
from tests.laws.test_recommender import COVER, build
from torch import Tensor

from umbel.nn.apart import Apart
from umbel.nn.recommender import Recommender

USER = ("user", "age", "watched", "hour")
ITEM = ("item", "price", "tags", "picture")
CUTS: dict[str, tuple[Collection[str], Collection[str]]] = {
    "user and item": (USER, ITEM),
    "nothing in common": ((), ITEM),
    "all but the item in common": (tuple(one.name for one in FIELDS if one.name != "item"), ("item",)),
    "everything in common": (tuple(one.name for one in FIELDS), ()),
    "some belong to both": (("user", "age"), ("item", "tags")),
    "nothing told apart": ((), ()),
}
ROWS = 7


def rows(names: Collection[str], count: int, seed: int) -> dict[str, Tensor]:
    return {name: column for name, column in fields(count, seed=seed).items() if name in names}


def check(model: Recommender, once: Collection[str], own: Collection[str]) -> None:
    """Seven rows of five things, one of them asked for twice, another three times, kept in two goes."""
    rest = [one.name for one in FIELDS if one.name not in (*once, *own)]
    shared, things, others = rows(once, 1, 1), rows(own, 5, 2), rows(rest, ROWS, 3)
    apart = Apart(model, once=once, own=own)
    numbers = torch.tensor([4, 0, 2, 4, 1, 1, 1])
    if own:
        first = apart.keep({name: column[:3] for name, column in things.items()})
        apart.logits(first[:1], shared, {name: column[:1] for name, column in others.items()})  # products are made before the rest comes
        assert [*first.tolist(), *apart.keep({name: column[3:] for name, column in things.items()}).tolist()] == [0, 1, 2, 3, 4]
    whole = {name: column.expand(ROWS, *column.shape[1:]) for name, column in shared.items()}
    whole |= {name: column[numbers] for name, column in things.items()} | others
    with torch.inference_mode():
        expected = model(whole)
    torch.testing.assert_close(apart.logits(numbers, shared, others), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("recipe", "paradigm", "layers"), COVER)
def test_every_recipe_scores_the_same(recipe: str, paradigm: str | None, layers: int) -> None:
    check(build(recipe, paradigm, layers=layers), USER, ITEM)


@pytest.mark.parametrize("choice", EACH_ONCE, ids="-".join)
@pytest.mark.parametrize("cut", ["user and item", "some belong to both"])
def test_every_piece_scores_the_same(choice: tuple[str, ...], cut: str) -> None:
    check(made(choice).eval(), *CUTS[cut])


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("recipe", ["mmoe", "stem", "home"])
def test_every_cut_scores_the_same(recipe: str, cut: str) -> None:
    check(build(recipe), *CUTS[cut])


def test_what_is_forgotten_is_not_answered_from() -> None:
    model = build("mmoe")
    apart = Apart(model, once=USER, own=ITEM)
    shared = rows(USER, 1, 1)
    apart.keep(rows(ITEM, 3, 2))
    apart.logits(torch.tensor([0, 1, 2]), shared, {})
    apart.forget(3)
    assert apart.kept == 0
    numbers = apart.keep(rows(ITEM, 2, 5))
    expected = model({**{name: column.expand(2, *column.shape[1:]) for name, column in shared.items()}, **rows(ITEM, 2, 5)})
    torch.testing.assert_close(apart.logits(numbers, shared, {}), expected.detach(), atol=1e-6, rtol=1e-6)


def test_what_is_left_of_a_shelf_is_answered_from() -> None:
    model = build("stem")
    apart, things = Apart(model, once=USER, own=ITEM), rows(ITEM, 5, 2)
    shared = rows(USER, 1, 1)
    apart.logits(apart.keep(things), shared, {})
    apart.forget(2)
    assert apart.kept == 3
    common = {name: column.expand(3, *column.shape[1:]) for name, column in shared.items()}
    expected = model({**common, **{name: column[2:] for name, column in things.items()}})
    torch.testing.assert_close(apart.logits(torch.arange(3), shared, {}), expected.detach(), atol=1e-6, rtol=1e-6)


def test_more_things_than_there_was_room_for() -> None:
    model = build("stem")
    apart = Apart(model, once=USER, own=ITEM)
    shared = rows(USER, 1, 1)
    many = [rows(ITEM, 700, seed) for seed in range(4)]
    for things in many:
        numbers = apart.keep(things)
        found = apart.logits(numbers, shared, {})
        common = {name: column.expand(700, *column.shape[1:]) for name, column in shared.items()}
        torch.testing.assert_close(found, model({**common, **things}).detach(), atol=1e-6, rtol=1e-6)
    assert apart.kept == 2800
    again = apart.logits(torch.arange(700), shared, {})
    common = {name: column.expand(700, *column.shape[1:]) for name, column in shared.items()}
    torch.testing.assert_close(again, model({**common, **many[0]}).detach(), atol=1e-6, rtol=1e-6)


def test_taking_apart_draws_no_numbers_and_changes_no_weight() -> None:
    model = build("stem")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(4)
    expected = torch.rand(1)
    torch.manual_seed(4)
    apart = Apart(model, once=USER, own=ITEM)
    apart.logits(apart.keep(rows(ITEM, 3, 2)), rows(USER, 1, 1), {})
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_lists_are_embedded_with_those_they_belong_to() -> None:
    model = build("mmoe")
    apart = Apart(model, once=USER, own=ITEM)
    assert {field.name for field in apart.once.order} == set(USER)
    assert {field.name for field in apart.own.order} == set(ITEM)
    assert not apart.rest.order
    assert len(apart.once.columns) == 3 * len(USER)
    assert fields(1)["watched"].shape == (1, LENGTH)
