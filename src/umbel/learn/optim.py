"""Optimisers for a table of which a batch touches few rows: they read and write those rows and no other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from inspect import unwrap
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.optim import AdamW
from torch.optim.adam import adam


@final
class DenseAdam(AdamW):
    """`torch.optim.AdamW` as it is within wrappers that are for `torch.compile` alone.

    They import torch's compiler, which takes longer than a small model takes to train; what is compiled here is no optimiser.
    """

    add_param_group = unwrap(AdamW.add_param_group)
    zero_grad = unwrap(AdamW.zero_grad)
    step = torch.no_grad()(unwrap(AdamW.step))


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
    >>> [[round(number, 4) for number in row] for row in table.tolist()]
    [[0.0, 0.0], [-0.1, 0.1], [0.0, 0.0]]
    """

    def __init__(
        self, table: Float[Tensor, "all width"], *, rate: float | None = None, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(table, rate)
        self.betas = betas
        self.eps = eps
        self.steps = torch.zeros((), device=table.device)
        self.first, self.second = _zeros(table), _zeros(table)

    @torch.no_grad()
    def step(self, ids: Int[Tensor, "touched"], grad: Float[Tensor, "touched width"], *, rate: float) -> None:
        """One step of Adam on the rows `ids`, by torch's own fused kernel on copies of them."""
        stored = [self.table, self.first, self.second]
        rows, first, second = (whole.index_select(0, ids) for whole in stored)
        slow, slower = self.betas
        adam(
            [rows], [grad], [first], [second], [], [self.steps],
            fused=True, amsgrad=False, beta1=slow, beta2=slower, lr=rate, weight_decay=0.0, eps=self.eps, maximize=False,
        )
        for whole, part in zip(stored, (rows, first, second), strict=True):
            whole.index_copy_(0, ids, part)

    def state(self) -> dict[str, Tensor]:
        """Both moments, and the number of steps."""
        return {"first": self.first, "second": self.second, "steps": self.steps}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


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
        self.sums = _zeros(table if elementwise else table[:, :1])

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


def _zeros(like: Tensor) -> Tensor:
    """Zeros that are written now: pages handed out at their first use would make the first thousand steps several times slower."""
    return torch.empty_like(like, memory_format=torch.contiguous_format).zero_().detach()
