"""Who says what a model pays: the head, through the model, to the step that descends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from tests import everykind
from tests.everykind import Labels, fields, labels, sizes
from tests.toys import Batches, Toy, toy
from torch import Tensor

from umbel.learn.plan import Plan
from umbel.learn.seam import Model
from umbel.learn.step import Exact, Fast, Step
from umbel.nn.heads import Head, Independent, Taught
from umbel.nn.losses import Denominator, Labelled, masked_mean, task_losses
from umbel.nn.recommender import Parts
from umbel.recipes import mmoe
from umbel.schema import Schema

LOSS = torch.tensor([1.0, 2.0, 4.0, torch.nan])
SEEN = torch.tensor([True, False, True, False])


def test_a_masked_mean_by_hand() -> None:
    assert masked_mean(LOSS, SEEN, denominator=Denominator.SEEN).item() == pytest.approx(5 / 2)
    assert masked_mean(LOSS, SEEN, denominator=Denominator.ROWS).item() == pytest.approx(5 / 4)
    weight = torch.tensor([3.0, 9.0, 0.5, 9.0])
    assert masked_mean(LOSS, SEEN, weight, denominator=Denominator.SEEN).item() == pytest.approx((3 + 2) / 2)


@pytest.mark.parametrize("denominator", list(Denominator))
def test_a_masked_mean_of_nothing(denominator: Denominator) -> None:
    assert masked_mean(LOSS, SEEN & False, denominator=denominator).item() == 0.0
    assert masked_mean(LOSS[:0], SEEN[:0], denominator=denominator).item() == 0.0


@pytest.mark.parametrize("denominator", list(Denominator))
def test_independent_towers_pay_for_themselves(denominator: Denominator) -> None:
    model, batch = mmoe(everykind.schema(3), sizes()), labels(24, 3, seen=0.5)
    logits = model(fields())
    assert torch.equal(model.losses(logits, batch, denominator=denominator),
                       task_losses(logits, batch, model.schema, denominator=denominator))
    assert torch.equal(model.losses(logits, batch), model.losses(logits, batch, denominator=Denominator.SEEN))


class Thrice(Head):
    """Independent towers, whose first task pays three times as much."""

    def __init__(self, schema: Schema, voice: tuple[int, ...], *, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.towers = Independent(schema, voice, widths=widths, dropout=dropout)
        self.hears = self.towers.hears

    def forward(self, voices: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.towers(voices)
        return logits

    def losses(self, logits: Tensor, batch: Labelled, schema: Schema, *, denominator: Denominator) -> Tensor:
        own = task_losses(logits, batch, schema, denominator=denominator)
        return torch.cat([3 * own[:1], own[1:]])

    def paid(self, batch: Labelled) -> Tensor:
        return batch.seen

    def groups(self) -> dict[str, Taught]:
        return {name: (tuple(part.under("towers") for part in parts), tasks) for name, (parts, tasks) in self.towers.groups().items()}


def test_the_head_has_the_word() -> None:
    model = mmoe(everykind.schema(), sizes(), parts=Parts(head=Thrice))
    logits, batch = model(fields()), labels(24, 2)
    plain = task_losses(logits, batch, model.schema)
    assert torch.allclose(model.losses(logits, batch), plain * torch.tensor([3.0, 1.0]))


class Louder(Toy):
    """A toy that pays `factor` times its losses."""

    factor = 1.0

    def losses(self, logits: Tensor, batch: Labelled, *, denominator: Denominator) -> Tensor:
        self.asked = denominator
        return self.factor * super().losses(logits, batch, denominator=denominator)


def louder(factor: float) -> Louder:
    torch.manual_seed(0)
    model = Louder(12)
    model.factor = factor
    return model


@pytest.mark.parametrize("kind", [Fast, Exact])
@pytest.mark.parametrize("denominator", list(Denominator))
def test_a_step_descends_what_the_model_says(kind: Callable[[Model, Plan], Step], denominator: Denominator) -> None:
    batch = next(iter(Batches()(0)))
    plan = Plan(clip=1e9, l2=0.0, denominator=denominator)
    gradients = []
    for factor in (1.0, 5.0):
        model = louder(factor)
        said = kind(model, plan)(batch)
        own = factor * task_losses(toy()(batch.fields), batch, model.schema, denominator=denominator)
        assert said.tolist() == pytest.approx(own.tolist(), rel=1e-5)
        assert model.asked is denominator
        assert model.head.weight.grad is not None
        gradients.append(model.head.weight.grad.clone())
    torch.testing.assert_close(gradients[1], 5 * gradients[0])


def test_losses_read_logits_and_labels_alone() -> None:
    """The same logits from anywhere give the same losses."""
    one, other = (mmoe(everykind.schema(2), sizes()) for _ in range(2))
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    batch = Labels(torch.ones(4, 2), torch.ones(4, 2, dtype=torch.bool))
    assert torch.equal(one.losses(logits, batch), other.losses(logits, batch))
