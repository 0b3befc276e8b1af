"""Several processes take the steps that one takes: every recipe, head and balancer, whole batches and single rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.laws.test_training_recipes import SCHEMA, SIZES, rows
from tests.several import together
from torch import Tensor
from torch.distributed import ProcessGroup

from umbel.balance.named import BALANCERS
from umbel.learn.optim import RowAdagrad
from umbel.learn.plan import Plan
from umbel.learn.step import Exact, Fast
from umbel.learn.taps import At
from umbel.learn.weigh import Balance
from umbel.nn.heads import HEADS
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

    def model(self) -> Recommender:
        torch.manual_seed(0)
        made = RECIPES[self.recipe](SCHEMA, SIZES, **({} if self.head is None else {"parts": Parts(head=HEADS[self.head]())}))
        with torch.no_grad():
            made.table.normal_()
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


def trace(case: Case, group: ProcessGroup | None = None) -> Trace:
    """The losses of three steps, and the weights they end with."""
    model = case.model()
    plan = replace(case.plan, group=group)
    step = Exact(model, plan) if plan.exact else Fast(model, plan)
    losses = []
    for seed, count in enumerate(COUNTS):
        torch.manual_seed(seed)
        losses.append(step(rows(count, seed=seed)))
    return {"losses": torch.stack(losses), **{name: tensor.detach() for name, tensor in model.state_dict().items()}}


def work(group: ProcessGroup, folder: Path) -> None:
    found = {name: trace(case, group) for name, case in CASES.items()}
    torch.save(found, folder / f"{dist.get_rank(group)}.pt")


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Trace]]:
    folder = tmp_path_factory.mktemp("processes")
    together(WORLD, work, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("name", CASES)
def test_several_processes_take_the_steps_of_one(name: str, traces: list[dict[str, Trace]]) -> None:
    alone = trace(CASES[name])
    for one in traces:
        torch.testing.assert_close(one[name]["losses"], alone["losses"], rtol=1e-4, atol=1e-5)
        for tensor, own in one[name].items():
            torch.testing.assert_close(own, alone[tensor], rtol=1e-3, atol=2e-4, msg=tensor)


@pytest.mark.parametrize("name", CASES)
def test_their_replicas_are_equal_to_the_byte(name: str, traces: list[dict[str, Trace]]) -> None:
    first, *others = (one[name] for one in traces)
    for other in others:
        assert all(torch.equal(first[tensor], other[tensor]) for tensor in first)
