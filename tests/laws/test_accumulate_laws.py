"""Several batches that make one step: the step of one batch of their size, clipped, balanced, in bfloat16, by several processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.laws.test_process_laws import every_row
from tests.laws.test_training_recipes import SCHEMA, SIZES, rows
from tests.several import together
from tests.toys import Batches, Toy, equal, toy
from torch import Tensor
from torch.distributed import ProcessGroup

from umbel.balance.named import BALANCERS, balancer
from umbel.data.batch import Batch
from umbel.errors import DivergedError, UserError
from umbel.learn import checkpoint
from umbel.learn.fit import Epoch, fit
from umbel.learn.optim import RowAdagrad
from umbel.learn.plan import Plan
from umbel.learn.shards import Shards
from umbel.learn.step import Exact, Fast, Step
from umbel.learn.weigh import Balance
from umbel.nn.encode import SPREAD
from umbel.nn.heads import HEADS
from umbel.nn.holder import HERE
from umbel.nn.losses import Denominator
from umbel.nn.recommender import Parts, Recommender
from umbel.recipes import RECIPES

# Adam's steps hardly depend on the size of gradients, these do; and the rows' gradients are much of the norm.
CLIPPED = Plan(rate=0.01, clip=0.05, l2=3.0, rows=partial(RowAdagrad, rate=2.0, eps=1.0))
PLANS = {
    "adam": Plan(rate=0.01, l2=0.01), "clipped": CLIPPED, "adagrad": Plan(rate=0.01, rows=partial(RowAdagrad, rate=0.1)),
    "exact": Plan(rate=0.01, l2=0.01, exact=True), "over all rows": replace(CLIPPED, denominator=Denominator.ROWS),
    "weighed": replace(CLIPPED, balance=Balance(partial(balancer, "static", settings={"weights": (0.5, 2.0, 1.5)}))),
    "weighed, scalar": replace(CLIPPED, balance=Balance(partial(balancer, "static", settings={"weights": (0.5, 2.0, 1.5)}), scalar=True)),
}  # fmt: skip
TASKS = len(SCHEMA.tasks)


def whole(count: int, *, seed: int, every: bool = True) -> Batch:
    made = rows(count, seed=seed)
    return replace(made, seen=torch.ones_like(made.seen)) if every else made


def pieces(batch: Batch, sizes: list[int]) -> list[Batch]:
    bounds = [sum(sizes[:at]) for at in range(len(sizes) + 1)]
    return [batch.take(slice(start, stop)) for start, stop in pairwise(bounds)]


def model(recipe: str = "stem", among: Shards | None = None, head: str = "") -> Recommender:
    torch.manual_seed(0)
    made = RECIPES[recipe](SCHEMA, SIZES, parts=Parts(holder=among or HERE, head=HEADS[head]() if head else None))
    with torch.no_grad():
        made.table.mul_(1 / SPREAD)  # far enough from 0 that every gradient is larger than the rounding
    return made.train(False)  # without the draws of some recipes, which are other ones for every batch


def stepped(made: Recommender, plan: Plan) -> Step:
    return Exact(made, plan) if plan.exact else Fast(made, plan)


def after(plan: Plan, taken: list[list[Batch]], recipe: str = "stem", head: str = "") -> tuple[dict[str, Tensor], list[Tensor]]:
    """The weights after steps of these batches each, and their losses."""
    made = model(recipe, head=head)
    step = stepped(made, plan)
    losses = [step.take(batches) for batches in taken]
    return {name: tensor.detach() for name, tensor in made.state_dict().items()}, losses


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("name", PLANS)
def test_batches_are_the_step_of_one_as_large_as_all(name: str) -> None:
    """Of labels all seen, and as many in each; two steps, so that moments and counters are those of one, too."""
    large = [whole(48, seed=seed) for seed in (1, 2)]
    small = [pieces(batch, [16, 16, 16]) for batch in large]
    (one, losses), (other, parts) = after(PLANS[name], [[batch] for batch in large]), after(PLANS[name], small)
    assert_close(one, other)
    for own, part in zip(losses, parts, strict=True):
        assert part.shape == (3, TASKS)
        torch.testing.assert_close(own[0], part.mean(dim=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_so_it_is_for_every_recipe(recipe: str) -> None:
    large = whole(48, seed=1)
    assert_close(after(CLIPPED, [[large]], recipe)[0], after(CLIPPED, [pieces(large, [16, 16, 16])], recipe)[0])


@pytest.mark.parametrize("denominator", Denominator)
def test_of_unequal_batches_each_label_weighs_the_same(denominator: Denominator) -> None:
    """Where labels are missing, and batches are of unlike size, one of a single row; as in one batch, not as in a mean of means."""
    large = whole(48, seed=3, every=False)
    assert len(set(large.seen.sum(dim=0).tolist())) > 1
    plan = replace(CLIPPED, denominator=denominator)
    assert_close(after(plan, [[large]])[0], after(plan, [pieces(large, [30, 1, 17])])[0])


def chained(count: int, *, seed: int) -> Batch:
    """As a log leaves a chain: what follows a click is seen where there is one, and some labels are missing; few clicks at first."""
    made = whole(count, seed=seed, every=False)
    labels = made.labels.clone()
    labels[: count // 2 : 2, 0] = 0.0
    seen = made.seen.clone()
    seen[:, 1] &= seen[:, 0] & (labels[:, 0] == 1)
    return replace(made, labels=labels, seen=seen)


@pytest.mark.parametrize("denominator", Denominator)
@pytest.mark.parametrize("head", HEADS)
def test_so_it_is_for_every_head(head: str, denominator: Denominator) -> None:
    """One that learns a purchase from all impressions weighs a batch by its impressions, not by its clicks."""
    large = chained(48, seed=3)
    plan = replace(CLIPPED, denominator=denominator)
    some = pieces(large, [23, 1, 24])
    clicks = [float(one.seen[:, 1].float().mean()) for one in some]
    assert abs(clicks[0] - clicks[2]) > 0.1, "a weight by clicks is another"
    assert_close(after(plan, [[large]], head=head)[0], after(plan, [some], head=head)[0])


def test_a_task_that_no_batch_sees_moves_nothing_of_its_own() -> None:
    large = whole(32, seed=4)
    blind = replace(large, seen=large.seen & (torch.arange(TASKS) > 0))
    one, other = after(CLIPPED, [[blind]])[0], after(CLIPPED, [pieces(blind, [20, 12])])[0]
    assert_close(one, other)
    assert all(bool(tensor.isfinite().all()) for tensor in other.values())


def test_rows_that_two_batches_touch_are_updated_once() -> None:
    """A counter of the row optimiser's steps says so, and each row is named once."""
    named: list[Tensor] = []

    class Counting(RowAdagrad):  # type: ignore[misc]
        def step(self, ids: Tensor, grad: Tensor, *, rate: float) -> None:
            named.append(ids)

    batch = next(Batches()(0))
    Fast(toy(), Plan(rows=Counting)).take([batch, batch, batch])
    (ids,) = named
    assert len(ids) == len(set(ids.tolist()))


