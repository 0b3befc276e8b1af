"""Losses in numbers small enough to do by hand; what was not seen counts for nothing, exactly."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from tests.everykind import Labels
from torch import Tensor

from umbel.kinds import BINARY, REGRESSION, Binary
from umbel.nn.kinds import link
from umbel.nn.losses import Denominator, Labelled, task_losses
from umbel.objectives import OBJECTIVES
from umbel.schema import Field, FieldKind, Schema, Task

USER = Field("user", FieldKind.ID)
SCHEMA = Schema((USER,), (Task("click"), Task("seconds", kind=REGRESSION)))
LN2 = math.log(2.0)


def seen(*rows: tuple[int, int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.bool)


ALL = seen((1, 1), (1, 1), (1, 1), (1, 1))
LOGITS = torch.tensor([[0.0, 1.0], [0.0, 2.0], [math.log(3.0), 3.0], [-math.log(3.0), 4.0]])
LABELS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 5.0], [1.0, 4.0]])


def test_by_hand() -> None:
    """Chances .5, .5, .75, .25 of labels 1, 0, 1, 1: ln 2, ln 2, ln 4/3, ln 4."""
    losses = task_losses(LOGITS, Labels(LABELS, ALL), SCHEMA)
    assert losses.tolist() == pytest.approx([(2 * LN2 + math.log(4 / 3) + math.log(4)) / 4, (1 + 0 + 4 + 0) / 4])


@pytest.mark.parametrize(("denominator", "expected"), [(Denominator.SEEN, [LN2, 2.5]), (Denominator.ROWS, [LN2 / 4, 1.25])])
def test_the_denominator_has_a_name(denominator: Denominator, expected: list[float]) -> None:
    some = seen((0, 1), (1, 0), (0, 1), (0, 0))
    assert task_losses(LOGITS, Labels(LABELS, some), SCHEMA, denominator=denominator).tolist() == pytest.approx(expected)


def test_seen_is_the_default() -> None:
    some = seen((0, 1), (1, 0), (0, 1), (0, 0))
    labels = Labels(LABELS, some)
    assert torch.equal(task_losses(LOGITS, labels, SCHEMA), task_losses(LOGITS, labels, SCHEMA, denominator=Denominator("seen")))


@pytest.mark.parametrize("denominator", list(Denominator))
def test_a_task_that_nobody_saw(denominator: Denominator) -> None:
    logits = LOGITS.clone().requires_grad_()
    losses = task_losses(logits, Labels(LABELS, seen((0, 1), (0, 1), (0, 1), (0, 1))), SCHEMA, denominator=denominator)
    assert losses[0].item() == 0.0
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert not gradient[:, 0].any()
    assert gradient[:, 1].any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e30])
@pytest.mark.parametrize("where", ["label", "logit"])
def test_what_was_not_seen_may_hold_anything(where: str, bad: float) -> None:
    some = seen((1, 1), (0, 1), (1, 0), (1, 1))
    spoilt, labels = LOGITS.clone(), LABELS.clone()
    for row, task in ((1, 0), (2, 1)):
        (spoilt if where == "logit" else labels)[row, task] = bad
    spoilt.requires_grad_()
    clean = LOGITS.clone().requires_grad_()
    losses = task_losses(spoilt, Labels(labels, some), SCHEMA)
    expected = task_losses(clean, Labels(LABELS, some), SCHEMA)
    assert torch.equal(losses, expected)
    (gradient,) = torch.autograd.grad(losses.sum(), spoilt)
    assert torch.equal(gradient, torch.autograd.grad(expected.sum(), clean)[0])
    assert gradient[1, 0].item() == 0.0
    assert gradient[2, 1].item() == 0.0


def test_a_task_s_weight_multiplies_its_loss() -> None:
    heavy = Schema((USER,), (Task("click", weight=3.0), Task("seconds", kind=REGRESSION, weight=0.5)))
    labels = Labels(LABELS, ALL)
    torch.testing.assert_close(task_losses(LOGITS, labels, heavy), task_losses(LOGITS, labels, SCHEMA) * torch.tensor([3.0, 0.5]))


def test_a_row_s_weight_multiplies_its_loss_and_not_the_count() -> None:
    weight = torch.tensor([[2.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 7.0]])
    assert task_losses(LOGITS, Labels(LABELS, ALL, weight), SCHEMA).tolist() == pytest.approx([2 * LN2 / 4, 1 / 4])


def test_a_bad_weight_of_an_unseen_row_is_not_read() -> None:
    weight = torch.ones(4, 2)
    weight[1, 0] = torch.nan
    some = seen((1, 1), (0, 1), (1, 1), (1, 1))
    assert torch.equal(task_losses(LOGITS, Labels(LABELS, some, weight), SCHEMA), task_losses(LOGITS, Labels(LABELS, some), SCHEMA))


def test_gradients_by_hand() -> None:
    """(p - y) / n for a chance, 2 (z - y) / n for a number."""
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(task_losses(logits, Labels(LABELS, ALL), SCHEMA).sum(), logits)
    expected = torch.tensor([[-0.5, 2.0], [0.5, 0.0], [-0.25, -4.0], [-0.75, 0.0]]) / 4
    torch.testing.assert_close(gradient, expected)


def test_tasks_do_not_meet() -> None:
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(task_losses(logits, Labels(LABELS, ALL), SCHEMA)[0], logits)
    assert not gradient[:, 1].any()


def test_auxiliary_outputs_are_left_alone() -> None:
    wide = torch.cat([LOGITS, torch.full((4, 2), torch.nan)], 1)
    labels = Labels(LABELS, ALL)
    assert torch.equal(task_losses(wide, labels, SCHEMA), task_losses(LOGITS, labels, SCHEMA))


def test_no_rows_cost_nothing() -> None:
    none = Labels(LABELS[:0], ALL[:0])
    for denominator in Denominator:
        assert task_losses(LOGITS[:0], none, SCHEMA, denominator=denominator).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("z", [-200.0, -30.0, 30.0, 200.0])
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_far_logits_stay_finite(z: float, y: float) -> None:
    logits = torch.full((1, 2), z, requires_grad=True)
    losses = task_losses(logits, Labels(torch.full((1, 2), y), ALL[:1]), SCHEMA)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert losses.isfinite().all()
    assert gradient.isfinite().all()
    assert losses[0].item() == pytest.approx(abs(z) if (z > 0) != (y > 0) else 0.0, abs=1e-6)


def test_links_by_hand() -> None:
    outputs = torch.tensor([[0.0], [math.log(3.0)]])
    assert link(BINARY, outputs)[:, 0].tolist() == pytest.approx([0.5, 0.75])
    assert link(REGRESSION, outputs)[:, 0].tolist() == pytest.approx([0.0, math.log(3.0)])


def test_a_plain_value_with_labels_will_do() -> None:
    assert isinstance(Labels(LABELS, ALL), Labelled)
    assert not isinstance(object(), Labelled)


BINARIES = [name for name, one in OBJECTIVES.items() if one.kind in (None, Binary)]
TRUTH = (0.2, 0.5, 0.9)  # chances of three kinds of rows, one of each in a group


@pytest.mark.parametrize("name", BINARIES)
def test_a_loss_is_proper_if_and_only_if_it_is_least_at_the_chances(name: str) -> None:
    """Over every outcome of a group of three, weighted by its chance; what a class weight raises is taken back."""
    loss = OBJECTIVES[name](positive=3.0) if name == "cross_entropy" else OBJECTIVES[name]()  # type: ignore[call-arg]
    outcomes = list(product((0.0, 1.0), repeat=3))
    chance = [math.prod(p if y else 1 - p for p, y in zip(TRUTH, one, strict=True)) for one in outcomes]
    weight = torch.tensor(chance, dtype=torch.float64).repeat_interleave(3)[:, None]
    group = torch.arange(len(outcomes)).repeat_interleave(3)
    batch = Labels(torch.tensor(outcomes, dtype=torch.float64).view(-1, 1), torch.ones(24, 1, dtype=torch.bool), weight, group)
    schema = Schema((USER,), (Task("click", loss=loss),))
    z = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([z], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def paid() -> Tensor:
        optimizer.zero_grad()
        found = task_losses(z.repeat(len(outcomes))[:, None], batch, schema)[0]
        torch.autograd.backward(found)
        return found

    optimizer.step(paid)  # type: ignore[no-untyped-call]
    missed = ((z.detach() - loss.raised).sigmoid() - torch.tensor(TRUTH, dtype=torch.float64)).abs().max()
    assert (float(missed) < 1e-4) == loss.proper, float(missed)
