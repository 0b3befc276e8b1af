"""Integrated gradients against captum's, against a plain sum over a fine grid, and against the exact answers of simple functions."""

from __future__ import annotations

import pytest
import torch
from captum.attr import IntegratedGradients
from tests.everykind import fields
from tests.laws.test_combinations import Choice, made
from torch import Tensor

from umbel.nn.recommender import Recommender
from umbel.study.explain.explain import doubled
from umbel.study.explain.integrate import Undetached, integrate

CHOICES: list[Choice] = [
    ("mmoe", "shared", "concatenate", "mean", "independent"),
    ("ple", "own+shared", "dcn", "din", "independent"),
    ("me_mmoe", "each", "autoint", "sasrec", "esmm"),
]
STOPPING: Choice = ("stem", "own+shared", "fm", "mean", "independent")


def points(model: Recommender) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        x, base = (model.views(model.rows(batch), batch).double() for batch in (fields(3), fields(1, seed=9)))
    return x, base[0]


def plain(model: Recommender, x: Tensor, base: Tensor, *, steps: int = 2000) -> Tensor:
    """The middle of each of `steps` steps, as the definition has it."""
    found = []
    for row in x:
        point = (base + (row - base) * (torch.arange(steps) + 0.5).view(-1, 1, 1, 1) / steps).requires_grad_()
        logits = model.beyond(point)
        gradients = [torch.autograd.grad(logits[:, task].sum(), point, retain_graph=True)[0].mean(0) for task in range(3)]
        found.append(torch.stack([((row - base) * gradient).sum((0, 2)) for gradient in gradients]))
    return torch.stack(found)


def near(found: Tensor, other: Tensor, *, share: float) -> bool:
    """Whether no field's contribution differs by more than a share of what all fields of the row add."""
    return bool(((found - other).abs() <= share * other.abs().sum(2, keepdim=True)).all())


@pytest.mark.parametrize("choice", CHOICES, ids="-".join)
def test_captum_comes_to_the_same(choice: Choice) -> None:
    model = doubled(made(choice).eval())
    x, base = points(model)
    captum = IntegratedGradients(model.beyond)
    theirs = [
        captum.attribute(x, base.unsqueeze(0), target=task, n_steps=2000, method="riemann_middle", internal_batch_size=6000).sum((1, 3))
        for task in range(3)
    ]
    assert near(integrate(model.beyond, x, base).contributions, torch.stack(theirs, 1), share=2e-3)


@pytest.mark.parametrize("choice", CHOICES, ids="-".join)
def test_a_fine_grid_comes_to_the_same(choice: Choice) -> None:
    model = doubled(made(choice).eval())
    x, base = points(model)
    assert near(integrate(model.beyond, x, base).contributions, plain(model, x, base), share=2e-3)


def test_what_is_heard_and_not_taught_counts() -> None:
    """STEM stops gradients between tasks' experts: a plain sum misses what they move, and comes out once nothing is detached."""
    model = doubled(made(STOPPING).eval())
    x, base = points(model)
    found = integrate(model.beyond, x, base)
    with torch.no_grad():
        change = model.beyond(x) - model.beyond(base.unsqueeze(0))
    deaf = plain(model, x, base)
    assert ((deaf.sum(2) - change).abs() / change.abs()).max() > 0.02
    with Undetached():
        whole = plain(model, x, base)
    assert near(found.contributions, whole, share=2e-3)


def test_products_and_squares_have_known_answers() -> None:
    """Of x y each factor gets half, of x^2 the whole, from a baseline of 0."""
    x = torch.tensor([[2.0, 3.0, -1.0]], dtype=torch.float64).view(1, 1, 3, 1)

    def f(x: Tensor) -> Tensor:
        a, b, c = x[:, 0, :, 0].unbind(1)
        return torch.stack([a * b, c * c, 4 * a - c], 1)

    found = integrate(f, x, torch.zeros(1, 3, 1, dtype=torch.float64)).contributions[0]
    expected = torch.tensor([[3.0, 3.0, 0.0], [0.0, 0.0, 1.0], [8.0, 0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def test_a_kink_in_the_middle_has_a_known_answer() -> None:
    """`relu(a + b - 1)` from 0 to (1, 1): the slope is 1 on the second half of the way, so each field gets a half."""
    x = torch.ones(1, 1, 2, 1, dtype=torch.float64)
    found = integrate(lambda x: (x.sum((1, 2, 3)) - 1).relu().unsqueeze(1), x, torch.zeros(1, 2, 1, dtype=torch.float64))
    torch.testing.assert_close(found.contributions[0, 0], torch.tensor([0.5, 0.5], dtype=torch.float64), atol=1e-3, rtol=0)
