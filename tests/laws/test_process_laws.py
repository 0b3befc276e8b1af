"""Several processes take the steps that one takes: every recipe, head and balancer, whole batches and single rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.laws.test_training_recipes import SCHEMA, SIZES, USERS, VIDEOS, batches, rows
from tests.several import together
from torch import Tensor
from torch.distributed import ProcessGroup

from umbel.balance.named import BALANCERS
from umbel.errors import UserError
from umbel.learn import checkpoint, shards
from umbel.learn.fit import fit
from umbel.learn.optim import RowAdagrad
from umbel.learn.plan import Plan
from umbel.learn.predict import predict
from umbel.learn.processes import is_first, told
from umbel.learn.shards import Shards
from umbel.learn.step import Exact, Fast
from umbel.learn.taps import At
from umbel.learn.weigh import Balance
from umbel.nn.encode import SPREAD
from umbel.nn.heads import HEADS
from umbel.nn.holder import HERE
from umbel.nn.losses import Denominator
from umbel.nn.recommender import Parts, Recommender, Sizes
from umbel.recipes import RECIPES

WORLD = 3
COUNTS = (17, 16, 1)  # rows of the batches: of one row, two processes of three have none
PLAN = Plan(rate=0.01, l2=0.01)
TRAINED = replace(PLAN, epochs=3, patience=9, pause=0.0)
Trace = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Case:
    """A model and how its steps are taken."""

    recipe: str = "stem"
    head: str | None = None
    plan: Plan = PLAN
    sizes: Sizes = SIZES

    def model(self, among: Shards | None = None) -> Recommender:
        torch.manual_seed(0)
        head = None if self.head is None else HEADS[self.head]()
        made = RECIPES[self.recipe](SCHEMA, self.sizes, parts=Parts(head=head, holder=among or HERE))
        with torch.no_grad():
            made.table.mul_(1 / SPREAD)
        return made


def cases() -> Iterator[tuple[str, Case]]:
    for recipe in RECIPES:
        yield recipe, Case(recipe)
    for head in HEADS:
        yield f"mmoe, {head}", Case("mmoe", head)
    for name, make in BALANCERS.items():
        yield f"balanced by {name}", Case("mmoe", plan=replace(PLAN, balance=Balance(make)))
    yield "balanced at the views", Case(plan=replace(PLAN, balance=Balance(BALANCERS["pcgrad"], at=At.VIEWS)))
    # Adam's steps hardly depend on the size of gradients, these do; and the rows' gradients are much of the norm.
    yield "clipped", Case(plan=replace(PLAN, clip=0.05, l2=3.0, rows=partial(RowAdagrad, rate=2.0, eps=1.0)))
    yield "exact", Case(plan=replace(PLAN, exact=True))
    yield "Adagrad on rows", Case(plan=replace(PLAN, rows=partial(RowAdagrad, rate=0.1)))
    yield "fewer rows than processes", Case("mmoe", sizes=replace(SIZES, vocabulary={"user": 1, "video": 1}))
    yield "over all rows", Case(plan=replace(PLAN, denominator=Denominator.ROWS))


CASES = dict(cases())
SHARDED = [name for name, case in CASES.items() if not case.plan.exact]
DRAWN = ("snr_trans", "snr_aver")  # one draw a batch in one process, one for each share of it in several


def trace(case: Case, group: ProcessGroup | None = None, among: Shards | None = None, *, apart: bool = True) -> Trace:
    """The losses of three steps, and the weights and scores they end with; drawing `apart` as in training, or all alike."""
    model = case.model(among)
    plan = replace(case.plan, group=group, shards=among)
    step = Exact(model, plan) if plan.exact else Fast(model, plan)
    losses = []
    for seed, count in enumerate(COUNTS):
        torch.manual_seed(seed)
        if apart:
            step.processes.draw_apart(seed)
        losses.append(step(rows(count, seed=seed)))
    table = every_row(model)
    with model.holder.answered(model.table):
        scores = {"scores": model.train(False)(rows(9, seed=9).fields).detach()} if among is None or is_first(group) else {}
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    return {**weights, "table": table, "losses": torch.stack(losses), **scores}


def every_row(model: Recommender) -> Tensor:
    return model.holder.whole(model.table.detach(), rows=model.places.rows, folder=Path(tempfile.gettempdir()))


def judge(model: Recommender, group: ProcessGroup | None) -> float:
    with model.holder.answered(model.table):
        found = float(predict(model, [rows(9, seed=9)]).sum()) if is_first(group) else 0.0
    return told(group, found)


def some(folder: Path, plan: Plan, *, most: int = 99, case: Case = Case("mmoe")) -> Trace:
    """Train on from the checkpoint in the folder, as often as a step may be paused after; the weights then."""
    model, among = case.model(plan.shards), plan.shards or checkpoint.ALONE
    state = checkpoint.load(folder, shards=among, group=plan.group)
    score = partial(judge, group=plan.group)
    for epoch in islice(fit(model, batches, plan=plan, judge=score, start=state), most):
        if plan.shards or is_first(plan.group):
            checkpoint.save(epoch.state, folder, shards=among)
    return {**{name: tensor.detach() for name, tensor in model.state_dict().items()}, "table": every_row(model)}


def again(group: ProcessGroup, folder: Path) -> dict[str, Trace]:
    """Two processes train some steps, then three some more, and one the rest; and three with another plan or model."""
    two = dist.new_group([0, 1])
    if dist.get_rank() < 2:
        assert isinstance(two, ProcessGroup)
        some(folder / "shards", replace(TRAINED, group=two, shards=Shards(two)), most=3)
    dist.barrier(group)
    plan = replace(TRAINED, group=group, shards=Shards(group))
    some(folder / "shards", plan, most=4)
    with pytest.raises(UserError, match=r"weights 'table' is \(16, 4\), the model and plan ask for \(17, 4\)"):
        some(folder / "shards", plan, case=Case("mmoe", sizes=replace(SIZES, vocabulary={"user": USERS + 1, "video": VIDEOS})))
    last = {"once more": some(folder / "shards", TRAINED)} if is_first(group) else {}
    return {**last, "drawn anew": some(folder / "fresh", replace(TRAINED, fresh=True, group=group))}


def work(group: ProcessGroup, folder: Path) -> None:
    found = {name: trace(case, group, apart=name not in DRAWN) for name, case in CASES.items()}
    found |= {f"{name}, shards": trace(CASES[name], group, Shards(group), apart=name not in DRAWN) for name in SHARDED}
    found |= {f"{name}, apart": trace(CASES[name], group) for name in DRAWN}
    found |= again(group, folder)
    torch.save(found, folder / f"{dist.get_rank(group)}.pt")


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Trace]]:
    folder = tmp_path_factory.mktemp("processes")
    together(WORLD, work, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("name", CASES)
def test_several_processes_take_the_steps_of_one(name: str, traces: list[dict[str, Trace]]) -> None:
    assert_alike([one[name] for one in traces], trace(CASES[name]))


@pytest.mark.parametrize("name", SHARDED)
def test_so_they_do_where_each_holds_a_share_of_the_rows(name: str, traces: list[dict[str, Trace]]) -> None:
    assert_alike([one[f"{name}, shards"] for one in traces], trace(CASES[name]))


def assert_alike(traces: list[Trace], alone: Trace) -> None:
    for one in traces:
        torch.testing.assert_close(one["losses"], alone["losses"], rtol=1e-4, atol=1e-5)
        for tensor, own in one.items():
            torch.testing.assert_close(own, alone[tensor], rtol=1e-3, atol=2e-4, msg=tensor)


@pytest.mark.parametrize("name", DRAWN)
def test_connections_are_drawn_for_each_share_of_a_batch(name: str, traces: list[dict[str, Trace]]) -> None:
    """So these losses are not those of one process, which has one draw for all rows; the first batch tells, of the same weights."""
    first, alone = traces[0][f"{name}, apart"]["losses"][0], trace(CASES[name])["losses"][0]
    assert first.isfinite().all()
    assert not torch.allclose(first, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*CASES, *(f"{name}, shards" for name in SHARDED), *(f"{name}, apart" for name in DRAWN), "drawn anew"])
def test_what_each_of_them_holds_is_equal_to_the_byte(name: str, traces: list[dict[str, Trace]]) -> None:
    first, *others = (one[name] for one in traces)
    for other in others:
        assert all(torch.equal(first[tensor], other[tensor]) for tensor in other)


def test_training_goes_on_with_as_many_processes_as_there_are(traces: list[dict[str, Trace]], tmp_path: Path) -> None:
    alone = some(tmp_path / "alone", TRAINED)
    for tensor, own in traces[0]["once more"].items():
        torch.testing.assert_close(own, alone[tensor], rtol=1e-3, atol=2e-4, msg=tensor)


def test_rows_are_drawn_as_one_process_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of tables of many blocks, with a short end."""
    monkeypatch.setattr(shards, "BLOCK", 32)
    for count in (1, 3, 32, 33, 47, 48, 100):
        torch.manual_seed(5)
        whole, then = HERE.drawn(count, 3), torch.rand(2)
        for rank in range(WORLD):
            one = Shards(None)
            one.rank, one.world = rank, WORLD
            torch.manual_seed(5)
            assert torch.equal(one.drawn(count, 3), whole[rank::WORLD])
            assert torch.equal(torch.rand(2), then)
