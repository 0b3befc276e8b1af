"""Gradients of tasks, kind and unkind, for the tests of balancers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from umbel.balance.balancer import Balancer

KNOWN = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)  # torchjd's own example


def gramian(jacobian: Tensor) -> Callable[[], Tensor]:
    """What a balancer may ask for, given the tasks' gradients as rows."""
    return lambda: jacobian @ jacobian.T


def draws(tasks: int, *, steps: int = 4, width: int = 9, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Losses and gradients of some steps: tasks of different sizes that partly conflict."""
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.linspace(0.3, 3.0, tasks, dtype=torch.float64)
    return [(torch.rand(tasks, generator=draw, dtype=torch.float64) + 0.1,
             sizes[:, None] * torch.randn(tasks, width, generator=draw, dtype=torch.float64)) for _ in range(steps)]


def after(balancer: Balancer, steps: list[tuple[Tensor, Tensor]], *, turn: int = 2, seed: int = 0) -> Tensor:
    """The weights of every step, an epoch of `turn` steps at a time."""
    torch.manual_seed(seed)
    weights = []
    for number, (losses, jacobian) in enumerate(steps):
        weights.append(balancer(losses, gramian(jacobian)))
        if number % turn == turn - 1:
            balancer.turn()
    return torch.stack(weights)
