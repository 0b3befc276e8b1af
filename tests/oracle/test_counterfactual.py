"""Counterfactual risks: their exact expectation over a small population, and plain loops over rows in Python's own numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from tests.everykind import Labels
from tests.oracle.test_esmm import BUY, CART, CLICK, SCHEMA, STEPS, by_loops, rows, sigmoid
from torch import Tensor

from umbel.nn.heads import Escm2, MakeEscm2Dr, MakeEscm2Ips
from umbel.nn.heads.chain import chain
from umbel.nn.heads.counterfactual import Observed, observe
from umbel.nn.losses import Denominator, task_losses
from umbel.schema import Field, FieldKind, Schema, Task

USER = (Field("user", FieldKind.ID),)
PAIR = Schema(USER, (Task("click"), Task("buy", given="click")))
LONG = Schema(USER, (Task("click"), Task("cart", given="click"), Task("buy", given="cart")))
# Three kinds of impressions. Those that are likelier to be clicked are likelier to be bought, so that clicks are a biased sample.
CLICKS, BUYS, SAID, GUESSED = (0.8, 0.5, 0.25), (0.9, 0.2, 0.05), (0.3, 0.4, 0.3), (0.2, 1.5, 0.7)
VOICE, WIDTHS = (0, 1, 2, 3, 4, 5), (4, 3)


def logit(chance: float) -> float:
    return math.log(chance / (1 - chance))


def surprise(chance: float, said: float) -> float:
    """The mean cross entropy of an event of that chance under what is said of it."""
    return -chance * math.log(said) - (1 - chance) * math.log(1 - said)


IDEAL = sum(surprise(chance, said) for chance, said in zip(BUYS, SAID, strict=True)) / 3


def worlds(clicks: tuple[float, ...] = CLICKS) -> Iterator[tuple[float, Labels]]:
    """Every log that the three impressions may leave (27), with its chance; a purchase without a click is not observed."""
    each = [[(1 - click, 0.0, math.nan), (click * (1 - buy), 1.0, 0.0), (click * buy, 1.0, 1.0)]
            for click, buy in zip(clicks, BUYS, strict=True)]
    for outcome in itertools.product(*each):
        labels = torch.tensor([one[1:] for one in outcome], dtype=torch.float64)
        yield math.prod(one[0] for one in outcome), Labels(labels, ~labels.isnan())


def said(propensities: tuple[float, ...] = CLICKS, bought: tuple[float, ...] = SAID) -> Tensor:
    """The logits of a model: its click, its purchase given a click, and the imputed errors."""
    columns = [[logit(one) for one in propensities], [logit(one) for one in bought], [math.log(math.expm1(one)) for one in GUESSED]]
    return torch.tensor(columns, dtype=torch.float64).T.contiguous()


def expected(risk: Callable[[Labels], Tensor]) -> Tensor:
    """The mean over all logs."""
    return torch.stack([chance * risk(batch) for chance, batch in worlds()]).sum(0)


def seen(logits: Tensor, batch: Labels, least: float = 1e-9) -> Observed:
    return observe(logits, batch, chain(PAIR, 1), least=least)


def test_the_worlds_are_all_there_are() -> None:
    found = list(worlds())
    assert len(found) == 27
    assert math.fsum(chance for chance, _ in found) == pytest.approx(1, rel=1e-14)


def test_the_mean_over_clicks_is_biased() -> None:
    """The plain conditional loss expects another risk than that of all impressions, here by more than a tenth of a nat."""
    logits, dense = said(), [(chance, batch) for chance, batch in worlds() if batch.seen[:, 1].any()]
    total = sum(chance for chance, _ in dense)
    naive = sum(chance * float(task_losses(logits, batch, PAIR)[1]) for chance, batch in dense) / total
    assert abs(naive - IDEAL) > 0.1


@pytest.mark.parametrize("denominator", list(Denominator))
def test_inverse_propensities_expect_the_risk_of_all_impressions(denominator: Denominator) -> None:
    found = expected(lambda batch: seen(said(), batch).inverse_propensity(denominator))
    assert found.item() == pytest.approx(IDEAL, rel=1e-12)


def test_and_its_gradient() -> None:
    """`d/dz` of the risk of all impressions is `(s(z) - q) / 3`; that of the naive loss is not."""
    logits = said().requires_grad_()
    found = expected(lambda batch: seen(logits, batch).inverse_propensity(Denominator.ROWS))
    naive = expected(lambda batch: task_losses(logits, batch, PAIR, denominator=Denominator.ROWS)[1])
    ideal = [(one - chance) / 3 for one, chance in zip(SAID, BUYS, strict=True)]
    (gradient,) = torch.autograd.grad(found, logits, retain_graph=True)
    assert gradient[:, 1].tolist() == pytest.approx(ideal, rel=1e-12)
    assert not gradient[:, [0, 2]].any()
    (gradient,) = torch.autograd.grad(naive, logits)
    assert gradient[:, 1].tolist() == pytest.approx([click * one for click, one in zip(CLICKS, ideal, strict=True)], rel=1e-12)


def test_wrong_propensities_bias_it() -> None:
    found = expected(lambda batch: seen(said((0.5, 0.5, 0.5)), batch).inverse_propensity(Denominator.ROWS))
    wrong = sum(click / 0.5 * surprise(buy, one) for click, buy, one in zip(CLICKS, BUYS, SAID, strict=True)) / 3
    assert found.item() == pytest.approx(wrong, rel=1e-12)
    assert abs(wrong - IDEAL) > 0.02


def test_a_bounded_propensity_counts_its_rows_for_less() -> None:
    found = expected(lambda batch: seen(said(), batch, 0.4).inverse_propensity(Denominator.ROWS))
    less = sum(click / max(click, 0.4) * surprise(buy, one) for click, buy, one in zip(CLICKS, BUYS, SAID, strict=True)) / 3
    assert found.item() == pytest.approx(less, rel=1e-12)


def doubly(propensities: tuple[float, ...], imputed: list[float]) -> float:
    guess = torch.tensor(imputed, dtype=torch.float64)
    return expected(lambda batch: seen(said(propensities), batch).doubly_robust(guess, imputation=0.0, denominator=Denominator.ROWS)).item()


def test_doubly_robust_needs_one_of_the_two() -> None:
    """Right propensities with any guess, or the right guess with any propensities; with neither it is biased."""
    right = [surprise(chance, one) for chance, one in zip(BUYS, SAID, strict=True)]
    assert doubly(CLICKS, list(GUESSED)) == pytest.approx(IDEAL, rel=1e-12)
    assert doubly((0.3, 0.9, 0.6), right) == pytest.approx(IDEAL, rel=1e-12)
    assert abs(doubly((0.3, 0.9, 0.6), list(GUESSED)) - IDEAL) > 0.02


def test_a_good_guess_spares_variance() -> None:
    def variance(risk: Callable[[Labels], Tensor]) -> float:
        return expected(lambda batch: risk(batch)**2).item() - expected(risk).item()**2

    right = torch.tensor([surprise(chance, one) for chance, one in zip(BUYS, SAID, strict=True)], dtype=torch.float64)
    plain = variance(lambda batch: seen(said(), batch).inverse_propensity(Denominator.ROWS))
    robust = variance(lambda batch: seen(said(), batch).doubly_robust(right, imputation=0.0, denominator=Denominator.ROWS))
    assert robust < 0.8 * plain


def test_imputed_errors_learn_the_mean_error() -> None:
    """Where the propensities are right, the gradient of the expected risk at a guess is that of its own loss, 0 at the mean error."""
    right = torch.tensor([surprise(chance, one) for chance, one in zip(BUYS, SAID, strict=True)], dtype=torch.float64, requires_grad=True)
    risk = expected(lambda batch: seen(said(), batch).doubly_robust(right, imputation=1.0, denominator=Denominator.ROWS))
    (gradient,) = torch.autograd.grad(risk, right)
    assert gradient.tolist() == pytest.approx([0.0] * 3, abs=1e-12)


def test_the_imputation_s_own_loss_leaves_the_prediction_alone() -> None:
    """The tower of t follows the gradient of inverse propensities; what is beside it is the imputed errors'."""
    logits = said().requires_grad_()
    slopes = {}
    for name, make in (("dr", MakeEscm2Dr(1.0, 0.0, imputation=9.0)), ("ips", MakeEscm2Ips(1.0, 0.0))):
        head = make(PAIR, VOICE, widths=WIDTHS, dropout=0.0)
        risk = expected(lambda batch, head=head: head.losses(logits, batch, PAIR, denominator=Denominator.ROWS)[1])  # type: ignore[misc]
        (slopes[name],) = torch.autograd.grad(risk, logits)
    torch.testing.assert_close(slopes["dr"][:, :2], slopes["ips"][:, :2], atol=1e-12, rtol=1e-12)
    assert slopes["dr"][:, 2].all()


