"""What every balancer keeps to; the list of them is read, so that a new one is held to it too."""

from __future__ import annotations

import itertools

import pytest
import torch
from tests.gramians import after, draws, gramian
from torch import Tensor

from umbel.balance.balancer import Balancer
from umbel.balance.named import BALANCERS, balancer, takes_of
from umbel.errors import UserError

SEEDS = 250


def makes(name: str, tasks: int) -> bool:
    try:
        BALANCERS[name](tasks)
    except UserError:
        return False
    return True


LEAST = {name: next(tasks for tasks in itertools.count(1) if makes(name, tasks)) for name in BALANCERS}  # the fewest tasks each works with


def made(name: str, order: list[int]) -> Balancer:
    """For tasks in another order: a balancer with a target keeps its target."""
    return balancer(name, len(order), {"target": order.index(0)} if "target" in takes_of(name) else {})


def is_random(name: str) -> bool:
    steps = draws(4)
    return not torch.equal(after(balancer(name, 4), steps, seed=0), after(balancer(name, 4), steps, seed=1))


@pytest.mark.parametrize("name", [name for name in BALANCERS if LEAST[name] == 1])
def test_one_task_weighs_one(name: str) -> None:
    weights = after(balancer(name, 1), draws(1, steps=6))
    assert torch.allclose(weights, torch.ones_like(weights), atol=1e-4)


@pytest.mark.parametrize("order", [[1, 2, 0, 3], [3, 2, 1, 0]])
@pytest.mark.parametrize("name", [name for name in BALANCERS if not is_random(name)])
def test_permuting_tasks_permutes_weights(name: str, order: list[int]) -> None:
    steps = draws(4, steps=6)
    turned = [(losses[order], jacobian[order]) for losses, jacobian in steps]
    torch.testing.assert_close(after(made(name, order), turned), after(made(name, [0, 1, 2, 3]), steps)[:, order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in BALANCERS if is_random(name)])
def test_permuting_tasks_permutes_expected_weights(name: str) -> None:
    order, steps = [1, 2, 0], draws(3, steps=1)
    turned = [(losses[order], jacobian[order]) for losses, jacobian in steps]
    plain = torch.stack([after(balancer(name, 3), steps, seed=seed)[0] for seed in range(SEEDS)])
    moved = torch.stack([after(balancer(name, 3), turned, seed=SEEDS + seed)[0] for seed in range(SEEDS)])
    error = (plain.std(0)[order].square() + moved.std(0).square()).sqrt() / SEEDS**0.5
    assert ((moved.mean(0) - plain.mean(0)[order]).abs() <= 4 * error + 1e-9).all()


def test_some_are_random_and_most_are_not() -> None:
    assert {name for name in BALANCERS if is_random(name)} == {"random", "pcgrad", "gradvac"}


@pytest.mark.parametrize("name", BALANCERS)
def test_the_gramian_is_asked_for_once_at_most(name: str) -> None:
    own = balancer(name, 3)
    for losses, jacobian in draws(3):
        asked: list[Tensor] = []

        def ask(jacobian: Tensor = jacobian, asked: list[Tensor] = asked) -> Tensor:
            asked.append(jacobian)
            return jacobian @ jacobian.T

        own(losses, ask)
        assert len(asked) <= 1


OPPOSED = torch.tensor([[1.0, 2.0], [-1.0, -2.0], [2.0, -1.0]], dtype=torch.float64)
JACOBIANS = {
    "nothing": torch.zeros(3, 5),
    "one dead": torch.randn(3, 5, generator=torch.Generator().manual_seed(1)) * torch.tensor([[1.0], [0.0], [1.0]]),
    "one alive": torch.randn(3, 5, generator=torch.Generator().manual_seed(1)) * torch.tensor([[0.0], [0.0], [1.0]]),
    "opposed": OPPOSED,
    "alike": torch.ones(3, 5),
    "huge": 1e15 * OPPOSED,
    "tiny": 1e-15 * OPPOSED,
    "huge beside tiny": OPPOSED * torch.tensor([[1e15], [1.0], [1e-15]]),
}
LOSSES = [[0.0, 0.0, 0.0], [1e15, 1e15, 1e15], [0.0, 1e15, 0.5], [1e-30, 0.7, 0.2], [-3.0, 0.7, 0.2]]


@pytest.mark.parametrize("losses", LOSSES, ids=str)
@pytest.mark.parametrize("jacobian", JACOBIANS)
@pytest.mark.parametrize("name", BALANCERS)
def test_weights_are_finite_whatever_comes(name: str, jacobian: str, losses: list[float]) -> None:
    own, usual = balancer(name, 3), draws(3)
    for dtype in (torch.float32, torch.float64):
        for one, two in [(torch.tensor(losses), JACOBIANS[jacobian]), *usual]:
            weights = own(one.to(dtype), gramian(two.double()))
            assert weights.dtype is dtype
            assert weights.isfinite().all()
        own.turn()


