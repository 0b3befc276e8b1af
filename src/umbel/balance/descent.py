"""A few numbers that a balancer trains by itself."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

BETAS = (0.9, 0.999)
EPS = 1e-8


@final
class Descent(nn.Module):
    """Numbers under Adam (https://arxiv.org/abs/1412.6980), everything it remembers in buffers.

    An optimiser of torch keeps its moments outside of `state_dict`; here a balancer's are saved with it.

    Example
    -------
    >>> own = Descent(torch.zeros(2, dtype=torch.float64), rate=0.1)
    >>> own.step(torch.tensor([3.0, -1e15], dtype=torch.float64))
    >>> own.value
    tensor([-0.1000,  0.1000], dtype=torch.float64)
    """

    value: Tensor
    first: Tensor
    second: Tensor
    steps: Tensor

    def __init__(self, value: Float[Tensor, "tasks"], *, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("value", value.clone())
        self.register_buffer("first", torch.zeros_like(value))
        self.register_buffer("second", torch.zeros_like(value))
        self.register_buffer("steps", torch.zeros((), dtype=torch.float64))

    def step(self, grad: Float[Tensor, "tasks"]) -> None:
        """One step down."""
        self.steps = self.steps + 1
        slow, slower = BETAS
        self.first = slow * self.first + (1 - slow) * grad
        self.second = slower * self.second + (1 - slower) * grad.square()
        first = self.first / (1 - slow**self.steps)
        second = self.second / (1 - slower**self.steps)
        self.value = self.value - self.rate * first / (second.sqrt() + EPS)
