"""A step of every recipe against the same step written out: a dense gradient, penalties, one norm and Adam, all by formula."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy

import pytest
import torch
from tests.toys import equal
from torch import Tensor

from umbel.data.batch import Batch
from umbel.learn.optim import RowOptimizer
from umbel.learn.plan import Plan
from umbel.learn.step import Exact, Fast
from umbel.nn.losses import Denominator
from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import RECIPES, taken
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

USERS, VIDEOS = 30, 20
FIELDS = (
    Field("user", FieldKind.ID),
    Field("video", FieldKind.ID),
    Field("watched", FieldKind.SEQUENCE, like="video", length=4),
    Field("age", FieldKind.NUMBER),
)
SCHEMA = Schema(FIELDS, (Task("click", weight=2.0), Task("minutes", REGRESSION, weight=0.25), Task("like")))
WEIGHTS = (2.0, 0.25, 1.0)
SOME = ("mmoe", "stem")


class Descent(RowOptimizer):
    """Plain gradient descent, so that a factor in a gradient is a factor in what moves."""

    def __init__(self, table: Tensor) -> None:
        super().__init__(table, None)

    def step(self, ids: Tensor, grad: Tensor, *, rate: float) -> None:
        self.table.index_add_(0, ids, grad, alpha=-rate)

    def state(self) -> dict[str, Tensor]:
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        pass


def model(recipe: str, **options: float) -> Recommender:
    torch.manual_seed(3)
    made = RECIPES[recipe](SCHEMA, Sizes({"user": USERS, "video": VIDEOS}, dim=3, expert=(6,), tower=(4,)), **options)
    with torch.no_grad():
        made.table.normal_()
    return made.double()


def rows(seed: int, *, count: int = 12, weighted: bool = False) -> Batch:
    """Few users, so that codes come several times; padding between codes; two labels in five unseen, and then no number at all."""
    draw = torch.Generator().manual_seed(seed)
    fields = {
        "user": torch.randint(0, 5, (count,), generator=draw),
        "video": torch.randint(0, 8, (count,), generator=draw),
        "watched": torch.randint(-1, 8, (count, 4), generator=draw),
        "age": torch.randn(count, generator=draw, dtype=torch.float64),
    }
    fields["watched"][::3] = -1
    fields["age"][::4] = torch.nan
    labels = torch.randint(0, 2, (count, 3), generator=draw).double()
    seen = torch.rand(count, 3, generator=draw) < 0.6
    weight = 0.5 + torch.rand(count, 3, generator=draw, dtype=torch.float64) if weighted else None
    return Batch(fields, torch.where(seen, labels, torch.nan), seen, torch.arange(count), weight)


def losses(one: Recommender, batch: Batch, denominator: Denominator) -> Tensor:
    """The sum over tasks, label by label."""
    total = torch.zeros((), dtype=torch.float64)
    logits = one(batch.fields)
    for task, weight in enumerate(WEIGHTS):
        seen = batch.seen[:, task].nonzero().flatten().tolist()
        count = len(seen) if denominator is Denominator.SEEN else len(batch.labels)
        for row in seen:
            z, y = logits[row, task], batch.labels[row, task]
            loss = (z - y) ** 2 if task == 1 else torch.log1p(torch.exp(-z)) + (1 - y) * z
            own = 1.0 if batch.weight is None else batch.weight[row, task]
            total = total + weight * own * loss / count
    return total


def touched(batch: Batch) -> list[int]:
    users = batch.fields["user"].tolist()
    videos = [*batch.fields["video"].tolist(), *batch.fields["watched"].flatten().tolist()]
    return sorted({*users, *(USERS + video for video in videos if video >= 0)})


def clipped(one: Recommender, batch: Batch, plan: Plan) -> dict[str, Tensor]:
    """Every parameter's gradient by name: the penalty by formula, the joint norm summed by hand."""
    named = dict(one.named_parameters())
    found = torch.autograd.grad(losses(one, batch, plan.denominator), list(named.values()))
    gradients = dict(zip(named, found, strict=True))
    among = list(range(len(one.table))) if plan.exact else touched(batch)
    gradients["table"][among] += plan.l2 * one.table.detach()[among]
    norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients.values()))
    scale = min(1.0, plan.clip / (norm + 1e-6))
    return {name: gradient * scale for name, gradient in gradients.items()}


class ByFormula:
    """Adam from its paper, each parameter with moments of its own; the table moves by `rate * gradient` unless `exact`."""

    def __init__(self, one: Recommender, plan: Plan) -> None:
        self.model, self.plan, self.steps = one, plan, 0
        self.first = {name: torch.zeros_like(parameter) for name, parameter in one.named_parameters()}
        self.second = {name: torch.zeros_like(parameter) for name, parameter in one.named_parameters()}

    def __call__(self, batch: Batch) -> None:
        self.steps += 1
        gradients = clipped(self.model, batch, self.plan)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                adam = name != "table" or self.plan.exact
                parameter.sub_(self.plan.rate * (self._adam(name, gradients[name]) if adam else gradients[name]))

    def _adam(self, name: str, gradient: Tensor) -> Tensor:
        self.first[name] = 0.9 * self.first[name] + 0.1 * gradient
        self.second[name] = 0.999 * self.second[name] + 0.001 * gradient**2
        mean = self.first[name] / (1 - 0.9**self.steps)
        return mean / ((self.second[name] / (1 - 0.999**self.steps)).sqrt() + 1e-8)


