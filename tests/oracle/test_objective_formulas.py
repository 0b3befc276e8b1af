"""The losses that a task may choose, against plain loops over rows and pairs, torch's own, and published numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.everykind import Labels
from torch import Tensor

from umbel.errors import UserError
from umbel.kinds import BINARY, REGRESSION, TaskKind
from umbel.nn import objectives
from umbel.nn.losses import Denominator, task_losses
from umbel.objectives import LIKELIHOOD, OBJECTIVES, CrossEntropy, Focal, Huber, Listwise, Objective, Pairwise
from umbel.schema import Field, FieldKind, Schema, Task

USER = (Field("user", FieldKind.ID),)
ROWS = 14


def softplus(x: float) -> float:
    return float(np.logaddexp(0.0, x))


def entropy(z: float, y: float) -> float:
    return softplus(-z) if y == 1 else softplus(z)


class Plain:
    """One task's rows as lists; what each loss comes to, summed by loops."""

    def __init__(self, batch: Labels, logits: Tensor) -> None:
        seen = batch.seen[:, 0].tolist()
        weight = [1.0] * len(seen) if batch.weight is None else batch.weight[:, 0].tolist()
        group = [0] * len(seen) if batch.group is None else batch.group.tolist()
        every = zip(logits[:, 0].tolist(), batch.labels[:, 0].tolist(), weight, group, seen, strict=True)
        self.rows: list[tuple[float, float, float, int]] = [(z, y, w, g) for z, y, w, g, there in every if there]

    def mean(self, pays: Callable[[float, float], float]) -> float:
        return sum(w * pays(z, y) for z, y, w, _ in self.rows) / max(len(self.rows), 1)

    def pairs(self) -> float:
        found = [v * w * softplus(b - a) for a, y, v, _ in self.rows if y == 1 for b, x, w, _ in self.rows if x == 0]
        return sum(found) / max(len(found), 1)

    def lists(self) -> float:
        terms = []
        for one in {g for *_, g in self.rows}:
            own = [(z, y, w) for z, y, w, g in self.rows if g == one and w != 0]
            events = [(z, w) for z, y, w in own if y == 1]
            if 0 < len(events) < len(own):
                total = math.log(sum(math.exp(z) for z, *_ in own))
                terms.append(sum(w * (total - z) for z, w in events) / len(events))
        return sum(terms) / max(len(terms), 1)


EXPECTED: dict[str, tuple[Objective, TaskKind, Callable[[Plain], float]]] = {
    "likelihood": (LIKELIHOOD, BINARY, lambda plain: plain.mean(entropy)),
    "cross_entropy": (CrossEntropy(3.0), BINARY, lambda plain: plain.mean(lambda z, y: entropy(z, y) * (3.0 if y == 1 else 1.0))),
    "focal": (
        Focal(1.5, 2.0),
        BINARY,
        lambda plain: plain.mean(lambda z, y: (1 - math.exp(-entropy(z, y))) ** 1.5 * entropy(z, y) * (2.0 if y == 1 else 1.0)),
    ),
    "pairwise": (Pairwise(0.3), BINARY, lambda plain: 0.3 * plain.mean(entropy) + 0.7 * plain.pairs()),
    "listwise": (Listwise(0.6), BINARY, lambda plain: 0.6 * plain.mean(entropy) + 0.4 * plain.lists()),
    "huber": (
        Huber(0.8),
        REGRESSION,
        lambda plain: plain.mean(lambda z, y: (z - y) ** 2 / 2 if abs(z - y) <= 0.8 else 0.8 * (abs(z - y) - 0.4)),
    ),
}
EVERY = pytest.mark.parametrize(("objective", "kind", "plain"), EXPECTED.values(), ids=list(EXPECTED))


def batch(seed: int, *, seen: float = 0.8, rows: int = ROWS, events: float = 0.4) -> tuple[Tensor, Labels]:
    draw = torch.Generator().manual_seed(seed)
    labels = (torch.rand(rows, 1, generator=draw) < events).double()
    there = torch.rand(rows, 1, generator=draw) < seen
    weight = torch.randint(0, 4, (rows, 1), generator=draw).double()
    group = torch.randint(0, 4, (rows,), generator=draw) * 10**12
    return torch.randn(rows, 1, generator=draw, dtype=torch.float64), Labels(labels, there, weight, group)


def total(objective: Objective, kind: TaskKind, logits: Tensor, labels: Labels, denominator: Denominator = Denominator.SEEN) -> Tensor:
    return task_losses(logits, labels, Schema(USER, (Task("t", kind, loss=objective),)), denominator=denominator)[0]


