"""Optimisers for a table of which a batch touches few rows: they read and write those rows and no other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor


class RowOptimizer(ABC):
    """Updates the rows of one table that a step touched; the state of every other row stays as it is.

    A table of 10 million rows then costs no more a step than one of 10 thousand. `rate` is this optimiser's own
    learning rate; None takes the plan's.
    """

    def __init__(self, table: Float[Tensor, "all width"], rate: float | None) -> None:
        self.table = table.detach()
        self.rate = rate

    @abstractmethod
    def step(self, ids: Int[Tensor, "touched"], grad: Float[Tensor, "touched width"], *, rate: float) -> None:
        """Update the rows `ids`, each named once, from their summed gradients."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Everything that a continuation needs, by name; the tensors are the live ones."""

    @abstractmethod
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""


@final
class RowAdam(RowOptimizer):
    """Lazy Adam (https://arxiv.org/abs/1412.6980) over touched rows, with bias correction by the number of steps.

    `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g^2`, `w <- w - rate * (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + eps)`.
    n counts steps of the table, as in `torch.optim.SparseAdam`. Where we differ from Adam: the moments of a row that
    a step does not touch neither decay nor move the row. With every row touched in every step both are equal;
    a row touched once moves about 3 rates here, and about 30 in Adam, which goes on moving it from memory.

    Example
    -------
    >>> table = torch.zeros(3, 2)
    >>> RowAdam(table).step(torch.tensor([1]), torch.tensor([[0.5, -2.0]]), rate=0.1)
    >>> table.tolist()
    [[0.0, 0.0], [-0.10000000149011612, 0.10000000149011612], [0.0, 0.0]]
    """

    def __init__(
        self, table: Float[Tensor, "all width"], *, rate: float | None = None, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(table, rate)
        self.betas = betas
        self.eps = eps
        self.steps = 0
        # Both moments of a row lie side by side, so that a step fetches them in one read. Written now: pages that the
        # system hands out lazily would make the first thousand steps of a large table several times slower.
        self.moments = torch.empty(table.shape[0], 2 * table.shape[1], dtype=table.dtype, device=table.device).zero_()

    @torch.no_grad()
    def step(self, ids: Int[Tensor, "touched"], grad: Float[Tensor, "touched width"], *, rate: float) -> None:
        """One step of Adam on the rows `ids`."""
        self.steps += 1
        slow, slower = self.betas
        moments = self.moments.index_select(0, ids)
        first, second = moments.chunk(2, dim=1)
        first.lerp_(grad, 1.0 - slow)
        second.mul_(slower).addcmul_(grad, grad, value=1.0 - slower)
        self.moments.index_copy_(0, ids, moments)
        scale = second.div(1.0 - slower**self.steps).sqrt_().add_(self.eps)
        rows = self.table.index_select(0, ids).addcdiv_(first, scale, value=-rate / (1.0 - slow**self.steps))
        self.table.index_copy_(0, ids, rows)

    def state(self) -> dict[str, Tensor]:
        """Both moments, and the number of steps."""
        return {"moments": self.moments, "steps": torch.tensor(self.steps)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        self.moments.copy_(state["moments"])
        self.steps = int(state["steps"])


@final
class RowAdagrad(RowOptimizer):
    """Adagrad over touched rows, with one accumulator a row, or one an element.

    `a <- a + mean(g^2)`, `w <- w - rate * g / (sqrt(a) + eps)`: a row costs one number of state (FBGEMM's exact row-wise Adagrad).
    `elementwise` accumulates `g^2` itself, and is `torch.optim.Adagrad` exactly, since a zero gradient moves nothing there.

    Example
    -------
    >>> table = torch.zeros(2, 2)
    >>> RowAdagrad(table).step(torch.tensor([0]), torch.tensor([[3.0, 4.0]]), rate=1.0)
    >>> table[0]
    tensor([-0.8485, -1.1314])
    """

    def __init__(
        self, table: Float[Tensor, "all width"], *, rate: float | None = None, eps: float = 1e-10, elementwise: bool = False
    ) -> None:
        super().__init__(table, rate)
        self.eps = eps
        self.elementwise = elementwise
        width = table.shape[1] if elementwise else 1
        self.sums = torch.empty(table.shape[0], width, dtype=table.dtype, device=table.device).zero_()

    @torch.no_grad()
    def step(self, ids: Int[Tensor, "touched"], grad: Float[Tensor, "touched width"], *, rate: float) -> None:
        """One step of Adagrad on the rows `ids`."""
        square = grad.square()
        sums = self.sums.index_select(0, ids).add_(square if self.elementwise else square.mean(dim=1, keepdim=True))
        self.sums.index_copy_(0, ids, sums)
        rows = self.table.index_select(0, ids).addcdiv_(grad, sums.sqrt().add_(self.eps), value=-rate)
        self.table.index_copy_(0, ids, rows)

    def state(self) -> dict[str, Tensor]:
        """The accumulators."""
        return {"sums": self.sums}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        self.sums.copy_(state["sums"])