@pytest.mark.parametrize("name", BALANCERS)
def test_what_is_remembered_is_saved(name: str) -> None:
    """A balancer that is loaded goes on as the one that was saved, to the same bytes."""
    first, rest = draws(3, steps=6)[:3], draws(3, steps=6)[3:]
    one = balancer(name, 3)
    after(one, first)
    other = balancer(name, 3)
    other.load_state_dict({key: tensor.clone() for key, tensor in one.state_dict().items()})
    assert torch.equal(after(one, rest), after(other, rest))
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", BALANCERS)
def test_a_fresh_one_differs_where_something_is_remembered(name: str) -> None:
    one, other = balancer(name, 3), balancer(name, 3)
    after(one, draws(3, steps=6))
    same = all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert same == (not one.state_dict() or name == "static")


@pytest.mark.parametrize("name", BALANCERS)
def test_nothing_is_changed_in_place(name: str) -> None:
    own = balancer(name, 3)
    for losses, jacobian in draws(3):
        products = jacobian @ jacobian.T
        kept = losses.clone(), products.clone()
        saved = {key: (tensor, tensor.clone()) for key, tensor in own.state_dict().items()}
        weights = own(losses, lambda products=products: products)
        assert torch.equal(losses, kept[0])
        assert torch.equal(products, kept[1])
        assert not weights.requires_grad
        assert all(torch.equal(*pair) for pair in saved.values())


@pytest.mark.parametrize("name", [name for name in BALANCERS if not is_random(name)])
def test_weights_have_no_unit(name: str) -> None:
    """All gradients times a number: the same weights, since the optimiser has no unit either."""
    steps = draws(3)
    larger = [(losses, 1000 * jacobian) for losses, jacobian in steps]
    torch.testing.assert_close(after(balancer(name, 3), larger), after(balancer(name, 3), steps), rtol=1e-5, atol=1e-6)


OVER_GRADIENTS = ("pcgrad", "gradvac", "mgda", "cagrad", "nash_mtl", "fairgrad", "imtl_g", "aligned_mtl",
                  "upgrad", "dualproj", "multibalance")


@pytest.mark.parametrize("name", OVER_GRADIENTS)
def test_a_task_without_a_gradient_leaves_the_others_alone(name: str) -> None:
    losses, jacobian = draws(2, steps=1)[0]
    with_dead = torch.stack([jacobian[0], torch.zeros_like(jacobian[0]), jacobian[1]])
    weights = balancer(name, 3)(torch.tensor([1.0, 0.0, 1.0]).double(), gramian(with_dead))
    torch.testing.assert_close(weights[[0, 2]], balancer(name, 2)(losses, gramian(jacobian)))
    assert weights[1] == 1


@pytest.mark.parametrize("name", ["upgrad", "dualproj", "mgda", "nash_mtl", "fairgrad"])
@pytest.mark.parametrize("seed", range(8))
def test_no_task_loses(name: str, seed: int) -> None:
    """`J (J' w) >= 0`: to first order no loss rises."""
    (losses, jacobian), = draws(4, steps=1, seed=seed)
    jacobian = jacobian / jacobian.norm(dim=1, keepdim=True)
    progress = jacobian @ (jacobian.T @ balancer(name, 4)(losses, gramian(jacobian)))
    assert (progress >= -2e-3).all()


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(UserError, match=r"fit.balancer: no 'pcgard'; did you mean 'pcgrad'"):
        balancer("pcgard", 2)


def test_a_setting_of_another_is_refused() -> None:
    with pytest.raises(UserError, match=r"balance.c: 'dwa' has no such setting; it takes temperature"):
        balancer("dwa", 2, {"c": 0.5})
    with pytest.raises(UserError, match="it takes none"):
        balancer("mgda", 2, {"c": 0.5})


def test_too_few_tasks_is_one_line() -> None:
    with pytest.raises(UserError, match=r"'krum' needs 3 tasks, there are 2; add tasks"):
        balancer("krum", 2)
    with pytest.raises(UserError, match=r"balance.target: task 2 of 2"):
        balancer("metabalance", 2, {"target": 2})
    with pytest.raises(UserError, match=r"balance.weights: \[1.0\] for 2 tasks"):
        balancer("static", 2, {"weights": (1.0,)})
    with pytest.raises(UserError, match=r"balance.weights: \[1.0, 0.0\]"):
        balancer("static", 2, {"weights": (1.0, 0.0)})