def test_the_whole_head_expects_it_too() -> None:
    """`0.25 R + 0.5 G` of the head, for which G is unbiased as it stands."""
    head = MakeEscm2Ips(counterfactual=0.25, entire=0.5, least=0.1)(PAIR, VOICE, widths=WIDTHS, dropout=0.0)
    found = expected(lambda batch: head.losses(said(), batch, PAIR, denominator=Denominator.SEEN))
    clicked = sum(surprise(chance, chance) for chance in CLICKS) / 3
    both = sum(surprise(click * buy, click * one) for click, buy, one in zip(CLICKS, BUYS, SAID, strict=True)) / 3
    assert found.tolist() == pytest.approx([clicked, 0.25 * IDEAL + 0.5 * both], rel=1e-12)


def test_a_chain_of_three_weighs_by_the_chance_of_all_before() -> None:
    """One impression, p(click) = .8, p(cart | click) = .5, p(buy | cart) = .3: four logs."""
    logits = torch.tensor([[logit(0.8), logit(0.5), logit(0.6)]], dtype=torch.float64)
    nan = math.nan
    logs = [(0.2, (0, nan, nan)), (0.4, (1, 0, nan)), (0.4 * 0.7, (1, 1, 0)), (0.4 * 0.3, (1, 1, 1))]
    total = 0.0
    for chance, labels in logs:
        one = torch.tensor([labels], dtype=torch.float64)
        total += chance * float(observe(logits, Labels(one, ~one.isnan()), chain(LONG, 2), least=1e-6).inverse_propensity(Denominator.ROWS))
    assert total == pytest.approx(surprise(0.3, 0.6), rel=1e-12)