def test_every_loss_has_a_row() -> None:
    assert set(EXPECTED) == set(OBJECTIVES)


@EVERY
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("weighed", [False, True])
def test_it_is_the_loop(objective: Objective, kind: TaskKind, plain: Callable[[Plain], float], seed: int, weighed: bool) -> None:
    logits, labels = batch(seed)
    labels = Labels(labels.labels, labels.seen, labels.weight if weighed else None, labels.group)
    assert total(objective, kind, logits, labels).item() == pytest.approx(plain(Plain(labels, logits)), rel=1e-9)


@EVERY
def test_the_denominator_scales_all_of_it(objective: Objective, kind: TaskKind, plain: Callable[[Plain], float]) -> None:
    logits, labels = batch(3, seen=0.5)
    seen, rows = (total(objective, kind, logits, labels, one) for one in (Denominator.SEEN, Denominator.ROWS))
    torch.testing.assert_close(rows, seen * labels.seen.sum() / ROWS)


@EVERY
@pytest.mark.parametrize(("events", "seen"), [(0.0, 1.0), (1.0, 1.0), (0.5, 0.0)])
def test_batches_of_one_class_or_none(
    objective: Objective, kind: TaskKind, plain: Callable[[Plain], float], events: float, seen: float
) -> None:
    logits, labels = batch(1, events=events, seen=seen)
    logits.requires_grad_()
    found = total(objective, kind, logits, labels)
    assert found.item() == pytest.approx(plain(Plain(labels, logits.detach())), abs=1e-12)
    (gradient,) = torch.autograd.grad(found, logits)
    assert gradient.isfinite().all()


@EVERY
def test_the_gradient_is_that_of_differences(objective: Objective, kind: TaskKind, plain: Callable[[Plain], float]) -> None:
    logits, labels = batch(2)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: total(objective, kind, z, labels), (logits,))
    assert torch.autograd.gradgradcheck(lambda z: total(objective, kind, z, labels), (logits,))


@EVERY
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_was_not_seen_does_not_count(objective: Objective, kind: TaskKind, plain: Callable[[Plain], float], bad: float) -> None:
    logits, labels = batch(4, seen=0.6)
    hidden = ~labels.seen[:, 0]
    assert labels.weight is not None
    spoilt = Labels(labels.labels.clone(), labels.seen, labels.weight.clone(), labels.group)
    assert spoilt.weight is not None
    found = []
    for one in (labels, spoilt):
        z = logits.clone()
        if one is spoilt:
            spoilt.labels[hidden], spoilt.weight[hidden], z[hidden] = bad, bad, bad
        z.requires_grad_()
        paid = total(objective, kind, z, one)
        found.append((paid, torch.autograd.grad(paid, z)[0]))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert not found[1][1][hidden].any()


@EVERY
@pytest.mark.parametrize("far", [-1e4, 1e4])
def test_far_logits_stay_finite(objective: Objective, kind: TaskKind, plain: Callable[[Plain], float], far: float) -> None:
    _, labels = batch(5)
    logits = torch.linspace(-far, far, ROWS, dtype=torch.float32)[:, None].requires_grad_()
    paid = total(objective, kind, logits, Labels(labels.labels.float(), labels.seen, None, labels.group))
    assert paid.isfinite()
    assert torch.autograd.grad(paid, logits)[0].isfinite().all()


def test_focal_by_published_numbers() -> None:
    """Lin et al. 2017, section 3: with gamma 2 an event given .9 pays 100 times less than by cross entropy, one given .968 about 1000."""
    for chance, times in ((0.9, 100.0), (0.968, 1000.0)):
        z = torch.logit(torch.tensor([[chance]], dtype=torch.float64))
        labels = Labels(torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.bool))
        ratio = total(LIKELIHOOD, BINARY, z, labels) / total(Focal(2.0), BINARY, z, labels)
        assert ratio.item() == pytest.approx(times, rel=0.03)


def test_focal_without_focus_is_cross_entropy() -> None:
    logits, labels = batch(6)
    torch.testing.assert_close(total(Focal(0.0), BINARY, logits, labels), total(LIKELIHOOD, BINARY, logits, labels))


def test_huber_is_torchs() -> None:
    logits, labels = batch(7, seen=1.0)
    plain = Labels(labels.labels, labels.seen)
    expected = torch.nn.functional.huber_loss(logits, labels.labels, delta=0.3)
    torch.testing.assert_close(total(Huber(0.3), REGRESSION, logits, plain), expected)


def test_a_whole_share_of_cross_entropy_is_cross_entropy() -> None:
    logits, labels = batch(8)
    for objective in (Pairwise(1.0), Listwise(1.0)):
        torch.testing.assert_close(total(objective, BINARY, logits, labels), total(LIKELIHOOD, BINARY, logits, labels))


