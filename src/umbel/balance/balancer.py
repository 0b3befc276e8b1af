"""What every balancer is: losses and a Gramian in, weights out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

Gramian = Callable[[], Float[Tensor, "tasks tasks"]]  # costs a backward pass a task: asked for once, or not at all


class Balancer(nn.Module, ABC):
    """Weights of the tasks for one step, from their losses and the inner products of their gradients, `G_st = <g_s, g_t>`.

    What it remembers from step to step (moving averages, first losses, what it trains) are buffers, all in `state_dict`,
    so that a training that was stopped goes on to the same bytes. Losses and Gramian are finite; a task whose labels
    no row of the batch has comes with loss 0 and gradient 0.

    Example
    -------
    >>> import torch
    >>> from umbel.balance.losses import Static
    >>> Static(2, weights=(1.0, 3.0))(torch.tensor([0.5, 0.2]), lambda: torch.eye(2))
    tensor([1., 3.])

    `signed` says whether losses below 0, as of densities, are as good as others; a balancer of ratios or logarithms of them has it False.
    """

    signed: ClassVar[bool] = True

    @abstractmethod
    def forward(self, losses: Float[Tensor, "tasks"], gramian: Gramian) -> Float[Tensor, "tasks"]:
        """The weight of each task; what is remembered moves on by one step."""

    def turn(self) -> None:
        """An epoch is over."""
