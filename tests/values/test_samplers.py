"""Where a search looks: known summits are climbed, budgets that end inside a generation do no harm, missing libraries are named."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest

from umbel.errors import UserError
from umbel.fuse.samplers import METHODS, WIDEST, Cma, Sampler, Tpe
from umbel.fuse.space import REACH

Loss = Callable[[np.ndarray], float]


def climbed(sampler: Sampler, loss: Loss, *, budget: int) -> float:
    """The least loss of so many points."""
    least = np.inf
    while budget > 0:
        points = sampler.ask()[:budget]
        losses = [loss(one) for one in points]
        sampler.tell(points, losses)
        least, budget = min(least, *losses), budget - len(points)
    return least


def sphere(point: np.ndarray) -> float:
    return float(np.square(point - 1.5).sum())


def ridge(point: np.ndarray) -> float:
    """A narrow valley that lies across the axes."""
    turned = np.array([point[0] + point[1], point[0] - point[1], *point[2:]])
    return float(np.square(turned - 1).dot([1.0, 400.0, *np.ones(len(point) - 2)]))


def steps(point: np.ndarray) -> float:
    """Plateaus, as orders have them."""
    return float(np.round(np.abs(point - 2.0) * 3).sum())


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize(("loss", "least"), [(sphere, 1e-3), (steps, 0.5)])
def test_an_evolution_strategy_climbs(size: int, loss: Loss, least: float) -> None:
    assert climbed(Cma(size, seed=1), loss, budget=600) < least


def test_it_learns_which_numbers_go_together() -> None:
    assert climbed(Cma(3, seed=1), ridge, budget=1200) < 1e-3


@pytest.mark.parametrize("size", [1, 3])
def test_trees_climb_too(size: int) -> None:
    assert climbed(Tpe(size, seed=1), sphere, budget=150) < 0.6 * size


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1, 4])
def test_points_have_the_space_s_size_and_stay_in_reach(method: str, size: int) -> None:
    sampler = METHODS[method](size, 3)
    for _ in range(8):
        points = sampler.ask()
        assert all(one.shape == (size,) and np.abs(one).max() <= REACH for one in points)
        sampler.tell(points, [-float(one.sum()) for one in points])  # the summit is a corner of the reach


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_is_a_sequence(method: str) -> None:
    def points(seed: int) -> list[list[float]]:
        sampler, found = METHODS[method](3, seed), []
        for _ in range(6):
            asked = sampler.ask()
            found += [one.tolist() for one in asked]
            sampler.tell(asked, [sphere(one) for one in asked])
        return found

    assert points(5) == points(5)
    assert points(5) != points(6)


def test_only_the_order_of_losses_matters_to_the_strategy() -> None:
    """A monotone change of the losses, and walls of any height, lead to the same points."""
    def points(bent: Callable[[float], float]) -> list[list[float]]:
        sampler, found = Cma(2, 1), []
        for _ in range(10):
            asked = sampler.ask()
            found += [one.tolist() for one in asked]
            sampler.tell(asked, [bent(sphere(one)) for one in asked])
        return found

    assert points(lambda loss: loss) == points(lambda loss: 1e6 + np.log1p(loss))


def test_a_generation_that_was_cut_off_is_not_learned_from() -> None:
    one, two = Cma(2, 4), Cma(2, 4)
    asked = one.ask()
    one.tell(asked[:2], [1.0, 2.0])
    two.ask()
    assert [point.tolist() for point in one.ask()] == [point.tolist() for point in two.ask()]


def test_flat_ground_ends_no_search() -> None:
    """Where everything is equal the strategy begins anew, wider, and never stops."""
    sampler, sizes = Cma(2, 0), set()
    for _ in range(400):
        points = sampler.ask()
        sizes.add(len(points))
        sampler.tell(points, [1.0] * len(points))
    assert len(sizes) > 1
    assert 2 * min(sizes) <= max(sizes) <= WIDEST


@pytest.mark.parametrize(("method", "library", "mend"), [
    ("cma", "cma", "umbel fuse: cma is not installed; pip install 'umbel[fuse]', or use --set method=tpe"),
    ("tpe", "optuna", "umbel fuse: optuna is not installed; pip install 'umbel[tune]', or use --set method=cma"),
])  # fmt: skip
def test_a_missing_library_is_named(method: str, library: str, mend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError) as refused:
        METHODS[method](2, 0)
    assert str(refused.value) == mend