def assert_same(ours: Recommender, theirs: Recommender) -> None:
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-6, msg=name)


PLANS = {
    "plain": Plan(rate=0.01, l2=0.0, clip=1e9, rows=Descent),
    "clipped": Plan(rate=0.01, l2=0.0, clip=0.2, rows=Descent),
    "penalty": Plan(rate=0.01, l2=0.3, clip=1e9, rows=Descent),
    "penalty, clipped": Plan(rate=0.01, l2=0.3, clip=0.2, rows=Descent),
    "all rows": Plan(rate=0.01, l2=0.3, clip=0.2, rows=Descent, denominator=Denominator.ROWS),
    "exact": Plan(rate=0.01, l2=0.3, clip=0.2, exact=True),
    "exact, all rows": Plan(rate=0.01, l2=0.0, clip=1e9, exact=True, denominator=Denominator.ROWS),
}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("recipe", SOME)
def test_four_steps_are_those_by_formula(recipe: str, plan: str) -> None:
    ours = model(recipe)
    theirs = deepcopy(ours)
    made = PLANS[plan]
    step = (Exact if made.exact else Fast)(ours, made)
    formula = ByFormula(theirs, made)
    for seed in range(4):
        batch = rows(seed, weighted=seed % 2 == 1)
        step(narrowed(batch))
        formula(batch)
    assert_same(ours, theirs)


def narrowed(batch: Batch) -> Batch:
    """The step's logits are made float32 before the loss; labels and weights follow them there."""
    weight = None if batch.weight is None else batch.weight.float()
    return Batch(batch.fields, batch.labels.float(), batch.seen, batch.index, weight)


@pytest.mark.parametrize("recipe", SOME)
def test_what_the_step_says_it_lost_is_the_formula_per_task(recipe: str) -> None:
    one = model(recipe)
    batch = rows(1, weighted=True)
    expected = losses(one, batch, Denominator.SEEN)
    said = Fast(one, PLANS["plain"])(narrowed(batch))
    assert said.shape == (3,)
    assert float(said.sum()) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_padding_and_the_order_of_rows_change_no_gradient(recipe: str) -> None:
    moved = []
    batch = narrowed(rows(2))
    order = torch.arange(12).flip(0)
    turned = Batch({name: field[order] for name, field in batch.fields.items()}, batch.labels[order], batch.seen[order], batch.index)
    late = Batch({**batch.fields, "watched": batch.fields["watched"].sort(1).values}, batch.labels, batch.seen, batch.index)
    for given in (batch, turned, late):
        one = model(recipe)
        Fast(one, PLANS["plain"])(given)
        moved.append(one.table.detach().clone())
    torch.testing.assert_close(moved[1], moved[0], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(moved[2], moved[0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_batch_without_one_label_moves_only_what_the_penalty_pulls(recipe: str) -> None:
    one = model(recipe, **({"sparsity": 0.0} if "sparsity" in taken(recipe) else {}))
    batch = narrowed(rows(3))
    blind = Batch(batch.fields, batch.labels, torch.zeros_like(batch.seen), batch.index)
    before = one.table.detach().clone()
    dense = [parameter.detach().clone() for parameter in one.dense_parameters()]
    said = Fast(one, Plan(rate=0.5, l2=0.1, clip=1e9, rows=Descent))(blind)
    assert said.tolist() == [0.0, 0.0, 0.0]
    assert equal([parameter.detach() for parameter in one.dense_parameters()], dense)
    expected = before.clone()
    expected[touched(batch)] *= 1 - 0.5 * 0.1
    torch.testing.assert_close(one.table.detach(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("recipe", SOME)
def test_twice_the_rows_are_the_same_step(recipe: str) -> None:
    """Means and not sums: every row twice has the gradient of every row once."""
    batch = narrowed(rows(4))
    twice = Batch(
        {name: torch.cat([field, field]) for name, field in batch.fields.items()},
        batch.labels.repeat(2, 1), batch.seen.repeat(2, 1), torch.arange(24),
    )
    one, other = model(recipe), model(recipe)
    for made, given in ((one, batch), (other, twice)):
        Fast(made, PLANS["penalty, clipped"])(given)
    torch.testing.assert_close(other.table, one.table, rtol=1e-6, atol=1e-7)


def test_clipping_was_at_work_and_was_not() -> None:
    """The plans above hold what their names say."""
    one, batch = model("stem"), rows(0)
    norms = {}
    for name in ("plain", "clipped"):
        found = clipped(one, batch, PLANS[name])
        norms[name] = math.sqrt(sum(float((gradient**2).sum()) for gradient in found.values()))
    assert norms["plain"] > 0.5
    assert norms["clipped"] == pytest.approx(0.2, rel=1e-4)
    assert len(touched(batch)) < len(one.table) / 2
