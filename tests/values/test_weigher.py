"""Balanced training on a model of one shared table and one row of weights a task."""

from __future__ import annotations

import math
from functools import partial
from typing import final

import pytest
import torch
from tests.toys import Batches, Toy, batch, schema, toy
from torch import Tensor

from umbel.balance.balancer import Balancer, Gramian
from umbel.balance.named import balancer
from umbel.errors import UserError
from umbel.learn.fit import fit
from umbel.learn.plan import Plan
from umbel.learn.step import Fast
from umbel.learn.taps import At, Taps
from umbel.learn.weigh import Balance, Weigher
from umbel.nn.losses import Denominator
from umbel.run import resolve
from umbel.run.balancing import BalanceSection
from umbel.run.settings import Settings, parse

PLACES = torch.tensor([[1, 2, -1], [3, -1, -1]])
LABELS = torch.tensor([[1.0, 0.0], [0.0, 0.0]])


def known() -> Toy:
    """Embeddings of one number, two tasks with weights 2 and -1."""
    model = toy(width=1)
    with torch.no_grad():
        model.table.copy_(torch.arange(12.0)[:, None] / 10)
        model.head.weight.copy_(torch.tensor([[2.0], [-1.0]]))
        model.head.bias.zero_()
    return model


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


@final
class Doubling(Balancer):
    """Task 1 counts twice; what it was shown is kept."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.shown: list[tuple[Tensor, Tensor]] = []

    def forward(self, losses: Tensor, gramian: Gramian) -> Tensor:
        self.shown.append((losses, gramian()))
        return torch.tensor([1.0, 2.0], dtype=losses.dtype)


def backward(model: Toy, balance: Balance, seen: Tensor | None = None) -> Weigher:
    weigher, rows = Weigher(model, balance, tasks=2), batch(PLACES, LABELS, seen)
    with weigher.taps:
        logits = model(rows.fields)
    weigher.backward(model.losses(logits, rows, denominator=Denominator.SEEN), dict(model.named_parameters()))
    return weigher


# Row 0 is seen as x = .1 + .2 = .3 and row 1 as x = .3; d loss_t / d logit_t = (p - y) / 2.
ERRORS = [[(sigmoid(0.6) - 1) / 2, sigmoid(0.6) / 2], [sigmoid(-0.3) / 2, sigmoid(-0.3) / 2]]  # task, row
AT_VIEW = [[2 * error for error in ERRORS[0]], [-error for error in ERRORS[1]]]


def test_the_table_follows_the_weights_and_each_row_its_own_task() -> None:
    model = known()
    backward(model, Balance(Doubling))
    table = model.table.grad
    assert table is not None
    wanted = [AT_VIEW[0][row] + 2 * AT_VIEW[1][row] for row in range(2)]
    assert table[[1, 2, 3], 0].tolist() == pytest.approx([wanted[0], wanted[0], wanted[1]])
    assert model.head.weight.grad is not None
    assert model.head.weight.grad[:, 0].tolist() == pytest.approx([0.3 * sum(ERRORS[0]), 0.3 * sum(ERRORS[1])])


@final
class Fixed(Balancer):
    """Weights that are given."""

    def __init__(self, tasks: int, weights: tuple[float, float]) -> None:
        super().__init__()
        self.given = torch.tensor(weights, dtype=torch.float64)

    def forward(self, losses: Tensor, gramian: Gramian) -> Tensor:
        return self.given


@pytest.mark.parametrize("weights", [(1.0, 2.0), (0.3, -5.0), (2e3, 2e-3), (0.0, 1.0), (3.0, 1e-12), (0.0, 0.0), (1e-40, 1e30)])
def test_what_a_task_owns_follows_its_plain_gradient_whatever_its_weight(weights: tuple[float, float]) -> None:
    """Divided by the weight, or taken in a pass of its own where the weight leaves too little to divide."""
    model = known()
    backward(model, Balance(partial(Fixed, weights=weights)))
    assert model.head.weight.grad is not None
    assert model.head.bias.grad is not None
    assert model.head.weight.grad[:, 0].tolist() == pytest.approx([0.3 * sum(ERRORS[0]), 0.3 * sum(ERRORS[1])], rel=1e-5)
    assert model.head.bias.grad.tolist() == pytest.approx([sum(ERRORS[0]), sum(ERRORS[1])], rel=1e-5)
    table = model.table.grad
    assert table is not None
    wanted = [sum(weight * AT_VIEW[task][row] for task, weight in enumerate(weights)) for row in range(2)]
    assert table[[1, 2, 3], 0].tolist() == pytest.approx([wanted[0], wanted[0], wanted[1]], rel=1e-5)


def test_the_scalar_form_weighs_the_rows_too() -> None:
    model = known()
    backward(model, Balance(Doubling, scalar=True))
    assert model.head.bias.grad is not None
    assert model.head.bias.grad.tolist() == pytest.approx([sum(ERRORS[0]), 2 * sum(ERRORS[1])])


def test_the_gramian_is_that_of_the_gradients_at_the_view() -> None:
    weigher = backward(known(), Balance(Doubling, at=At.VIEWS))
    own = weigher.balancer
    assert isinstance(own, Doubling)
    (losses, products), = own.shown
    wanted = [[sum(a * b for a, b in zip(one, other, strict=True)) for other in AT_VIEW] for one in AT_VIEW]
    assert products.dtype is torch.float64
    assert products.tolist() == [pytest.approx(row, rel=1e-5) for row in wanted]
    assert losses.tolist() == pytest.approx([-(math.log(sigmoid(0.6)) + math.log(1 - sigmoid(0.6))) / 2, -math.log(1 - sigmoid(-0.3))])


def test_a_task_nobody_saw_has_no_gradient_there() -> None:
    weigher = backward(known(), Balance(Doubling), torch.tensor([[True, False], [True, False]]))
    own = weigher.balancer
    assert isinstance(own, Doubling)
    _, products = own.shown[0]
    assert (products[1] == 0).all()
    assert products[0, 0] > 0


def test_a_loss_that_is_no_number_is_left_to_the_loop() -> None:
    class Broken(Toy):
        def losses(self, *_: object, **__: object) -> Tensor:
            return self.table.sum() * torch.tensor([1.0, float("nan")])

    torch.manual_seed(0)
    model = Broken(12)
    epochs = fit(model, Batches(), plan=Plan(balance=Balance(partial(balancer, "pcgrad"))), judge=lambda model: 0.0)
    with pytest.raises(UserError, match="the loss of task 'b' is not a finite number in epoch 1, step 1"):
        next(epochs)


def test_an_epoch_tells_its_mean_weights() -> None:
    plan = Plan(epochs=2, balance=Balance(partial(balancer, "static", settings={"weights": (0.5, 2.0)})))
    assert [epoch.weights for epoch in fit(toy(), Batches(), plan=plan, judge=lambda model: 0.0)] == [(0.5, 2.0), (0.5, 2.0)]
    assert [epoch.weights for epoch in fit(toy(), Batches(), plan=Plan(epochs=1), judge=lambda model: 0.0)] == [()]


def test_dwa_waits_for_two_epochs() -> None:
    plan = Plan(epochs=3, patience=9, rate=0.05, balance=Balance(partial(balancer, "dwa")))
    told = [epoch.weights for epoch in fit(toy(), Batches(), plan=plan, judge=lambda model: 0.0)]
    assert told[:2] == [(1.0, 1.0), (1.0, 1.0)]
    assert told[2] != (1.0, 1.0)
    assert sum(told[2]) == pytest.approx(2.0)


def test_a_balanced_step_clips_and_decays_as_a_plain_one() -> None:
    """One step of two models that differ in the balancer alone, and in it by nothing: the same bytes."""
    found = []
    for balance in (None, Balance(partial(balancer, "static"))):
        model = toy()
        step = Fast(model, Plan(balance=balance, clip=0.01, l2=0.5, rate=0.1))
        for one in Batches()(0):
            step(one)
        found.append([tensor.clone() for tensor in model.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_what_taps_hold_is_let_go() -> None:
    assert backward(known(), Balance(Doubling)).taps.held == []
    taps = Taps(known(), At.EXPERTS)
    assert torch.equal(taps.gramian(torch.zeros(3)), torch.eye(3))


def test_three_tasks_and_one() -> None:
    for weights in ((1.0,), (1.0, 1.0, 1.0)):
        model = toy(schema=schema(*weights))
        step = Fast(model, Plan(balance=Balance(partial(balancer, "mgda"))))
        for one in Batches(tasks=len(weights))(0):
            assert step(one).isfinite().all()


# From the run file.

FILE = {
    "data": {"log": "log.parquet"}, "fields": {"user": {"kind": "id"}}, "tasks": {"click": {}, "like": {}},
    "split": {"by": "user", "valid": 0.1, "test": 0.1}, "model": {"recipe": "mmoe"},
}


def settings(fit: dict[str, object], balance: dict[str, object]) -> Settings:
    return parse({**FILE, "fit": fit, "balance": balance}, where="run.toml")


def test_no_balancer_is_none() -> None:
    assert resolve.balance(settings({}, {})) is None


def test_settings_become_a_balancer() -> None:
    found = resolve.balance(settings({"balancer": "static"}, {"weights": {"like": 3.0}, "at": "views", "scalar": True}))
    assert found is not None
    assert (found.at, found.scalar) == (At.VIEWS, True)
    assert found.make(2)(torch.ones(2), lambda: torch.eye(2)).tolist() == [1.0, 3.0]
    found = resolve.balance(settings({"balancer": "metabalance"}, {"target": "like", "relax": 1.0}))
    assert found is not None
    assert found.make(2)(torch.ones(2), lambda: torch.diag(torch.tensor([4.0, 1.0]))).tolist() == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize(("fit", "balance", "told"), [
    ({"balancer": "pcgard"}, {}, "fit.balancer: no 'pcgard'; did you mean 'pcgrad'"),
    ({"balancer": "krum"}, {}, "fit.balancer: 'krum' needs 3 tasks, there are 2"),
    ({"balancer": "dwa"}, {"c": 0.1}, "balance.c: 'dwa' has no such setting; it takes temperature"),
    ({"balancer": "static"}, {"weights": {"lik": 1.0}}, "balance.weights: no task 'lik'; did you mean 'like'"),
    ({"balancer": "metabalance"}, {"target": "clack"}, "balance.target: no task 'clack'; did you mean 'click'"),
    ({}, {"c": 0.1}, "balance: there is no balancer to take it; name one in"),
])
def test_what_is_wrong_is_one_line(fit: dict[str, object], balance: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        resolve.check(settings(fit, balance))


def test_sections_are_closed_and_their_numbers_bounded() -> None:
    with pytest.raises(UserError, match=r"unknown key 'balance.temprature'; did you mean 'temperature'"):
        settings({"balancer": "dwa"}, {"temprature": 1.0})
    with pytest.raises(UserError, match=r"balance.mu = 0"):
        settings({"balancer": "stch"}, {"mu": 0})
    assert settings({}, {}).balance == BalanceSection()