def looped(logits: Tensor, batch: Labels, task: int, *, denominator: Denominator, robust: tuple[int, float] | None, least: float) -> float:
    """R of the end of a chain, a row at a time; `robust` is the column of the imputed errors' logits and the weight of their loss."""
    total, known = 0.0, 0
    *above, last = STEPS[task]
    for row in range(len(logits)):
        failed = any(batch.seen[row, step] and batch.labels[row, step] == 0 for step in above)
        held = all(batch.seen[row, step] and batch.labels[row, step] == 1 for step in above)
        if not failed and not (held and batch.seen[row, last]):
            continue
        known += 1
        weight = 1.0 if batch.weight is None else float(batch.weight[row, last])
        guess = math.log1p(math.exp(float(logits[row, robust[0]]))) if robust else 0.0
        risk = guess
        if held:
            says = sigmoid(float(logits[row, last]))
            error = -math.log(says if batch.labels[row, last] == 1 else 1 - says)
            chance = max(least, math.prod(sigmoid(float(logits[row, step])) for step in above))
            risk += (error - guess) / chance + (robust[1] * (error - guess) ** 2 / chance if robust else 0.0)
        total += weight * risk
    return total / (known if denominator is Denominator.SEEN else len(logits))


@pytest.mark.parametrize("denominator", list(Denominator))
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("robust", [True, False])
def test_by_plain_loops(denominator: Denominator, weighted: bool, robust: bool) -> None:
    """Chains of two and three, not in the order of the tasks, with labels missing."""
    draw = torch.Generator().manual_seed(4)
    logits = 2 * torch.randn(60, 7, generator=draw, dtype=torch.float64)
    batch = rows(seed=5)
    batch = batch if weighted else Labels(batch.labels, batch.seen)
    make = MakeEscm2Dr(0.3, 0.7, 0.1, imputation=0.4) if robust else MakeEscm2Ips(0.3, 0.7, 0.1)
    head = make(SCHEMA, VOICE, widths=WIDTHS, dropout=0.0)
    found = head.losses(logits, batch, SCHEMA, denominator=denominator)
    own = task_losses(logits, batch, SCHEMA, denominator=denominator)
    for place, task in enumerate((BUY, CART)):
        column = (5 + place, 0.4) if robust else None
        risk = looped(logits, batch, task, denominator=denominator, robust=column, least=0.1)
        whole = 0.3 * SCHEMA.tasks[task].weight * risk + 0.7 * by_loops(logits, batch, task, denominator)
        assert found[task].item() == pytest.approx(whole, rel=1e-12)
    for task in set(range(5)) - {BUY, CART}:
        assert found[task].item() == own[task].item()


