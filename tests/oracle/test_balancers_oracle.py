"""Balancers against torchjd's, which were written apart from ours, and against what its solvers gave."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy.optimize import minimize
from tests.gramians import draws, gramian
from torch import Tensor
from torchjd.aggregation import (
    AlignedMTLWeighting,
    FairGradWeighting,
    GradVacWeighting,
    IMTLGWeighting,
    KrumWeighting,
    MGDAWeighting,
    PCGradWeighting,
)
from torchjd.scalarization import DWA, STCH, UW, GeometricMean, Scalarizer

from umbel.balance.cone import RIDGE, unopposed
from umbel.balance.named import balancer

CASES = [jacobian for seed in range(6) for _, jacobian in draws(3, steps=1, width=5, seed=seed)]
ONES = torch.ones(3, dtype=torch.float64)


def unit(jacobian: Tensor) -> Tensor:
    products = jacobian @ jacobian.T
    return products / products.diagonal().mean()


@pytest.mark.parametrize("jacobian", CASES)
@pytest.mark.parametrize(("name", "theirs", "bound"), [
    ("pcgrad", PCGradWeighting(), 1e-9),
    ("imtl_g", IMTLGWeighting(), 1e-9),
    ("aligned_mtl", AlignedMTLWeighting(), 1e-9),
    ("mgda", MGDAWeighting(epsilon=1e-12, max_iters=3000), 2e-3),
])
def test_rules(name: str, theirs: Callable[[Tensor], Tensor], bound: float, jacobian: Tensor) -> None:
    torch.manual_seed(5)
    ours = balancer(name, 3)(ONES, gramian(jacobian))
    torch.manual_seed(5)
    torch.testing.assert_close(ours, theirs(unit(jacobian)), rtol=bound, atol=bound)


@pytest.mark.parametrize("jacobian", CASES)
@pytest.mark.parametrize(("name", "alpha"), [("fairgrad", 2.0), ("nash_mtl", 1.0)])
def test_fairness(name: str, alpha: float, jacobian: Tensor) -> None:
    """Ours have a ridge, which theirs is given here; scipy stops theirs at 1e-8 of its objective."""
    found = balancer(name, 3)(ONES, gramian(jacobian))
    ridged = unit(jacobian) + 1e-4 * torch.eye(3)
    torch.testing.assert_close(found, FairGradWeighting(alpha=alpha)(ridged), rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(ridged @ found, found ** (-1 / alpha), rtol=1e-9, atol=1e-9)


def test_gradvac_over_many_steps() -> None:
    ours, theirs = balancer("gradvac", 3, {"decay": 0.2}), GradVacWeighting(beta=0.2, eps=0.0)
    for number, (losses, jacobian) in enumerate(draws(3, steps=12)):
        torch.manual_seed(number)
        found = ours(losses, gramian(jacobian))
        torch.manual_seed(number)
        torch.testing.assert_close(found, theirs(jacobian @ jacobian.T))


SOLVED = torch.tensor([[1.0, 2.0, 0.0, -1.0], [-1.0, 1.0, 3.0, 0.0], [0.0, -2.0, 1.0, 2.0]], dtype=torch.float64)


@pytest.mark.parametrize(("name", "settings", "factor", "weights"), [
    ("upgrad", {}, 1.0, [0.6665222847877033, 0.3333333333333333, 0.5554913765652886]),
    ("dualproj", {}, 1.0, [0.3333333333333332, 0.3333333333333333, 0.3333333333333333]),
    ("cagrad", {"c": 0.5}, 1.5, [0.8333333323239354, 0.33333333379314245, 0.6666784625891586]),
    ("cagrad", {"c": 0.4}, 1.4, [0.7323088490845666, 0.3333333338125477, 0.5858300825181608]),
])
def test_solvers(name: str, settings: dict[str, float], factor: float, weights: list[float]) -> None:
    """What torchjd 0.18 gave with quadprog and clarabel installed."""
    assert (factor * balancer(name, 3, settings)(ONES, gramian(SOLVED))).tolist() == pytest.approx(weights, abs=1e-4)


def test_nash_mtl_solver() -> None:
    """torchjd's sequence of convex programs (cvxpy, ecos), in other units."""
    found = balancer("nash_mtl", 3)(ONES, gramian(SOLVED))
    wanted = torch.tensor([0.8578203072413418, 0.23878797934408388, 0.7033274187908389], dtype=torch.float64)
    torch.testing.assert_close(found / found.norm(), wanted / wanted.norm(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("jacobian", CASES)
@pytest.mark.parametrize("c", [0.2, 0.8])
def test_cagrad_maximises_the_worst_progress(c: float, jacobian: Tensor) -> None:
    """The primal problem by brute force: `max_d min_t <g_t, d>` over `|d - g_0| <= c |g_0|`."""
    mean = jacobian.mean(0)
    found = (1 + c) * balancer("cagrad", 3, {"c": c})(ONES, gramian(jacobian)) @ jacobian
    assert (found - mean).norm().item() <= c * mean.norm().item() * (1 + 1e-4)
    rows, centre, radius = jacobian.numpy(), mean.numpy(), c * mean.norm().item()
    best = minimize(
        lambda x: -x[-1], [*centre, float((rows @ centre).min())],
        constraints=[{"type": "ineq", "fun": lambda x: rows @ x[:-1] - x[-1]},
                     {"type": "ineq", "fun": lambda x: radius**2 - ((x[:-1] - centre) ** 2).sum()}],
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert (jacobian @ found).min().item() == pytest.approx(best.x[-1], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("jacobian", CASES)
def test_unopposed_is_the_least_over_the_corner(jacobian: Tensor) -> None:
    products = (unit(jacobian) / 3 + RIDGE * torch.eye(3)).numpy()
    weights = [0.2, 1.0, 0.4]
    best = minimize(lambda v: v @ products @ v, weights, jac=lambda v: 2 * products @ v, bounds=[(u, None) for u in weights], tol=1e-14)
    assert unopposed(torch.tensor(weights).double(), unit(jacobian)).tolist() == pytest.approx(best.x.tolist(), abs=2e-4)


def slope(scalar: Scalarizer, losses: Tensor) -> Tensor:
    leaf = losses.clone().requires_grad_()
    return torch.autograd.grad(scalar(leaf), leaf)[0]


@pytest.mark.parametrize("losses", [losses for losses, _ in draws(3, steps=4)])
def test_scalarizers(losses: Tensor) -> None:
    torch.testing.assert_close(balancer("geometric", 3)(losses, NOTHING), slope(GeometricMean(), losses))
    torch.testing.assert_close(balancer("stch", 3, {"mu": 0.3})(losses, NOTHING), 3 * slope(STCH(0.3), losses))


def test_uncertainty_weighs_as_theirs_for_the_same_variances() -> None:
    ours, theirs = balancer("uncertainty", 3), UW(3)
    for losses, _ in draws(3, steps=5):
        ours(losses, NOTHING)
    with torch.no_grad():
        theirs.log_var.copy_(ours.state_dict()["log_variance.value"])
    found, wanted = ours(losses, NOTHING), slope(theirs.double(), losses)
    torch.testing.assert_close(found / found.sum(), wanted / wanted.sum(), rtol=1e-6, atol=1e-6)


def test_dwa_over_epochs() -> None:
    ours, theirs = balancer("dwa", 3), DWA()
    for epoch in range(4):
        for losses, _ in draws(3, steps=3, seed=epoch):
            torch.testing.assert_close(ours(losses, NOTHING), slope(theirs, losses))
        ours.turn()
        theirs.step()


def NOTHING() -> Tensor:  # noqa: N802
    raise AssertionError("a balancer of losses asked for the Gramian")


@pytest.mark.parametrize("tasks", [4, 5, 7])
def test_krum_takes_whom_torchjd_takes(tasks: int) -> None:
    """Where no two are equally near: sums of distances, not of their squares, which would take others now and then."""
    draw = torch.Generator().manual_seed(tasks)
    theirs, otherwise, asked = KrumWeighting(n_byzantine=0), 0, 0
    for _ in range(200):
        jacobian = torch.randn(tasks, 3, generator=draw, dtype=torch.float64)
        apart = torch.cdist(jacobian, jacobian).sort(1).values[:, :-1]
        first, second, *_ = apart.sum(1).sort().values.tolist()
        if second - first < 1e-3:
            continue
        asked += 1
        found = balancer("krum", tasks)(torch.ones(tasks, dtype=torch.float64), gramian(jacobian))
        assert found.tolist() == theirs(jacobian @ jacobian.T).tolist()
        otherwise += int(apart.square().sum(1).argmin() != found.argmax())
    assert asked > 150
    assert (otherwise > 5) == (tasks > 4), "of four the two rules agree"
