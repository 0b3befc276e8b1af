"""The entire-space loss against plain loops over rows and steps in Python's own numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from tests.everykind import Labels
from torch import Tensor

from umbel.nn.heads.chain import chain, chains, log_chances, marginal_loss, settled
from umbel.nn.heads.esmm import Esmm
from umbel.nn.losses import Denominator, task_losses
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

USER = (Field("user", FieldKind.ID),)
# The chain click -> cart -> buy is not in the order of the tasks; stars end a chain without being a chance; like stands alone.
TASKS = (
    Task("buy", given="cart", weight=2.0), Task("like"), Task("click"), Task("stars", REGRESSION, given="buy"), Task("cart", given="click"),
)
SCHEMA = Schema(USER, TASKS)
BUY, LIKE, CLICK, STARS, CART = range(5)
STEPS = {BUY: (CLICK, CART, BUY), CART: (CLICK, CART)}


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def rows(count: int = 60, *, seed: int = 0) -> Labels:
    """Chains as a log has them: an event only after the one it is given, an unseen label for everything after a failure."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count, 5), generator=draw).double()
    missing = torch.rand(count, 5, generator=draw) < 0.15
    seen = ~missing
    for task, above in ((CART, CLICK), (BUY, CART), (STARS, BUY)):
        seen[:, task] &= seen[:, above] & (labels[:, above] == 1)
    return Labels(torch.where(seen, labels, torch.nan), seen, 0.5 + torch.rand(count, 5, generator=draw, dtype=torch.float64))


def by_loops(logits: Tensor, batch: Labels, task: int, denominator: Denominator) -> float:
    """Walk down each row's chain until an event fails, is missing, or the chain ends; the chance is a plain product."""
    total, known = 0.0, 0
    for row in range(len(logits)):
        outcome: int | None = 1
        for step in STEPS[task]:
            if not batch.seen[row, step]:
                outcome = None
            elif batch.labels[row, step] == 0:
                outcome = 0
            if outcome != 1:
                break
        if outcome is None:
            continue
        chance = math.prod(sigmoid(float(logits[row, step])) for step in STEPS[task])
        known += 1
        weight = 1.0 if batch.weight is None else float(batch.weight[row, task])
        total -= weight * math.log(chance if outcome else 1 - chance)
    return SCHEMA.tasks[task].weight * total / (known if denominator is Denominator.SEEN else len(logits))


def head() -> Esmm:
    torch.manual_seed(0)
    return Esmm(SCHEMA, (0, 1, 2, 3, 4, 5), widths=(4, 3), dropout=0.0).double()


