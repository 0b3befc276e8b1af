"""Two towers by hand: the corrected softmax of a batch, what each tower hears, and what an unknown item is."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

import pytest
import torch
from tests.logs import CATEGORY, ID, NUMBER, SEQUENCE, VECTOR
from torch import Tensor

from umbel.data.batch import Batch
from umbel.errors import UserError
from umbel.learn.fit import fit
from umbel.learn.plan import Plan
from umbel.learn.seam import Model
from umbel.nn.losses import Denominator
from umbel.nn.towers import Sides, TowerSizes, TwoTower, corrected
from umbel.schema import Field, Schema, Task

SCHEMA = Schema(
    (
        Field("user", ID), Field("item", ID), Field("watched", SEQUENCE, like="item", length=2), Field("price", NUMBER),
        Field("picture", VECTOR, width=2), Field("place", CATEGORY),
    ),
    (Task("positive"),),
)  # fmt: skip
SIDES = Sides("item", ("user", "watched", "place"), ("item", "price", "picture"))
SIZES = TowerSizes({"user": 5, "item": 4, "place": 3}, dim=3, hidden=(6,), width=4)
FIELDS = {
    "user": torch.tensor([1, 2, 0]), "item": torch.tensor([3, 1, 0]), "watched": torch.tensor([[1, -1], [3, 2], [-1, -1]]),
    "price": torch.tensor([0.5, float("nan"), -1.0]), "picture": torch.tensor([[1.0, 0.0], [0.5, 0.5], [float("nan"), 1.0]]),
    "place": torch.tensor([1, 2, 0]),
}  # fmt: skip


def towers(share: Tensor | None = None) -> TwoTower:
    torch.manual_seed(1)
    return TwoTower(SCHEMA, SIZES, SIDES, share=share)


def positives(fields: dict[str, Tensor] = FIELDS) -> Batch:
    rows = len(fields["item"])
    return Batch(fields, torch.ones(rows, 1), torch.ones(rows, 1, dtype=torch.bool), torch.arange(rows))


def test_the_loss_of_three_rows_by_hand() -> None:
    scores = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0], [-2.0, 0.25, 0.5]])
    shares = {1: 0.5, 2: 0.3, 3: 0.2}
    codes = torch.tensor([1, 2, 3])
    logits = corrected(scores, codes, torch.tensor([1.0, 0.5, 0.3, 0.2]).log())
    found = torch.nn.functional.cross_entropy(logits, torch.arange(3), reduction="none")
    for row in range(3):
        terms = [exp(float(scores[row, column])) / shares[int(code)] for column, code in enumerate(codes)]
        assert float(found[row]) == pytest.approx(-log(terms[row] / sum(terms)), rel=1e-6)


def test_an_item_that_comes_again_is_no_negative_of_itself() -> None:
    scores = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0], [-2.0, 0.25, 0.5]])
    logits = corrected(scores, torch.tensor([1, 2, 1]), torch.tensor([1.0, 0.5, 0.25]).log())
    expected = torch.tensor([
        [2.0 + log(2), 0.5 + log(4), -torch.inf],
        [0.0 + log(2), 1.0 + log(4), 3.0 + log(2)],  # of another row's item both count: it is met that often
        [-torch.inf, 0.25 + log(4), 0.5 + log(2)],
    ])  # fmt: skip
    torch.testing.assert_close(logits, expected)


def test_codes_beyond_the_vocabulary_are_the_unknown_item() -> None:
    shares = torch.tensor([0.5, 0.25, 0.25]).log()
    one, other = (corrected(torch.zeros(2, 2), torch.tensor(codes), shares) for codes in ([9, 0], [0, 0]))
    torch.testing.assert_close(one, other)


def test_training_descends_the_mean_of_the_rows() -> None:
    share = torch.tensor([0.1, 0.4, 0.3, 0.2])
    model = towers(share)
    users, items = model.users(FIELDS), model.items(FIELDS)
    codes = FIELDS["item"]
    terms = (users @ items.T / SIZES.temperature).exp() / share[codes]
    by_hand = -(terms.diagonal() / terms.sum(1)).log().mean()
    found = model.losses(model(FIELDS), positives(), denominator=Denominator.SEEN)
    torch.testing.assert_close(found, by_hand[None], rtol=1e-5, atol=1e-5)


def test_the_temperature_divides_the_product() -> None:
    torch.manual_seed(1)
    cold = TwoTower(SCHEMA, replace(SIZES, temperature=0.05), SIDES, share=torch.full((4,), 1.0))
    torch.testing.assert_close(cold(FIELDS), 2 * towers(torch.full((4,), 1.0))(FIELDS))


def test_vectors_have_length_one() -> None:
    model = towers()
    for vectors in (model.users(FIELDS), model.items(FIELDS)):
        assert tuple(vectors.shape) == (3, 4)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


def test_a_tower_hears_its_own_fields_alone() -> None:
    model = towers()
    mine = {name: FIELDS[name] for name in SIDES.user}
    theirs = {name: FIELDS[name] for name in SIDES.item}
    torch.testing.assert_close(model.users(mine), model.users(FIELDS))
    torch.testing.assert_close(model.items(theirs), model.items(FIELDS))
    for name in SIDES.user:
        other = {**FIELDS, name: FIELDS[name].flip(0)}
        torch.testing.assert_close(model.items(other), model.items(FIELDS))
        assert not model.users(other).allclose(model.users(FIELDS))
    for name in SIDES.item:
        other = {**FIELDS, name: FIELDS[name].flip(0)}
        torch.testing.assert_close(model.users(other), model.users(FIELDS))
        assert not model.items(other).allclose(model.items(FIELDS))


def test_rows_alone_have_the_vectors_they_have_together() -> None:
    model = towers()
    for row in range(3):
        alone = {name: value[row : row + 1] for name, value in FIELDS.items()}
        torch.testing.assert_close(model.users(alone)[0], model.users(FIELDS)[row])
        torch.testing.assert_close(model.items(alone)[0], model.items(FIELDS)[row])


def test_towers_are_a_model_that_fit_trains() -> None:
    model = towers(torch.tensor([0.1, 0.4, 0.3, 0.2]))
    assert isinstance(model, Model)
    plan = Plan(epochs=100, patience=100, rate=0.05, l2=0.0)
    losses = [epoch.losses[0] for epoch in fit(model, lambda epoch, step: [positives()], plan=plan, judge=lambda one: 0.5)]
    assert losses[-1] < 0.1 < losses[0]


def test_an_item_without_positives_has_a_finite_share() -> None:
    model = towers(torch.tensor([0.0, 1.0, 0.0, 0.0]))
    assert bool(model(FIELDS).isfinite().all())


def test_a_side_that_the_schema_has_not_is_refused() -> None:
    with pytest.raises(UserError, match="no field 'itme'"):
        TwoTower(SCHEMA, SIZES, replace(SIDES, id="itme"))