def test_a_batch_alone_is_the_step_it_was() -> None:
    """To the byte, by either way."""
    for plan in PLANS.values():
        one, other = model(), model()
        loss, losses = stepped(one, plan)(whole(16, seed=5)), stepped(other, plan).take([whole(16, seed=5)])
        assert torch.equal(loss, losses[0])
        assert equal(list(one.state_dict().values()), list(other.state_dict().values()))


@pytest.mark.parametrize("name", BALANCERS)
def test_a_balancer_weighs_each_batch(name: str) -> None:
    """By that batch's losses and gradients, as often as there are batches; the weights it ends with are numbers."""
    made = model("mmoe")
    step = Fast(made, replace(CLIPPED, balance=Balance(BALANCERS[name])))
    for seed in (1, 2):
        step.take(pieces(whole(32, seed=seed), [16, 16]))
    assert step.weigher is not None
    assert float(step.weigher.steps) == 4
    assert all(bool(tensor.isfinite().all()) for tensor in made.state_dict().values())


def test_bfloat16_adds_up_in_float32() -> None:
    large = whole(64, seed=6)
    gradients = []
    for batches in ([large], pieces(large, [32, 32])):
        made = model()
        Fast(made, Plan(precision=torch.bfloat16, rate=1e-9, clip=1e9)).take(batches)
        gradients.append({name: one.grad for name, one in made.named_parameters() if one.grad is not None})
    one, other = gradients
    assert one.keys() == other.keys()
    for name, gradient in one.items():
        assert other[name].dtype is torch.float32
        assert (gradient - other[name]).norm() <= 0.05 * gradient.norm() + 1e-6


# The loop.


def judge(made: Toy) -> float:
    return -float(made.table.detach().square().sum())


def told(one: Epoch) -> tuple[object, ...]:
    return one.number, one.step, one.losses, one.score, one.stop, one.rows


STEPS = Plan(epochs=3, patience=9, rate=0.05, pause=0.0, accumulate=2)


