"""Losses in float64 against numpy's and torch's own, with logits near and far, and gradients against differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.everykind import Labels
from torch import Tensor

from umbel.kinds import BINARY, REGRESSION, TaskKind
from umbel.nn.kinds import link, loss
from umbel.nn.losses import Denominator, task_losses
from umbel.schema import Field, FieldKind, Schema, Task

USER = Field("user", FieldKind.ID)
USER_ONLY = (USER,)
EXAMPLES = settings(max_examples=40, deadline=None)
LOGITS = st.floats(-1e4, 1e4)


def column(*numbers: float, kind: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(numbers, dtype=kind)[:, None]


@EXAMPLES
@given(st.lists(LOGITS, min_size=1, max_size=20), st.data())
def test_cross_entropy_is_numpys(logits: list[float], data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(logits), max_size=len(logits)))
    found = loss(BINARY, column(*logits), torch.tensor(labels, dtype=torch.float64)).numpy()
    z, y = np.array(logits), np.array(labels)
    np.testing.assert_allclose(found, np.logaddexp(0.0, np.where(y == 1, -z, z)), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("z", "y", "paid", "slope"), [
    (1e4, 1.0, 0.0, 0.0),
    (1e4, 0.0, 1e4, 1.0),
    (-1e4, 1.0, 1e4, -1.0),
    (-1e4, 0.0, 0.0, 0.0),
    (-40.0, 0.0, 0.0, math.exp(-40.0)),  # 1 - p is 1 to the last bit, and yet there is a gradient
    (30.0, 1.0, math.exp(-30.0), -math.exp(-30.0)),
    (0.0, 1.0, math.log(2.0), -0.5),
])
def test_far_logits_keep_their_slope(z: float, y: float, paid: float, slope: float) -> None:
    logits = column(z).requires_grad_()
    found = loss(BINARY, logits, torch.tensor([y], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert found.item() == pytest.approx(paid, rel=1e-9, abs=1e-15)
    assert gradient.item() == pytest.approx(slope, rel=1e-6, abs=1e-16)


def test_the_naive_way_would_have_lost_them() -> None:
    """What the formula is for: torch's loss of a probability gives up at 100."""
    chance = link(BINARY, column(-1e4))[:, 0].float()
    naive = torch.nn.functional.binary_cross_entropy(chance, torch.ones(1))
    assert naive.item() == 100.0
    assert loss(BINARY, column(-1e4), torch.ones(1, dtype=torch.float64)).item() == 1e4


@EXAMPLES
@given(st.lists(st.floats(-30, 30), min_size=1, max_size=9))
def test_links_are_the_slopes_of_their_losses(logits: list[float]) -> None:
    """A link is calibrated to its loss: the gradient at the output is `link - y`, twice that for a squared error."""
    kinds: list[tuple[TaskKind, float]] = [(BINARY, 1.0), (REGRESSION, 2.0)]
    for kind, factor in kinds:
        z = column(*logits).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(kind, z, torch.ones(len(logits), dtype=torch.float64)).sum(), z)
        torch.testing.assert_close(gradient[:, 0], factor * (link(kind, z.detach())[:, 0] - 1), atol=1e-12, rtol=1e-9)


ONE = st.tuples(st.floats(-20, 20), st.sampled_from([0.0, 1.0]), st.booleans(), st.floats(0, 3))


@pytest.mark.parametrize("denominator", list(Denominator))
@EXAMPLES
@given(drawn=st.lists(st.tuples(ONE, ONE, ONE), min_size=1, max_size=12), weights=st.tuples(*[st.floats(0, 5)] * 3))
def test_task_losses_are_a_loop_over_labels(
    denominator: Denominator, drawn: list[tuple[tuple[float, float, bool, float], ...]], weights: tuple[float, float, float],
) -> None:
    kinds = Schema(USER_ONLY, tuple(_task(number, weight) for number, weight in enumerate(weights)))
    logits, labels, seen, weight = (torch.tensor([[one[at] for one in row] for row in drawn]) for at in range(4))
    found = task_losses(logits.double(), Labels(labels.double(), seen.bool(), weight.double()), kinds, denominator=denominator)
    for task, factor in enumerate(weights):
        own = [row[task] for row in drawn if row[task][2]]
        terms = [w * ((z - y) ** 2 if task == 1 else math.log1p(math.exp(-z)) + (1 - y) * z) for z, y, _, w in own]
        count = len(own) if denominator is Denominator.SEEN else len(drawn)
        assert found[task].item() == pytest.approx(factor * math.fsum(terms) / max(count, 1), rel=1e-4, abs=1e-6)


def _task(number: int, weight: float) -> Task:
    return Task(f"task {number}", REGRESSION, weight=weight) if number == 1 else Task(f"task {number}", weight=weight)


def test_a_task_of_weight_nothing_teaches_nothing() -> None:
    schema = Schema(USER_ONLY, (Task("click", weight=0.0), Task("like")))
    logits = torch.tensor([[3.0, 1.0], [-2.0, 0.5]], requires_grad=True)
    losses = task_losses(logits, Labels(torch.ones(2, 2), torch.ones(2, 2, dtype=torch.bool)), schema)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert losses[0].item() == 0.0
    assert not gradient[:, 0].any()
    assert gradient[:, 1].all()


@pytest.mark.parametrize("denominator", list(Denominator))
def test_halves_of_a_batch_add_up_to_the_whole(denominator: Denominator) -> None:
    """Weighed by what each was divided by, the losses of two halves are the loss of both."""
    draw = torch.Generator().manual_seed(4)
    schema = Schema(USER_ONLY, (Task("click"), Task("seconds", REGRESSION)))
    logits, labels = torch.randn(10, 2, generator=draw), torch.randint(0, 2, (10, 2), generator=draw).float()
    seen = torch.rand(10, 2, generator=draw) < 0.5
    parts = [slice(0, 4), slice(4, 10)]
    total = torch.zeros(2)
    for part in (*parts, slice(0, 10)):
        count = seen[part].sum(0) if denominator is Denominator.SEEN else torch.tensor(len(seen[part]))
        own = task_losses(logits[part], Labels(labels[part], seen[part]), schema, denominator=denominator) * count
        total = total - own if part == slice(0, 10) else total + own
    torch.testing.assert_close(total, torch.zeros(2), atol=1e-5, rtol=0)
