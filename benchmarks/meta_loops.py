"""Two ways to take a meta-learning step without umbel, for comparison: a copy of the weights for each user, and a clean functional loop."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

Columns = list[Tensor]  # per field the codes of rows: one each, or several with -1 as padding


class User(NamedTuple):
    """One user's rows, no padding."""

    support: Columns
    support_labels: Tensor
    query: Columns
    query_labels: Tensor


class Network(nn.Module):
    """MeLU's: a table a field (the mean where a field holds several values), two ReLU layers, a linear output."""

    def __init__(self, sizes: list[int], dim: int, hidden: tuple[int, int]) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, dim) for size in sizes)
        self.first = nn.Linear(len(sizes) * dim, hidden[0])
        self.second = nn.Linear(hidden[0], hidden[1])
        self.out = nn.Linear(hidden[1], 1)

    def embed(self, columns: Columns) -> Tensor:
        """The fields side by side."""
        return torch.cat([_mean(table.weight, codes) for table, codes in zip(self.tables, columns, strict=True)], 1)

    def decide(self, x: Tensor) -> Tensor:
        """The decision layers."""
        return self.out(self.second(self.first(x).relu()).relu())[:, 0]

    def forward(self, columns: Columns) -> Tensor:
        """A rating a row."""
        return self.decide(self.embed(columns))


def _mean(weight: Tensor, codes: Tensor) -> Tensor:
    if codes.ndim == 1:
        return functional.embedding(codes, weight)
    there = (codes >= 0).float().unsqueeze(-1)
    return (functional.embedding(codes.clamp(min=0), weight) * there).sum(1) / there.sum(1).clamp(min=1)


def head(model: nn.Module) -> dict[str, nn.Parameter]:
    """What is adapted."""
    return {name: one for name, one in model.named_parameters() if not name.startswith("tables.")}


class Copying:
    """As public code has it: each user gets a copy of all weights, and gradients are taken by all of them, the tables' too.

    First order: the query's gradient at the copy is added to the shared weights. Second order: the fast weights stay in the graph.
    """

    def __init__(self, model: Network, *, steps: int, rates: tuple[float, float], second: bool) -> None:
        self.model, self.steps, self.rate, self.second = model, steps, rates[0], second
        self.optimizer = torch.optim.Adam(model.parameters(), lr=rates[1])

    def __call__(self, users: list[User]) -> None:
        """One step from a batch of users."""
        self.optimizer.zero_grad()
        one = self._graph if self.second else self._copy
        for user in users:
            one(user, len(users))
        self.optimizer.step()

    def _copy(self, user: User, users: int) -> None:
        own = copy.deepcopy(self.model)
        adapted = set(head(own))
        for _ in range(self.steps):
            loss = functional.mse_loss(own(user.support), user.support_labels)
            slopes = torch.autograd.grad(loss, list(own.parameters()))
            with torch.no_grad():
                for (name, weight), slope in zip(own.named_parameters(), slopes, strict=True):
                    if name in adapted:
                        weight -= self.rate * slope
        loss = functional.mse_loss(own(user.query), user.query_labels) / users
        for weight, slope in zip(self.model.parameters(), torch.autograd.grad(loss, list(own.parameters())), strict=True):
            weight.grad = slope if weight.grad is None else weight.grad + slope

    def _graph(self, user: User, users: int) -> None:
        fast: dict[str, Tensor] = {name: weight.clone() for name, weight in self.model.named_parameters()}
        adapted = set(head(self.model))
        for _ in range(self.steps):
            loss = functional.mse_loss(functional_call(self.model, fast, (user.support,)), user.support_labels)
            slopes = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
            fast = {name: weight - self.rate * slope if name in adapted else weight
                    for (name, weight), slope in zip(fast.items(), slopes, strict=True)}
        loss = functional.mse_loss(functional_call(self.model, fast, (user.query,)), user.query_labels) / users
        torch.autograd.backward(loss)


class Functional:
    """The clean loop: `functional_call` and `torch.autograd.grad` by the adapted weights alone, a user at a time, one backward pass."""

    def __init__(self, model: Network, *, steps: int, rates: tuple[float, float], second: bool) -> None:
        self.model, self.steps, self.rate, self.second = model, steps, rates[0], second
        self.optimizer = torch.optim.Adam(model.parameters(), lr=rates[1])

    def __call__(self, users: list[User]) -> None:
        """One step from a batch of users."""
        self.optimizer.zero_grad()
        torch.autograd.backward(torch.stack([self.loss(user) for user in users]).mean())
        self.optimizer.step()

    def loss(self, user: User) -> Tensor:
        """A user's loss on the query after adapting to the support."""
        own: dict[str, Tensor] = dict(head(self.model))
        for _ in range(self.steps):
            loss = functional.mse_loss(functional_call(self.model, own, (user.support,)), user.support_labels)
            slopes = torch.autograd.grad(loss, list(own.values()), create_graph=self.second)
            own = {name: weight - self.rate * slope for (name, weight), slope in zip(own.items(), slopes, strict=True)}
        return functional.mse_loss(functional_call(self.model, own, (user.query,)), user.query_labels)


Loop = Callable[[list[User]], None]
