"""When a training stops and at what rate it goes on, against loops written out; the running sums behind its report."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.toys import Batches, Toy, equal, schema, toy
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LambdaLR, LRScheduler, MultiStepLR, SequentialLR, StepLR

from umbel.learn.fit import Epoch, fit
from umbel.learn.history import peak
from umbel.learn.keep import Mean
from umbel.learn.optim import RowOptimizer
from umbel.learn.plan import Plan
from umbel.learn.predict import predict
from umbel.learn.schedules import Cosine, Exponential, Plateau
from umbel.learn.state import Progress
from umbel.learn.step import Fast
from umbel.learn.tally import NEVER, Tally
from umbel.nn.losses import Denominator

CPU = torch.device("cpu")
SCORES = st.lists(st.one_of(st.integers(0, 4).map(lambda step: 0.5 + step * 4e-7), st.floats(-1, 1)), max_size=12)
Schedule = Callable[[Optimizer], LRScheduler]


def judged(scores: list[float]) -> tuple[dict[str, float], ...]:
    """Epochs of one number each."""
    return tuple({"score": score} for score in scores)


def walked(scores: list[float], patience: int) -> tuple[int | None, int]:
    """The best epoch, and after how many epochs patience ran out (all of them if it did not), one epoch at a time."""
    best, top, waited = None, float("-inf"), 0
    for number, score in enumerate(scores):
        if score > top + 1e-6:
            best, top, waited = number, score, 0
        else:
            waited += 1
        if waited >= patience:
            return best, number + 1
    return best, len(scores)


@settings(max_examples=150, deadline=None)
@given(SCORES, st.integers(1, 4))
def test_the_end_is_where_a_loop_says(scores: list[float], patience: int) -> None:
    plan = Plan(epochs=99, patience=patience)
    best, end = walked(scores, patience)
    overs = [Progress(epoch=count, scores=judged(scores[:count])).over(plan) for count in range(len(scores) + 1)]
    assert not any(overs[:end])
    assert best == (Mean().best(judged(scores[:end])) if end else None)
    if end < len(scores):
        assert overs[end]


@settings(max_examples=100, deadline=None)
@given(SCORES.filter(bool))
def test_small_steps_do_not_add_up_unseen(scores: list[float]) -> None:
    """The best is a score that lies no more than the threshold under the highest, and is the first such of a climb."""
    best = peak(scores)
    assert max(scores) - scores[best] <= 1e-6 + 1e-12
    assert all(score < scores[best] - 0.0 for score in scores[:best])


@pytest.mark.parametrize("epochs", [1, 3])
def test_epochs_end_a_training_that_still_improves(epochs: int) -> None:
    scores = iter((0.1, 0.2, 0.3, 0.4))
    found = list(fit(toy(), Batches(steps=1), plan=Plan(epochs=epochs, patience=1), judge=lambda _: next(scores)))
    assert [epoch.number for epoch in found] == list(range(1, epochs + 1))
    assert [epoch.stop for epoch in found] == [False] * (epochs - 1) + [True]


class Rates(RowOptimizer):
    """Notes the rate of every step and moves nothing."""

    def __init__(self, table: Tensor) -> None:
        super().__init__(table, 0.5)
        self.seen: list[float] = []

    def step(self, ids: Tensor, grad: Tensor, *, rate: float) -> None:
        self.seen.append(rate)

    def state(self) -> dict[str, Tensor]:
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        pass


def rates(schedule: Schedule | None, scores: tuple[float, ...], steps: int = 2) -> tuple[list[float], list[float]]:
    """Of the row optimiser at every step, and of the dense one after every epoch."""
    made: list[Rates] = []
    optimizers: list[Optimizer] = []

    def rows(table: Tensor) -> RowOptimizer:
        made.append(Rates(table))
        return made[-1]

    def watched(optimizer: Optimizer) -> LRScheduler:
        optimizers.append(optimizer)
        return LambdaLR(optimizer, lambda epoch: 1.0) if schedule is None else schedule(optimizer)

    left = iter(scores)
    plan = Plan(epochs=len(scores), patience=99, rate=0.1, rows=rows, schedule=watched)
    after = [optimizers[0].param_groups[0]["lr"] for _ in fit(toy(), Batches(steps=steps), plan=plan, judge=lambda _: next(left))]
    return made[0].seen, after


SCHEDULES: dict[str, tuple[Schedule | None, tuple[float, ...]]] = {
    "none": (None, (1, 1, 1, 1)),
    "halved": (lambda optimizer: ExponentialLR(optimizer, 0.5), (1, 0.5, 0.25, 0.125)),
    "every other": (lambda optimizer: StepLR(optimizer, 2, 0.1), (1, 1, 0.1, 0.1)),
    "milestones": (lambda optimizer: MultiStepLR(optimizer, [1, 3], 0.5), (1, 0.5, 0.5, 0.25)),
    "warm-up": (lambda optimizer: LambdaLR(optimizer, lambda epoch: (epoch + 1) / 4), (0.25, 0.5, 0.75, 1)),
    "cosine": (lambda optimizer: CosineAnnealingLR(optimizer, 2), (1, 0.5, 0, 0.5)),
    "named cosine": (Cosine(2, least=0.2), (1, 0.6, 0.2, 0.2)),
    "named exponential": (Exponential(0.5), (1, 0.5, 0.25, 0.125)),
    "named plateau, of scores that rise": (Plateau(), (1, 1, 1, 1)),
    "one, then another": (
        lambda optimizer: SequentialLR(optimizer, [ExponentialLR(optimizer, 0.5), ExponentialLR(optimizer, 0.1)], [2]), (1, 0.5, 1, 0.1),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rates_of_both_optimisers_epoch_by_epoch(name: str) -> None:
    schedule, factors = SCHEDULES[name]
    rows, dense = rates(schedule, (0.1, 0.2, 0.3, 0.4))
    assert rows == pytest.approx([0.5 * factor for factor in factors for _ in range(2)], abs=1e-9)
    assert dense[:3] == pytest.approx([0.1 * factor for factor in factors[1:]], abs=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from([0.1, 0.2, 0.2 + 5e-7, 0.3]), min_size=1, max_size=5))
def test_plateau_follows_the_same_best_as_patience(scores: list[float]) -> None:
    rows, dense = rates(Plateau(), tuple(scores), steps=1)
    rate, expected = 0.1, []
    for number in range(len(scores)):
        improved = peak(scores[: number + 1]) == number
        rate = rate if improved else max(rate * 0.1, 0.0) if rate * 0.9 > 1e-8 else rate
        expected.append(rate)
    assert dense == pytest.approx(expected)
    assert rows == pytest.approx([5 * rate for rate in (0.1, *expected[:-1])])


def test_a_schedule_that_is_replayed_goes_on_where_it_was() -> None:
    def run(until: int, start: Epoch | None, model: Toy) -> Epoch:
        plan = Plan(epochs=until, patience=9, rate=0.1, schedule=Plateau())
        scores = iter([0.5, 0.4, 0.6, 0.3][0 if start is None else start.number:])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return list(fit(model, Batches(), plan=plan, judge=lambda _: next(scores), start=None if start is None else start.state))[-1]

    whole, part, rest = toy(), toy(), toy(seed=5)
    run(4, None, whole)
    run(4, run(2, None, part), rest)
    assert equal([one.detach() for one in whole.parameters()], [one.detach() for one in rest.parameters()])


def test_predicting_draws_no_random_number_and_leaves_no_gradient() -> None:
    for mode in (True, False):
        model = toy(dropout=0.5)
        model.train(mode)
        before = torch.get_rng_state()
        predict(model, Batches()(0))
        assert torch.equal(torch.get_rng_state(), before)
        assert model.training is mode
        assert model.head.training is mode
        assert all(parameter.grad is None for parameter in model.parameters())


def test_predictions_may_be_changed_and_do_not_change_with_the_model() -> None:
    model = toy()
    found = predict(model, list(Batches()(0)))
    kept = found.copy()
    with torch.no_grad():
        model.table.add_(1.0)
        model.head.bias.add_(1.0)
    assert (found == kept).all()
    found[:] = 0
    assert found.flags.owndata


def test_one_batch_of_no_rows_is_nothing_but_no_fault() -> None:
    (batch,) = Batches(steps=1, size=0)(0)
    assert predict(toy(), [batch]).shape == (0, 2)


def test_the_mean_loss_of_an_epoch_weighs_batches_by_their_labels() -> None:
    tally = Tally(3, CPU)
    tally.add(torch.tensor([1.0, 2.0, 0.0]), torch.tensor([1, 4, 0]), step=0)
    tally.add(torch.tensor([4.0, 0.0, 0.0]), torch.tensor([3, 4, 0]), step=1)
    assert tally.means() == (13 / 4, 1.0, 0.0)  # a task nobody saw has a mean of 0, not of nothing
    assert tally.broke() is None


def test_a_million_small_losses_lose_nothing() -> None:
    """float32 sums stop growing at 2^24 steps of one; these are kept in float64."""
    tally = Tally(1, CPU)
    tally.add(torch.tensor([1.0]), torch.tensor([2**25]), step=0)
    tally.add(torch.tensor([1.0]), torch.tensor([1]), step=1)
    assert tally.sums.item() == 2**25 + 1
    assert tally.means() == (1.0,)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_first_step_that_broke_is_named_and_the_first_task_in_it(bad: float) -> None:
    tally = Tally(3, CPU)
    for step, losses in enumerate(([0.1, 0.1, 0.1], [0.1, 0.1, bad], [bad, bad, 0.1], [0.1, 0.1, 0.1])):
        tally.add(torch.tensor(losses), torch.tensor([1, 1, 1]), step=step)
    assert tally.broken.tolist() == [2, 2, 1]
    assert tally.broke() == (1, 2)


def test_a_tally_goes_on_from_its_state() -> None:
    one, other = Tally(2, CPU), Tally(2, CPU)
    one.add(torch.tensor([1.0, float("nan")]), torch.tensor([2, 3]), step=4)
    other.load({name: tensor.clone() for name, tensor in one.state().items()})
    for tally in (one, other):
        tally.add(torch.tensor([3.0, 1.0]), torch.tensor([2, 3]), step=5)
    assert other.means()[0] == one.means()[0] == 2.0
    assert other.broken.tolist() == [NEVER, 4]


def test_a_report_over_all_rows_divides_by_all_rows() -> None:
    rows = list(Batches(steps=3)(0))
    still = {"epochs": 1, "rate": 1e-30, "l2": 0.0}
    means = []
    for denominator in Denominator:
        plan = Plan(**still, denominator=denominator)  # type: ignore[arg-type]
        (epoch,) = fit(toy(), lambda number, start: rows, plan=plan, judge=lambda _: 0.0)
        means.append(epoch.losses)
    seen = torch.cat([batch.seen for batch in rows]).double().mean(0).tolist()
    assert means[0] == pytest.approx([mean * share for mean, share in zip(means[1], seen, strict=True)], rel=1e-5)


def test_the_rate_of_a_step_is_read_when_it_is_made() -> None:
    """No schedule: the row optimiser without a rate of its own takes the plan's, exactly."""
    step = Fast(toy(schema=schema(1.0)), Plan(rate=0.3, rows=Rates))
    (batch,) = Batches(steps=1, tasks=1)(0)
    step(batch)
    assert isinstance(step.rows, Rates)
    step.rows.rate = None
    step(batch)
    assert step.rows.seen == [0.5, 0.3]
