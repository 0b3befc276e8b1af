"""What training keeps for every recipe, with every kind of field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tests.toys import equal

from umbel.data.batch import Batch
from umbel.learn.fit import fit
from umbel.learn.plan import Plan
from umbel.learn.predict import predict
from umbel.learn.step import Exact, Fast
from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import RECIPES
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

USERS, VIDEOS = 7, 9
FIELDS = (
    Field("user", FieldKind.ID),
    Field("video", FieldKind.ID),
    Field("watched", FieldKind.SEQUENCE, like="video", length=3),
    Field("age", FieldKind.NUMBER),
    Field("picture", FieldKind.VECTOR, width=4),
)
SCHEMA = Schema(FIELDS, (Task("click"), Task("buy", given="click"), Task("minutes", REGRESSION, weight=0.5)))
SIZES = Sizes({"user": USERS, "video": VIDEOS}, dim=4, expert=(8,), gate=(), tower=(4,))
Recipe = Callable[..., Recommender]


def model(recipe: Recipe, *, dropout: float = 0.0) -> Recommender:
    torch.manual_seed(0)
    made = recipe(SCHEMA, replace(SIZES, dropout=dropout))
    with torch.no_grad():
        made.table.normal_()  # far enough from 0 that every gradient is larger than the rounding
    return made


def rows(count: int, *, seed: int, users: int = USERS) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    fields = {
        "user": torch.randint(0, users, (count,), generator=draw, dtype=torch.int32),
        "video": torch.randint(0, VIDEOS, (count,), generator=draw, dtype=torch.int32),
        "watched": torch.randint(-1, VIDEOS, (count, 3), generator=draw, dtype=torch.int32),
        "age": torch.where(torch.rand(count, generator=draw) < 0.2, torch.nan, torch.randn(count, generator=draw)),
        "picture": torch.randn(count, 4, generator=draw),
    }
    labels = torch.stack([(torch.rand(count, generator=draw) < 0.5).float() for _ in range(3)], 1)
    return Batch(fields, labels, torch.rand(count, 3, generator=draw) < 0.7, torch.arange(count))


def batches(epoch: int, start: int) -> list[Batch]:
    return [rows(16, seed=10 * epoch + step) for step in range(4)][start:]


def named(model: Recommender) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in model.state_dict().values()]


def drawn(step: Fast | Exact, seed: int) -> torch.Tensor:
    """A step whose noise is that of the seed."""
    torch.manual_seed(seed)
    return step(rows(128, seed=seed))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_touching_every_row_fast_is_exact(recipe: Recipe) -> None:
    fast, exact = model(recipe), model(recipe)
    plan = Plan(rate=0.01, l2=0.01)
    steps = Fast(fast, plan), Exact(exact, plan)
    for seed in range(8):
        one, other = (drawn(step, seed) for step in steps)
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for name, weight in fast.state_dict().items():
        torch.testing.assert_close(weight, exact.state_dict()[name], rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_rows_that_no_batch_reads_keep_their_bytes(recipe: Recipe) -> None:
    one = model(recipe)
    before = one.table.detach().clone()
    step = Fast(one, Plan(l2=0.1))
    for seed in range(5):
        step(rows(32, seed=seed, users=3))
    assert torch.equal(one.table[3:USERS], before[3:USERS])
    assert (one.table[:3] != before[:3]).any(dim=1).all()
    assert (one.table[USERS:] != before[USERS:]).any(dim=1).all()


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_going_on_from_the_middle_of_an_epoch_gives_the_same_bytes(recipe: Recipe) -> None:
    plan = Plan(epochs=2, pause=0.0)
    whole, part, rest = (model(recipe, dropout=0.2) for _ in range(3))
    list(fit(whole, batches, plan=plan, judge=lambda _: 0.0))
    running = fit(part, batches, plan=plan, judge=lambda _: 0.0)
    for _ in range(7):
        state = next(running).state
    list(fit(rest, batches, plan=plan, judge=lambda _: 0.0, start=state))
    assert equal(named(rest), named(whole))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_predicting_changes_nothing(recipe: Recipe) -> None:
    one = model(recipe, dropout=0.2)
    before = named(one)
    logits = predict(one, batches(0, 0))
    assert logits.shape == (64, 3 + len(one.head.auxiliary))
    assert (logits == predict(one, batches(0, 0))).all()
    assert equal(named(one), before)


def test_a_model_without_look_ups_trains() -> None:
    schema = Schema((Field("age", FieldKind.NUMBER),), (Task("click"),))
    torch.manual_seed(0)
    one = RECIPES["shared_bottom"](schema, Sizes({}, dim=2, expert=(4,), tower=()))
    before = named(one)
    age = torch.linspace(-1, 1, 32)
    batch = Batch({"age": age}, (age > 0).float()[:, None], torch.ones(32, 1, dtype=torch.bool), torch.arange(32))
    (epoch,) = fit(one, lambda epoch, start: [batch] * 30, plan=Plan(epochs=1, rate=0.05), judge=lambda _: 0.0)
    assert epoch.losses[0] < 0.6
    assert not equal(named(one), before)