@pytest.mark.parametrize("denominator", list(Denominator))
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_marginals_are_paid_on_every_settled_row(denominator: Denominator, weighted: bool, seed: int) -> None:
    logits = 2 * torch.randn(60, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    batch = rows(seed=seed)
    batch = batch if weighted else Labels(batch.labels, batch.seen)
    found = head().losses(logits, batch, SCHEMA, denominator=denominator)
    own = task_losses(logits, batch, SCHEMA, denominator=denominator)
    for task in (BUY, CART):
        assert found[task].item() == pytest.approx(by_loops(logits, batch, task, denominator), rel=1e-12)
        assert found[task].item() != pytest.approx(own[task].item(), rel=1e-3)
    for task in (LIKE, CLICK, STARS):
        assert found[task].item() == own[task].item()


def test_a_click_that_did_not_happen_settles_what_follows() -> None:
    nan = math.nan
    #           buy  like click stars cart
    labels = [[nan, 0, 0, nan, nan],   # no click: no cart, no purchase
              [nan, 0, 1, nan, 0],     # no cart: no purchase
              [1, 0, 1, 3, 1],         # bought
              [0, 0, 1, nan, 1],       # not bought
              [nan, 0, nan, nan, nan],  # nothing known
              [nan, 0, 1, nan, nan],   # clicked, the rest not known
              [1, 0, 0, nan, 1]]       # contradicts itself: the event before has the word
    values = torch.tensor(labels)
    batch = Labels(values, ~values.isnan())
    held, known = settled(batch, STEPS[BUY])
    assert held.tolist() == [False, False, True, False, False, False, False]
    assert known.tolist() == [True, True, True, True, False, False, True]
    assert settled(batch, (CLICK,))[1].tolist() == [True, True, True, True, False, True, True]
    assert settled(batch, STEPS[CART])[1].tolist() == [True, True, True, True, False, False, True]


def test_chains_are_read_off_the_schema() -> None:
    found = chains(SCHEMA)
    assert {task: steps.tasks for task, steps in found.items()} == STEPS
    assert found[BUY].columns == (CLICK, CART, BUY)
    assert found[BUY].above == chain(SCHEMA, CART)
    assert chain(SCHEMA, LIKE).tasks == (LIKE,)


@pytest.mark.parametrize("logits", [(0.3, -1.2), (5.0, 7.0, -2.0), (-3.0,), (0.0, 0.0, 0.0, 0.0, 0.0)])
def test_chances_of_ordinary_logits(logits: tuple[float, ...]) -> None:
    holds, fails = log_chances(torch.tensor([logits], dtype=torch.float64))
    chance = math.prod(map(sigmoid, logits))
    assert holds.item() == pytest.approx(math.log(chance), rel=1e-13)
    assert fails.item() == pytest.approx(math.log1p(-chance), rel=1e-13)


@pytest.mark.parametrize(("logits", "holds", "fails"), [
    ((800.0, 900.0), 0.0, -800.0),               # all but certain: 1 - p has no place beside 1
    ((-800.0, -900.0), -1700.0, 0.0),            # p is e^-1700
    ((1e6, 0.0), math.log(0.5), math.log(0.5)),
    ((0.0, -1e8), -1e8 + math.log(0.5), 0.0),    # and the small part of a long sum does not vanish into a chance above 1
    ((120.0, 120.0, 120.0), 0.0, -120.0 + math.log(3)),
])  # fmt: skip
def test_extreme_logits_are_exact_in_single_precision(logits: tuple[float, ...], holds: float, fails: float) -> None:
    one = torch.tensor([logits], requires_grad=True)
    found = log_chances(one)
    assert found[0].item() == pytest.approx(holds, rel=1e-6, abs=1e-30)
    assert found[1].item() == pytest.approx(fails, rel=1e-6, abs=1e-6)
    for value in found:
        (gradient,) = torch.autograd.grad(value, one, retain_graph=True)
        assert gradient.isfinite().all()
        assert found[1].item() <= 0.0


def test_near_certainty_every_step_bears_its_share_of_the_blame() -> None:
    """d log(1 - p) / dz_k = -p s(-z_k) / (1 - p), which is one over the steps where they are alike."""
    one = torch.tensor([[50.0, 50.0, 50.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(log_chances(one)[1], one)
    assert gradient[0].tolist() == pytest.approx([-1 / 3] * 3, rel=1e-5)


@pytest.mark.parametrize("numbers", [(1, 3), (2, 5, 7), (9, 1, 1, 9)])
def test_failing_somewhere_is_all_that_is_left(numbers: tuple[int, ...]) -> None:
    """Odds that are whole numbers, summed as fractions."""
    chance = Fraction(1)
    for odds in numbers:
        chance *= Fraction(odds, odds + 1)
    logits = torch.tensor([[math.log(odds) for odds in numbers]], dtype=torch.float64)
    holds, fails = log_chances(logits)
    assert holds.exp().item() == pytest.approx(float(chance), rel=1e-13)
    assert fails.exp().item() == pytest.approx(float(1 - chance), rel=1e-13)


def test_a_row_that_decides_nothing_may_hold_anything() -> None:
    logits = torch.zeros(3, 5)
    logits[1] = torch.nan
    logits.requires_grad_()
    values = torch.tensor([[1.0, 0, 1, 2, 1], [math.nan] * 5, [math.nan, 1, 0, math.nan, math.nan]])
    batch = Labels(values, ~values.isnan())
    losses = head().float().losses(logits, batch, SCHEMA, denominator=Denominator.SEEN)
    assert losses.isfinite().all()
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert not gradient[1].any()
    assert losses[BUY].item() == pytest.approx(2 * (-math.log(1 / 8) - math.log(7 / 8)) / 2)


def test_no_row_costs_nothing() -> None:
    batch = Labels(torch.zeros(0, 5), torch.zeros(0, 5, dtype=torch.bool))
    for denominator in Denominator:
        assert marginal_loss(torch.zeros(0, 5), batch, chain(SCHEMA, BUY), denominator=denominator).item() == 0.0


def test_a_purchase_teaches_the_towers_of_its_chain() -> None:
    one = head()
    assert one.hears == ((CLICK, CART, BUY), (LIKE,), (CLICK,), (STARS,), (CLICK, CART))
    taught = {name: tasks for name, (_, tasks) in one.groups().items()}
    assert taught == {
        "tower buy": (BUY,), "tower like": (LIKE,), "tower click": (BUY, CLICK, CART), "tower stars": (STARS,),
        "tower cart": (BUY, CART),
    }  # fmt: skip