def test_an_epoch_is_of_so_many_steps_and_the_last_one_of_what_is_left() -> None:
    """Five batches of eight rows, two a step: pauses are between steps, and every loss is counted."""
    model = toy()
    epochs = list(fit(model, Batches(), plan=STEPS, judge=judge))
    assert [(one.number, one.step, one.rows) for one in epochs[:4]] == [(1, 2, 16), (1, 4, 32), (1, 5, 40), (1, 5, 40)]
    other = toy()
    step, losses = Fast(other, STEPS), list[Tensor]()
    torch.manual_seed(STEPS.seed)
    for epoch in range(STEPS.epochs):
        given = list(Batches()(epoch))
        losses = [one for some in (given[:2], given[2:4], given[4:]) for one in step.take(some)]
    assert equal([model.table.detach(), model.head.weight.detach()], [other.table.detach(), other.head.weight.detach()])
    counts = torch.stack([batch.seen.sum(dim=0) for batch in given]).double()
    expected = (torch.stack(losses).double() * counts).sum(dim=0) / counts.sum(dim=0)
    assert epochs[-1].losses == pytest.approx(expected.tolist(), rel=1e-9)


@pytest.mark.parametrize("head", HEADS)
def test_an_epoch_s_mean_losses_are_those_of_all_its_rows(head: str) -> None:
    """At a rate of nothing: so that the loss of all rows is that of the model after each batch."""
    large = chained(48, seed=3)
    made = model("mmoe", head=head)
    expected = made.losses(made(large.fields), large).tolist()
    plan = Plan(epochs=1, rate=1e-12, l2=0.0, accumulate=2)
    (told,) = fit(made, lambda epoch, start: pieces(large, [23, 1, 24]), plan=plan, judge=lambda made: 0.0)
    assert told.losses == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("balance", [None, "dwa", "pcgrad"])
def test_going_on_from_any_pause_gives_the_same_bytes(tmp_path: Path, balance: str | None) -> None:
    plan = replace(STEPS, balance=None if balance is None else Balance(partial(balancer, balance)))
    expected = list(fit(whole_one := toy(dropout=0.4), Batches(), plan=plan, judge=judge))
    for stop in range(1, len(expected)):
        folder = tmp_path / str(stop)
        running = fit(toy(dropout=0.4), Batches(), plan=plan, judge=judge)
        for _ in range(stop):
            state = next(running).state
        checkpoint.save(state, folder)
        rest = list(fit(again := toy(dropout=0.4, seed=9), Batches(), plan=plan, judge=judge, start=checkpoint.load(folder)))
        assert [told(one) for one in rest] == [told(one) for one in expected[stop:]]
        assert equal(list(whole_one.state_dict().values()), list(again.state_dict().values()))


@pytest.mark.parametrize("look", [1, 3, 256])
def test_a_loss_that_is_no_number_names_its_batch_and_those_that_made_the_update_before(monkeypatch: pytest.MonkeyPatch, look: int) -> None:
    monkeypatch.setattr("umbel.learn.fit.LOOK", look)
    asked: list[int] = []

    def batches(epoch: int, start: int) -> Iterator[Batch]:
        for at, batch in enumerate(Batches(steps=8)(epoch, start), start=start):
            asked.append(at)
            yield replace(batch, labels=torch.full_like(batch.labels, torch.inf)) if at == 5 else batch

    with pytest.raises(DivergedError, match=r"epoch 1, step 6: the label of '[ab]' holds inf"):
        list(fit(toy(), batches, plan=replace(STEPS, pause=None), judge=judge))
    again = asked[max(at for at, one in enumerate(asked) if at and one <= asked[at - 1]) :]
    assert again == [2, 3, 4, 5]


def test_fewer_than_one_batch_is_no_step() -> None:
    with pytest.raises(UserError, match=r"fit: accumulate = 0; a step is of 1 batch or more"):
        Plan(accumulate=0)


# Several processes.


def shared(group: ProcessGroup | None, *, sharded: bool) -> dict[str, Tensor]:
    """Two steps of two batches each; of one row, two processes of three have none."""
    among = Shards(group) if sharded else None
    made = model("mmoe", among)
    step = Fast(made, replace(CLIPPED, group=group, shards=among))
    losses = [step.take(pieces(whole(sum(sizes), seed=seed), sizes)) for seed, sizes in ((1, [9, 9]), (2, [9, 1]))]
    table = every_row(made)
    return {**{name: one.detach() for name, one in made.state_dict().items()}, "table": table, "losses": torch.cat(losses)}


def take_part(group: ProcessGroup, folder: Path, *, sharded: bool) -> None:
    torch.save(shared(group, sharded=sharded), folder / f"{dist.get_rank(group)}.pt")


@pytest.mark.parametrize("sharded", [False, True])
def test_several_processes_take_the_same_steps(tmp_path: Path, *, sharded: bool) -> None:
    together(3, partial(take_part, sharded=sharded), tmp_path)
    alone = shared(None, sharded=False)
    for rank in range(3):
        assert_close(alone, torch.load(tmp_path / f"{rank}.pt"))
