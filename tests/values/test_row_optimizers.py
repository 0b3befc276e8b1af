"""Row optimisers and one training step, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from tests.toys import Toy, batch, toy
from torch import Tensor

from umbel.learn.optim import RowAdagrad, RowAdam, RowOptimizer
from umbel.learn.plan import Plan
from umbel.learn.step import Exact, Fast, Step


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers)[:, None]


def test_two_steps_of_adam_on_two_rows() -> None:
    table = column(1.0, 2.0)
    adam = RowAdam(table, betas=(0.8, 0.9), eps=0.5)
    adam.step(torch.tensor([0, 1]), column(2.0, -1.0), rate=0.1)
    # Step 1. Row 0: m = 0.2 * 2 = 0.4, v = 0.1 * 4 = 0.4; corrected 0.4 / 0.2 = 2 and 0.4 / 0.1 = 4: 2 / (2 + 0.5) = 0.8.
    # Row 1: m = -0.2, v = 0.1; corrected -1 and 1: -1 / 1.5.
    assert table[:, 0].tolist() == pytest.approx([1.0 - 0.1 * 0.8, 2.0 + 0.1 / 1.5])
    adam.step(torch.tensor([1]), column(3.0), rate=0.2)
    # Step 2, row 1 alone: m = 0.8 * -0.2 + 0.2 * 3 = 0.44, v = 0.9 * 0.1 + 0.1 * 9 = 0.99;
    # corrected 0.44 / (1 - 0.64) and 0.99 / (1 - 0.81).
    moved = 0.2 * (0.44 / 0.36) / (math.sqrt(0.99 / 0.19) + 0.5)
    assert table[:, 0].tolist() == pytest.approx([1.0 - 0.1 * 0.8, 2.0 + 0.1 / 1.5 - moved])
    assert adam.first.flatten().tolist() == pytest.approx([0.4, 0.44])
    assert adam.second.flatten().tolist() == pytest.approx([0.4, 0.99])
    assert adam.steps == 2


def test_adagrad_with_one_number_a_row() -> None:
    table = torch.tensor([[0.0, 0.0], [5.0, 5.0]])
    adagrad = RowAdagrad(table, eps=1.0)
    adagrad.step(torch.tensor([0]), torch.tensor([[3.0, 4.0]]), rate=0.5)
    first = math.sqrt(12.5) + 1  # the mean of 9 and 16
    adagrad.step(torch.tensor([0]), torch.tensor([[1.0, 0.0]]), rate=0.5)
    second = math.sqrt(12.5 + 0.5) + 1
    assert table[0].tolist() == pytest.approx([-1.5 / first - 0.5 / second, -2.0 / first])
    assert table[1].tolist() == [5.0, 5.0]
    assert adagrad.sums.flatten().tolist() == pytest.approx([13.0, 0.0])


def test_adagrad_with_one_number_an_element() -> None:
    table = torch.zeros(1, 2)
    adagrad = RowAdagrad(table, eps=1.0, elementwise=True)
    adagrad.step(torch.tensor([0]), torch.tensor([[3.0, 4.0]]), rate=0.5)
    assert table[0].tolist() == pytest.approx([-0.5 * 3 / 4, -0.5 * 4 / 5])
    assert adagrad.sums.tolist() == [[9.0, 16.0]]


@pytest.mark.parametrize("kind", [RowAdam, RowAdagrad])
def test_no_rows_is_no_step_of_any_row(kind: type[RowAdam] | type[RowAdagrad]) -> None:
    table = torch.ones(3, 2)
    kind(table).step(torch.empty(0, dtype=torch.long), torch.empty(0, 2), rate=1.0)
    assert torch.equal(table, torch.ones(3, 2))


def still(optimizer: Step) -> None:
    """Keep the dense optimiser from moving anything."""
    optimizer.optimizer.param_groups[0]["lr"] = 0.0


class Watched(RowOptimizer):
    """Records what it is given."""

    def __init__(self, table: Tensor) -> None:
        super().__init__(table, None)
        self.given: list[tuple[list[int], Tensor, float]] = []

    def step(self, ids: Tensor, grad: Tensor, *, rate: float) -> None:
        self.given.append((ids.tolist(), grad.clone(), rate))

    def state(self) -> dict[str, Tensor]:
        return {}

    def load(self, state: object) -> None:
        pass


def watched(model: Toy, plan: Plan) -> tuple[Fast, Watched]:
    step = Fast(model, plan)
    assert isinstance(step.rows, Watched)
    return step, step.rows


def plain_model() -> Toy:
    """One task's worth of numbers that are easy by hand: the logit is the sum of the codes' first numbers."""
    model = toy(rows=5)
    with torch.no_grad():
        model.table.zero_()
        model.head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        model.head.bias.zero_()
    return model


def test_duplicates_are_summed_and_l2_counts_once() -> None:
    model = plain_model()
    with torch.no_grad():
        model.table[3, 1] = 2.0
    step, rows = watched(model, Plan(rows=Watched, l2=0.1, rate=0.25))
    # Two rows, logits 0, labels 1 and 0: each row's gradient at its logit is (0.5 - y) / 2. Code 3 stands in both, twice in the first.
    step(batch(torch.tensor([[3, 3, -1], [3, 4, -1]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])))
    (ids, grad, rate), = rows.given
    assert ids == [3, 4]
    assert grad[:, 0].tolist() == pytest.approx([-0.25 - 0.25 + 0.25, 0.25])
    assert grad[:, 1].tolist() == pytest.approx([0.1 * 2.0, 0.0])
    assert rate == 0.25


@pytest.mark.parametrize("kind", [Fast, Exact])
def test_the_clip_is_of_the_joint_norm(kind: type[Fast] | type[Exact]) -> None:
    clips = []
    for clip in (1e9, 0.05):
        model = plain_model()
        plan = Plan(rows=Watched, clip=clip, l2=0.5)
        step = kind(model, plan)
        still(step)
        step(batch(torch.tensor([[3, -1, -1], [4, -1, -1]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])))
        table = step.rows.given[0][1] if isinstance(step, Fast) and isinstance(step.rows, Watched) else model.table.grad
        assert table is not None
        clips.append([table, *(parameter.grad for parameter in model.dense_parameters() if parameter.grad is not None)])
    norm = math.sqrt(sum(float(grad.square().sum()) for grad in clips[0]))
    for free, bounded in zip(*clips, strict=True):
        assert bounded.flatten().tolist() == pytest.approx((free * 0.05 / norm).flatten().tolist(), abs=1e-7)


def test_l2_is_inside_the_clip() -> None:
    model = plain_model()
    with torch.no_grad():
        model.table[3] = torch.tensor([0.0, 30.0])
        model.head.weight.zero_()
    step, rows = watched(model, Plan(rows=Watched, clip=1.0, l2=1.0))
    step(batch(torch.tensor([[3, -1, -1]]), torch.tensor([[1.0, 0.0]])))
    # Gradients: 30 from L2, and at the head 0.5 * 30 per task and two biases of 0.5.
    norm = math.sqrt(30.0**2 + 2 * 15.0**2 + 2 * 0.5**2)
    assert rows.given[0][1].flatten().tolist() == pytest.approx([0.0, 30.0 / norm])


def test_exact_l2_is_over_the_whole_table() -> None:
    model = plain_model()
    with torch.no_grad():
        model.table[1] = torch.tensor([4.0, 0.0])
    step = Exact(model, Plan(l2=0.25))
    still(step)
    step(batch(torch.tensor([[3, -1, -1]]), torch.tensor([[1.0, 0.0]])))
    assert model.table.grad is not None
    assert model.table.grad[1].tolist() == [1.0, 0.0]
    assert model.table.grad[3].tolist() == [-0.5, 0.0]


def test_a_row_optimiser_may_have_its_own_rate_and_follows_the_schedule() -> None:
    def own(table: Tensor) -> RowOptimizer:
        optimizer = Watched(table)
        optimizer.rate = 0.05
        return optimizer

    step = Fast(plain_model(), Plan(rows=own, rate=0.001))
    rows = batch(torch.tensor([[3, -1, -1]]), torch.tensor([[1.0, 0.0]]))
    step(rows)
    step.optimizer.param_groups[0]["lr"] *= 0.1
    step(rows)
    assert isinstance(step.rows, Watched)
    assert [rate for _, _, rate in step.rows.given] == pytest.approx([0.05, 0.005])


def test_losses_are_those_before_the_update() -> None:
    losses = Fast(plain_model(), Plan(rate=1.0))(batch(torch.tensor([[3, -1, -1]]), torch.tensor([[1.0, 0.0]])))
    assert losses.tolist() == pytest.approx([math.log(2), math.log(2)])
    assert not losses.requires_grad
