"""Several processes take the steps that one takes: every recipe, head and balancer, whole batches and single rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.laws.test_training_recipes import SCHEMA, SIZES, USERS, VIDEOS, rows
from tests.several import together
from torch import Tensor
from torch.distributed import ProcessGroup

from umbel.balance.named import BALANCERS
from umbel.learn.optim import RowAdagrad
from umbel.learn.plan import Plan
from umbel.learn.processes import is_first
from umbel.learn.shards import Shards
from umbel.learn.step import Exact, Fast
from umbel.learn.taps import At
from umbel.learn.weigh import Balance
from umbel.nn.encode import SPREAD
from umbel.nn.heads import HEADS
from umbel.nn.holder import HERE
from umbel.nn.losses import Denominator
from umbel.nn.recommender import Parts, Recommender
from umbel.recipes import RECIPES

WORLD = 3
COUNTS = (17, 16, 1)  # rows of the batches: of one row, two processes of three have none
PLAN = Plan(rate=0.01, l2=0.01)
Trace = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Case:
    """A model and how its steps are taken."""

    recipe: str = "stem"
    head: str | None = None
    plan: Plan = PLAN

    def model(self, shards: Shards | None = None) -> Recommender:
        torch.manual_seed(0)
        head = None if self.head is None else HEADS[self.head]()
        made = RECIPES[self.recipe](SCHEMA, SIZES, parts=Parts(head=head, holder=shards or HERE))
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
    yield "clipped", Case(plan=replace(PLAN, clip=0.05))
    yield "exact", Case(plan=replace(PLAN, exact=True))
    yield "Adagrad on rows", Case(plan=replace(PLAN, rows=partial(RowAdagrad, rate=0.1)))
    yield "over all rows", Case(plan=replace(PLAN, denominator=Denominator.ROWS))


CASES = dict(cases())
SHARDED = [name for name, case in CASES.items() if not case.plan.exact]


def trace(case: Case, group: ProcessGroup | None = None, shards: Shards | None = None) -> Trace:
    """The losses of three steps, and the weights and scores they end with."""
    model = case.model(shards)
    plan = replace(case.plan, group=group, shards=shards)
    step = Exact(model, plan) if plan.exact else Fast(model, plan)
    losses = []
    for seed, count in enumerate(COUNTS):
        torch.manual_seed(seed)
        losses.append(step(rows(count, seed=seed)))
    table = model.holder.whole(model.table.detach(), rows=USERS + VIDEOS, folder=Path(tempfile.gettempdir()))
    with model.holder.answered(model.table):
        scores = {"scores": model.train(False)(rows(9, seed=9).fields).detach()} if shards is None or is_first(group) else {}
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    return {**weights, "table": table, "losses": torch.stack(losses), **scores}


def work(group: ProcessGroup, folder: Path) -> None:
    found = {name: trace(case, group) for name, case in CASES.items()}
    found |= {f"{name}, shards": trace(CASES[name], group, Shards(group)) for name in SHARDED}
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


@pytest.mark.parametrize("name", [*CASES, *(f"{name}, shards" for name in SHARDED)])
def test_what_each_of_them_holds_is_equal_to_the_byte(name: str, traces: list[dict[str, Trace]]) -> None:
    first, *others = (one[name] for one in traces)
    for other in others:
        assert all(torch.equal(first[tensor], other[tensor]) for tensor in other)