@pytest.mark.parametrize("pairs", [1, 7, 40, 10**6])
def test_pairs_in_pieces_are_all_pairs(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    logits, labels = batch(9, rows=40)
    logits.requires_grad_()
    whole = total(Pairwise(0.2), BINARY, logits, labels)
    expected = torch.autograd.grad(whole, logits)[0]
    monkeypatch.setattr(objectives, "PAIRS", pairs)
    found = total(Pairwise(0.2), BINARY, logits, labels)
    torch.testing.assert_close(found, whole)
    torch.testing.assert_close(torch.autograd.grad(found, logits)[0], expected)


def test_pairs_hold_no_more_than_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """No matrix of pairs larger than the bound is kept for the gradient."""
    monkeypatch.setattr(objectives, "PAIRS", 500)
    logits, labels = batch(10, rows=200, seen=1.0)
    logits.requires_grad_()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: kept.append(saved.numel()) or saved, lambda saved: saved):  # type: ignore[func-returns-value]
        total(Pairwise(0.5), BINARY, logits, labels)
    assert max(kept) <= 500


def test_the_ranking_term_does_not_know_a_common_shift() -> None:
    logits, labels = batch(11)
    alone = [total(Pairwise(1e-12), BINARY, logits + shift, labels).item() for shift in (0.0, 5.0)]
    assert alone[0] == pytest.approx(alone[1], rel=1e-6)


def test_listwise_needs_groups() -> None:
    logits, labels = batch(12)
    with pytest.raises(UserError, match=r"loss 'listwise': these rows have no group; name the column of requests, or"):
        total(Listwise(), BINARY, logits, Labels(labels.labels, labels.seen))


def test_groups_are_named_by_anything() -> None:
    logits, labels = batch(13)
    assert labels.group is not None
    other = Labels(labels.labels, labels.seen, labels.weight, -labels.group - 7)
    torch.testing.assert_close(total(Listwise(), BINARY, logits, labels), total(Listwise(), BINARY, logits, other))


def test_a_list_is_cross_entropy_over_its_rows() -> None:
    logits, _ = batch(14)
    labels = torch.zeros(ROWS, 1, dtype=torch.float64)
    labels[5] = 1
    one = Labels(labels, torch.ones(ROWS, 1, dtype=torch.bool), None, torch.zeros(ROWS, dtype=torch.int64))
    expected = torch.nn.functional.cross_entropy(logits.T, torch.tensor([5]))
    torch.testing.assert_close(total(Listwise(1e-12), BINARY, logits, one), expected)


def test_losses_that_know_no_pairs_run_batched_over_models() -> None:
    _, labels = batch(15)
    logits = torch.randn(3, ROWS, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for objective in (LIKELIHOOD, CrossEntropy(2.0), Focal()):
        found = torch.func.vmap(lambda z, one=objective: total(one, BINARY, z, labels))(logits)
        torch.testing.assert_close(found, torch.stack([total(objective, BINARY, z, labels) for z in logits]))


def test_a_row_that_does_not_count_is_in_no_list() -> None:
    """Whatever its logit, which meets an exponential: of weight 0, not seen, or alone in its group."""
    logits, labels = batch(15)
    assert labels.group is not None
    weight = torch.ones(ROWS, 1, dtype=torch.float64)
    weight[3], labels.seen[4] = 0.0, False
    group = labels.group.clone()
    group[5] = 99
    own = Labels(labels.labels, labels.seen, weight, group)
    found = []
    for far in (0.0, 1e6, -1e6):
        z = logits.clone()
        z[3:5], z[5] = far, far / 1e6
        z.requires_grad_()
        paid = total(Listwise(1e-12), BINARY, z, own)
        (slope,) = torch.autograd.grad(paid, z)
        assert slope.isfinite().all()
        assert slope[3:6].abs().max() < 1e-11
        found.append(paid.item())
    assert found == pytest.approx([found[0]] * 3, rel=1e-6)
    assert found[0] > 0


@pytest.mark.parametrize(("group", "expected"), [
    ([], []), ([7], [0]), ([5, 5, 5], [0, 0, 0]), ([3, -1, 3, 9, -1], [1, 0, 1, 2, 0]),
    ([2**63 - 1, -(2**63), 0, 2**63 - 1], [2, 0, 1, 2]),  # raw ids hashed to all of 64 bits: their difference does not fit them
])  # fmt: skip
def test_groups_are_numbered_in_order(group: list[int], expected: list[int]) -> None:
    assert objectives._coded(torch.tensor(group, dtype=torch.int64)).tolist() == expected