@pytest.mark.parametrize("make", [MakeEscm2Ips(entire=0.0), MakeEscm2Dr(entire=0.0)])
def test_propensities_are_constants(make: MakeEscm2Ips | MakeEscm2Dr) -> None:
    """Without the risk of the whole chain, a purchase teaches the tower of the click nothing, and says so."""
    head = make(SCHEMA, VOICE, widths=WIDTHS, dropout=0.0)
    assert head.hears == tuple((task,) for task in range(5))
    logits = torch.randn(60, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(head.losses(logits, rows(), SCHEMA, denominator=Denominator.SEEN)[BUY], logits)
    assert gradient[:, BUY].any()
    assert not gradient[:, [CLICK, CART]].any()


def test_the_whole_chain_s_risk_teaches_all_of_it() -> None:
    head = MakeEscm2Dr()(SCHEMA, VOICE, widths=WIDTHS, dropout=0.0)
    assert isinstance(head, Escm2)
    assert head.hears[BUY] == (CLICK, CART, BUY)
    assert head.auxiliary == ("imputed loss of buy", "imputed loss of cart")
    taught = {name: tasks for name, (_, tasks) in head.groups().items()}
    assert taught["tower click"] == (BUY, CLICK, CART)
    assert (taught["imputation buy"], taught["imputation cart"]) == ((BUY,), (CART,))


@pytest.mark.parametrize("make", [MakeEscm2Ips(), MakeEscm2Dr()])
def test_what_decides_nothing_may_hold_anything(make: MakeEscm2Ips | MakeEscm2Dr) -> None:
    logits = torch.zeros(3, 7)
    logits[1] = torch.nan
    logits.requires_grad_()
    values = torch.tensor([[1.0, 0, 1, 2, 1], [math.nan] * 5, [math.nan, 1, 0, math.nan, math.nan]])
    head = make(SCHEMA, VOICE, widths=WIDTHS, dropout=0.0)
    losses = head.losses(logits, Labels(values, ~values.isnan()), SCHEMA, denominator=Denominator.SEEN)
    assert losses.isfinite().all()
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert gradient.isfinite().all()
    assert not gradient[1].any()


@pytest.mark.parametrize("make", [MakeEscm2Ips(), MakeEscm2Dr()])
def test_extreme_propensities_stay_finite(make: MakeEscm2Ips | MakeEscm2Dr) -> None:
    logits = torch.full((4, 7), 500.0)
    logits[::2] = -500.0
    logits.requires_grad_()
    batch = Labels(torch.ones(4, 5), torch.ones(4, 5, dtype=torch.bool))
    losses = make(SCHEMA, VOICE, widths=WIDTHS, dropout=0.0).losses(logits, batch, SCHEMA, denominator=Denominator.SEEN)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert losses.isfinite().all()
    assert gradient.isfinite().all()


def test_no_row_costs_nothing() -> None:
    batch = Labels(torch.zeros(0, 5), torch.zeros(0, 5, dtype=torch.bool))
    for make in (MakeEscm2Ips(), MakeEscm2Dr()):
        losses = make(SCHEMA, VOICE, widths=WIDTHS, dropout=0.0).losses(torch.zeros(0, 7), batch, SCHEMA, denominator=Denominator.SEEN)
        assert losses.tolist() == [0.0] * 5
