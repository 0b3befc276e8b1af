"""What gradient steps take from a linear map, user by user: kept as the rows that were learned from, or as a matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Rows = Float[Tensor, "sources users _ _"]


class Pace(NamedTuple):
    """The learning rates of a map."""

    weight: Float[Tensor, ""]
    bias: Float[Tensor, ""]


class Taken(ABC):
    """A user's map is `W - r_w dW, b - r_b db`: what the second parts do to rows that pass."""

    @abstractmethod
    def ahead(self, x: Rows, pace: Pace) -> Rows:
        """What they take from the map's outputs for rows `x`."""

    @abstractmethod
    def behind(self, d: Rows, pace: Pace) -> Rows:
        """What they take from the gradient at its inputs, where `d` is that at its outputs."""

    @abstractmethod
    def matrix(self) -> ByMatrix:
        """dW and db themselves."""

    @abstractmethod
    def square(self) -> Float[Tensor, "users"]:
        """The squared norm of dW and db."""

    @abstractmethod
    def scaled(self, scale: Float[Tensor, "users"]) -> Taken:
        """They times a number a user."""

    @abstractmethod
    def only(self, kept: Bool[Tensor, "users"]) -> Taken:
        """They, but 0 for users that are not `kept`, whatever they hold."""

    @abstractmethod
    def plus(self, other: Taken) -> Taken:
        """Two steps of one map together."""


@final
@dataclass(frozen=True, slots=True)
class ByRows(Taken):
    """`dW = D^T X`, `db = 1^T D` by inputs and gradients: rank S, never multiplied out.

    `A dW^T + db = (A X^T + 1) D`, `D' dW = (D' D^T) X`, `|dW|^2 + |db|^2 = sum (X X^T + 1) (D D^T)`. `pairs` is `X X^T` where it is
    known; rows of steps that had the same inputs are one, and their gradients add up.
    """

    x: Rows
    d: Rows
    pairs: Rows | None = None

    def ahead(self, x: Rows, pace: Pace) -> Rows:
        """`(r_w A X^T + r_b) D`."""
        both = self.pairs if self.pairs is not None and x is self.x else x @ self.x.mT
        return (pace.weight * both + pace.bias) @ self.d

    def behind(self, d: Rows, pace: Pace) -> Rows:
        """`r_w (D' D^T) X`."""
        return (pace.weight * (d @ self.d.mT)) @ self.x

    def matrix(self) -> ByMatrix:
        """Multiplied out."""
        return ByMatrix.of(self.x, self.d)

    def square(self) -> Float[Tensor, "users"]:
        """By the user's pairs of rows."""
        both = self.x @ self.x.mT if self.pairs is None else self.pairs
        return ((both + 1) * (self.d @ self.d.mT)).sum((0, 2, 3))

    def scaled(self, scale: Float[Tensor, "users"]) -> ByRows:
        """The gradients times the scale."""
        return ByRows(self.x, self.d * scale[:, None, None], self.pairs)

    def only(self, kept: Bool[Tensor, "users"]) -> ByRows:
        """Inputs are made 0 too, since 0 times what is no number is none."""
        return ByRows(_kept(self.x, kept), _kept(self.d, kept))

    def plus(self, other: Taken) -> ByRows:
        """Rows under rows, or gradients on gradients."""
        assert isinstance(other, ByRows)
        if other.x is self.x:
            return ByRows(self.x, self.d + other.d, self.pairs)
        return ByRows(torch.cat([self.x, other.x], 2), torch.cat([self.d, other.d], 2))


@final
@dataclass(frozen=True, slots=True)
class ByMatrix(Taken):
    """dW and db themselves, for maps that are smaller than what was learned from."""

    weight: Rows
    bias: Rows

    @staticmethod
    def of(x: Rows, d: Rows) -> ByMatrix:
        """`D^T X` and `1^T D`."""
        return ByMatrix(d.mT @ x, d.sum(2, keepdim=True))

    def ahead(self, x: Rows, pace: Pace) -> Rows:
        """`r_w A dW^T + r_b db`."""
        return pace.weight * (x @ self.weight.mT) + pace.bias * self.bias

    def behind(self, d: Rows, pace: Pace) -> Rows:
        """`r_w D' dW`."""
        return pace.weight * (d @ self.weight)

    def matrix(self) -> ByMatrix:
        """As they are."""
        return self

    def square(self) -> Float[Tensor, "users"]:
        """By their numbers."""
        return self.weight.square().sum((0, 2, 3)) + self.bias.square().sum((0, 2, 3))

    def scaled(self, scale: Float[Tensor, "users"]) -> ByMatrix:
        """The numbers times the scale."""
        return ByMatrix(self.weight * scale[:, None, None], self.bias * scale[:, None, None])

    def only(self, kept: Bool[Tensor, "users"]) -> ByMatrix:
        """The numbers, or 0."""
        return ByMatrix(_kept(self.weight, kept), _kept(self.bias, kept))

    def plus(self, other: Taken) -> ByMatrix:
        """The sums."""
        assert isinstance(other, ByMatrix)
        return ByMatrix(self.weight + other.weight, self.bias + other.bias)


def shorter(rows: int, out: int, width: int) -> bool:
    """Whether so many rows are less than the matrix of a map from `width` to `out`."""
    return rows * (width + out) < width * out


def _kept(rows: Rows, kept: Bool[Tensor, "users"]) -> Rows:
    return torch.where(kept[:, None, None], rows, 0.0)
