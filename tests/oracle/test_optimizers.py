"""Our steps against torch's own optimisers."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tests.toys import Batches, Toy, toy
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from umbel.data.batch import Batch
from umbel.learn.optim import DenseAdam, RowAdagrad, RowAdam
from umbel.learn.plan import Plan
from umbel.learn.step import Exact, Fast
from umbel.nn.losses import Denominator


def gradients(rows: int, width: int, *, steps: int, touched: int) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(7)
    return [(torch.randperm(rows, generator=draw)[:touched], torch.randn(touched, width, generator=draw)) for _ in range(steps)]


def dense(ids: Tensor, grad: Tensor, rows: int) -> Tensor:
    return torch.zeros(rows, grad.shape[1]).index_copy_(0, ids, grad)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_dense_optimiser_is_torchs_to_the_last_bit(decay: float) -> None:
    """With groups, a schedule, and gradients that are let go of."""
    mine, torchs = ([nn.Parameter(torch.ones(20, 4)), nn.Parameter(torch.ones(20, 4))] for _ in range(2))
    for made, own in ((DenseAdam, mine), (torch.optim.AdamW, torchs)):
        one = made(own[:1], lr=0.01, weight_decay=decay, fused=True)
        one.add_param_group({"params": own[1:], "weight_decay": 0.0})
        schedule = torch.optim.lr_scheduler.ExponentialLR(one, 0.9)
        for _, grad in gradients(20, 4, steps=10, touched=20):
            torch.autograd.backward([(parameter * grad).sum() for parameter in own])
            one.step()
            one.zero_grad()
            schedule.step()
        assert all(parameter.grad is None and parameter.requires_grad for parameter in own)
    assert all(torch.equal(left, right) for left, right in zip(mine, torchs, strict=True))
    assert not torch.equal(mine[0], mine[1]) if decay else torch.equal(mine[0], mine[1])


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.7)])
def test_adam_with_every_row_touched_is_torchs(betas: tuple[float, float]) -> None:
    ours, theirs = torch.ones(20, 4), nn.Parameter(torch.ones(20, 4))
    adam, reference = RowAdam(ours, betas=betas), torch.optim.Adam([theirs], lr=0.01, betas=betas)
    for ids, grad in gradients(20, 4, steps=30, touched=20):
        adam.step(ids, grad, rate=0.01)
        theirs.grad = dense(ids, grad, 20)
        reference.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-6, atol=1e-7)


def test_adam_with_few_rows_touched_is_torchs_sparse_adam() -> None:
    ours, theirs = torch.ones(50, 4), nn.Parameter(torch.ones(50, 4))
    # Torch's adds eps before the bias correction, ours after it, as Adam does: a vanishing eps leaves no difference.
    adam, reference = RowAdam(ours, eps=1e-30), torch.optim.SparseAdam([theirs], lr=0.01, eps=1e-30)
    for ids, grad in gradients(50, 4, steps=40, touched=9):
        adam.step(ids, grad, rate=0.01)
        theirs.grad = torch.sparse_coo_tensor(ids[None], grad, (50, 4), check_invariants=True)
        reference.step()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-6, atol=1e-6)


def test_adam_with_few_rows_touched_is_not_torchs_adam() -> None:
    """The documented difference: a row that is left alone stands still here, and goes on moving there."""
    ours, theirs = torch.zeros(2, 1), nn.Parameter(torch.zeros(2, 1))
    adam, reference = RowAdam(ours), torch.optim.Adam([theirs], lr=0.001)
    for step in range(600):
        # Row 1 is touched for the first time at step 300, and never again.
        grad = torch.tensor([[1.0], [1.0 if step == 300 else 0.0]])
        ids = torch.tensor([0, 1]) if step == 300 else torch.tensor([0])
        adam.step(ids, grad[: len(ids)], rate=0.001)
        theirs.grad = grad
        reference.step()
    torch.testing.assert_close(ours[0], theirs.detach()[0], rtol=1e-4, atol=0)
    assert 5 < float(theirs.detach()[1] / ours[1]) < 15


@pytest.mark.parametrize("eps", [1e-10, 0.1])
def test_elementwise_adagrad_is_torchs_whatever_is_touched(eps: float) -> None:
    ours, theirs = torch.ones(50, 4), nn.Parameter(torch.ones(50, 4))
    adagrad, reference = RowAdagrad(ours, eps=eps, elementwise=True), torch.optim.Adagrad([theirs], lr=0.1, eps=eps)
    for ids, grad in gradients(50, 4, steps=40, touched=9):
        adagrad.step(ids, grad, rate=0.1)
        theirs.grad = dense(ids, grad, 50)
        reference.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-6, atol=1e-6)


def test_rowwise_adagrad_is_torchs_where_a_row_has_one_number() -> None:
    ours, theirs = torch.ones(50, 1), nn.Parameter(torch.ones(50, 1))
    adagrad, reference = RowAdagrad(ours), torch.optim.Adagrad([theirs], lr=0.1)
    for ids, grad in gradients(50, 1, steps=40, touched=9):
        adagrad.step(ids, grad, rate=0.1)
        theirs.grad = dense(ids, grad, 50)
        reference.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-6, atol=1e-6)


class Reference:
    """A step as one would write it in plain torch: a dense gradient, the penalty in the loss, one clip, one Adam."""

    def __init__(self, model: Toy, plan: Plan) -> None:
        self.model, self.plan = model, plan
        self.optimizer = torch.optim.Adam(model.parameters(), lr=plan.rate, foreach=False)

    def __call__(self, batch: Batch) -> None:
        loss = binary_cross_entropy_with_logits(self.model(batch.fields), batch.labels, reduction="none") * batch.seen
        count = batch.seen.sum(0) if self.plan.denominator is Denominator.SEEN else len(batch.labels)
        total = (loss.sum(0) / count).sum() + self.plan.l2 / 2 * self.model.table.square().sum()
        self.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip)
        self.optimizer.step()


PLANS = [
    Plan(rate=0.01), Plan(rate=0.01, l2=0.3), Plan(rate=0.01, l2=0.3, clip=0.1), Plan(rate=0.01, denominator=Denominator.ROWS),
]


@pytest.mark.parametrize("plan", PLANS)
def test_an_exact_step_is_plain_torch(plan: Plan) -> None:
    ours, theirs = toy(), toy()
    step, reference = Exact(ours, plan), Reference(theirs, plan)
    for batch in Batches(steps=25)(0):
        step(batch)
        reference(batch)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("plan", PLANS)
def test_a_fast_step_that_touches_every_row_is_plain_torch(plan: Plan) -> None:
    ours, theirs = toy(rows=6), toy(rows=6)
    step, reference = Fast(ours, plan), Reference(theirs, plan)
    for batch in Batches(steps=25, size=64, codes=6)(0):
        assert set(batch.fields["tags"].flatten().tolist()) == {-1, 0, 1, 2, 3, 4, 5}
        step(batch)
        reference(batch)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_fast_step_with_elementwise_adagrad_is_plain_torch() -> None:
    """Without L2 an untouched row has no gradient in either, so that few rows touched make no difference."""
    ours, theirs = toy(rows=40), toy(rows=40)
    step = Fast(ours, Plan(rate=0.01, l2=0.0, rows=partial(RowAdagrad, rate=0.1, elementwise=True)))
    adam, adagrad = torch.optim.Adam(theirs.head.parameters(), lr=0.01), torch.optim.Adagrad([theirs.table], lr=0.1)
    for batch in Batches(steps=25, codes=40)(0):
        step(batch)
        loss = binary_cross_entropy_with_logits(theirs(batch.fields), batch.labels, reduction="none") * batch.seen
        theirs.zero_grad()
        (loss.sum(0) / batch.seen.sum(0)).sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
        adagrad.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
