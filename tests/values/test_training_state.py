"""Counters, sums, steps and states of a training, by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from tests.toys import Batches, Toy, batch, toy
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from umbel.data.batch import Batch
from umbel.errors import UserError
from umbel.learn.fit import LOOK, fit
from umbel.learn.history import peak
from umbel.learn.optim import RowAdagrad, RowAdam
from umbel.learn.plan import Plan
from umbel.learn.predict import predict
from umbel.learn.schedules import Plateau
from umbel.learn.seam import Model
from umbel.learn.state import Progress, random_state, set_random_state
from umbel.learn.step import Exact, Fast
from umbel.learn.tally import Tally
from umbel.nn.losses import Denominator
from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import mmoe

CPU = torch.device("cpu")


def constant(model: Toy) -> float:
    return 0.5


@pytest.mark.parametrize(("scores", "best"), [
    ((0.5,), 0),
    ((-3.0, -2.0), 1),
    ((0.5, 0.5), 0),
    ((0.5, 0.5 + 1e-6, 0.5 + 1.5e-6), 2),   # neither is enough above the one before, but the last is above the best
    ((0.5, 0.7, 0.6, 0.7 + 5e-7), 1),
    ((0.9, 0.1, 0.95), 2),
])
def test_the_best_epoch(scores: tuple[float, ...], best: int) -> None:
    assert peak(scores) == best


@pytest.mark.parametrize(("epochs", "patience", "scores", "over"), [
    (3, 2, (), False),
    (3, 2, (0.1,), False),
    (3, 2, (0.1, 0.2, 0.3), True),
    (9, 2, (0.3, 0.1), False),
    (9, 2, (0.3, 0.1, 0.2), True),
    (9, 1, (0.3, 0.1), True),
    (9, 2, (0.1, 0.0, 0.2, 0.1), False),
])
def test_when_training_is_over(epochs: int, patience: int, scores: tuple[float, ...], over: bool) -> None:
    progress = Progress(epoch=len(scores), scores=tuple({"click": score} for score in scores))
    assert progress.over(Plan(epochs=epochs, patience=patience)) is over


def test_means_weigh_each_step_by_its_labels() -> None:
    tally = Tally(2, CPU)
    tally.add(torch.tensor([1.0, 4.0]), torch.tensor([3, 1]), step=0)
    tally.add(torch.tensor([2.0, 0.0]), torch.tensor([1, 0]), step=1)
    assert tally.means() == pytest.approx(((3 * 1.0 + 2.0) / 4, 4.0))


def test_a_task_that_nobody_saw_has_mean_zero() -> None:
    tally = Tally(1, CPU)
    tally.add(torch.tensor([0.0]), torch.tensor([0]), step=0)
    assert tally.means() == (0.0,)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_the_first_broken_step_is_named(broken: float) -> None:
    tally = Tally(3, CPU)
    tally.add(torch.ones(3), torch.ones(3, dtype=torch.long), step=0)
    assert tally.broke() is None
    tally.add(torch.tensor([1.0, 1.0, broken]), torch.ones(3, dtype=torch.long), step=6)
    tally.add(torch.tensor([1.0, broken, 1.0]), torch.ones(3, dtype=torch.long), step=7)
    assert tally.broke() == (6, 2)


def test_a_tally_goes_on_from_its_state() -> None:
    one, other = Tally(2, CPU), Tally(2, CPU)
    one.add(torch.tensor([1.0, 2.0]), torch.tensor([2, 2]), step=0)
    other.load({name: tensor.clone() for name, tensor in one.state().items()})
    for tally in (one, other):
        tally.add(torch.tensor([3.0, float("nan")]), torch.tensor([1, 1]), step=1)
    assert one.means()[0] == other.means()[0] == pytest.approx(5 / 3)
    assert other.broke() == (1, 1)


@pytest.mark.parametrize(("wrong", "found"), [(3, 4), (300, 2 * LOOK)])
def test_a_broken_loss_is_found_before_the_epoch_ends(wrong: int, found: int) -> None:
    drawn = []

    def endless(epoch: int, start: int) -> Iterator[Batch]:
        rows = next(iter(Batches(steps=1)(0)))
        bad = replace(rows, labels=torch.full_like(rows.labels, float("inf")))
        for step in range(start, 10 * LOOK):
            drawn.append(step)
            yield bad if step == wrong else rows

    with pytest.raises(UserError, match=f"step {wrong + 1}: the label of 'a' holds inf in rows 0, 1, 2 and 2 more of the table"):
        list(fit(toy(), endless, plan=Plan(), judge=constant))
    assert drawn == [*range(found), wrong - 1, wrong]  # then the guilty batch and the one before are asked for again


def test_random_numbers_go_on_where_they_were() -> None:
    torch.manual_seed(4)
    states = random_state(CPU)
    first = torch.rand(3)
    torch.rand(9)
    set_random_state(states, CPU)
    assert torch.equal(torch.rand(3), first)


def test_rows_as_denominator_count_rows() -> None:
    rows = batch(torch.tensor([[1, -1, -1], [2, -1, -1]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
                 torch.tensor([[True, True], [False, True]]))
    losses = []
    for denominator in Denominator:
        model = toy()
        with torch.no_grad():
            model.table.zero_()
            model.head.bias.zero_()
        (epoch,) = fit(model, lambda number, start: [rows], plan=Plan(epochs=1, denominator=denominator), judge=constant)
        losses.append(epoch.losses)
    assert list(Denominator) == [Denominator.ROWS, Denominator.SEEN]
    assert losses[0] == pytest.approx((math.log(2) / 2, math.log(2)))
    assert losses[1] == pytest.approx((math.log(2), math.log(2)))


def test_a_plan_is_a_value() -> None:
    assert Plan() == Plan()
    assert Plan(rate=0.1) != Plan()
    with pytest.raises(FrozenInstanceError):
        cast(Any, Plan()).rate = 0.1


def test_the_plateau_is_the_published_one() -> None:
    optimizer = Adam([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = Plateau()(optimizer)
    assert isinstance(schedule, ReduceLROnPlateau)
    rates = []
    for score in (0.5, 0.6, 0.6 + 5e-7, 0.7, 0.1, 0.1):
        schedule.step(score)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01, 0.001])


def test_the_seam_is_a_recommenders() -> None:
    model: Model = mmoe(toy().schema, Sizes({"user": 3, "tags": 4}, dim=2))
    assert isinstance(model, Model)
    assert isinstance(model, Recommender)
    assert isinstance(toy(), Model)
    assert not isinstance(torch.nn.Linear(1, 1), Model)


def test_dense_states_are_named_by_number_and_empty_before_the_first_step() -> None:
    step = Fast(toy(), Plan())
    assert step.state() == {}
    step(next(iter(Batches()(0))))
    assert sorted(step.state()) == [f"{number}.{name}" for number in (0, 1) for name in ("exp_avg", "exp_avg_sq", "step")]
    assert sorted(step.table_state()) == ["first", "second", "steps"]


def test_exact_keeps_the_tables_moments_with_the_others() -> None:
    step = Exact(toy(), Plan(exact=True))
    step(next(iter(Batches()(0))))
    assert step.table_state() == {}
    assert step.state()["2.exp_avg"].shape == (12, 2)


@pytest.mark.parametrize("kind", [RowAdam, RowAdagrad])
def test_row_states_are_copied_in_and_live_out(kind: type[RowAdam] | type[RowAdagrad]) -> None:
    one, other = torch.ones(4, 2), torch.ones(4, 2)
    first, second = kind(one), kind(other)
    ids, grad = torch.tensor([0, 2]), torch.full((2, 2), 0.5)
    first.step(ids, grad, rate=0.1)
    other.copy_(one)
    second.load(first.state())
    first.step(ids, grad, rate=0.1)
    assert not torch.equal(one, other)
    second.step(ids, grad, rate=0.1)
    assert torch.equal(one, other)
    for name, tensor in second.state().items():
        assert torch.equal(tensor, first.state()[name])
        assert tensor.data_ptr() != first.state()[name].data_ptr()


def test_predictions_are_plain_float32_arrays() -> None:
    model = toy()
    rows = list(Batches(steps=3)(0))
    logits = predict(model, iter(rows))
    assert logits.dtype == np.float32
    assert isinstance(logits, np.ndarray)
    logits[0, 0] = 7.0  # the caller may write
    with torch.no_grad():
        expected: Tensor = model.double()(rows[2].fields)
    assert predict(model, rows[2:]).dtype == np.float32
    np.testing.assert_allclose(logits[16:], expected.numpy(), rtol=1e-5)
