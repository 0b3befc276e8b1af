"""Integrated gradients: what each field adds on the way from a baseline to a row, the way cut finer wherever the sum does not come out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.overrides import TorchFunctionMode

Scores = Callable[[Float[Tensor, "rows views fields dim"]], Float[Tensor, "rows columns"]]

TOLERANCE = 9e-4  # of |f(x) - f(x0)| that the sum of a row's contributions may miss
LOOSE = 0.01      # of all that its fields add on the pieces, that these may miss before signs cancel
FLOOR = 1e-10     # beneath this a difference is rounding
START = 8         # pieces of the way at first
ROUNDS = 48       # halvings: beyond, float64 has no middle left
ASKED = 2048      # points of the way at a time
NODES = torch.tensor([3 - math.sqrt(3), 3 + math.sqrt(3)], dtype=torch.float64) / 6  # of Gauss and Legendre, each with half the weight


@final
class Undetached(TorchFunctionMode):
    """While entered, `detach` detaches nothing: what a task hears and may not teach moves its prediction all the same."""

    def __torch_function__(self, func: Callable[..., object], types: object, *given: object) -> object:
        """Every function but `detach`, as it is; `given` are its arguments, those by place and those by name, if there are any."""
        places, names = given[0] if given else (), (given[1] if len(given) > 1 else None) or {}
        assert isinstance(places, tuple)
        assert isinstance(names, dict)
        return places[0] if func in (torch.Tensor.detach, torch.detach) else func(*places, **names)


@dataclass(frozen=True, slots=True)
class Integrated:
    """Per row and column of f: what each field adds, and `f(x) - f(x0)`."""

    contributions: Float[Tensor, "rows columns fields"]
    change: Float[Tensor, "rows columns"]


def integrate(f: Scores, x: Float[Tensor, "rows views fields dim"], base: Float[Tensor, "views fields dim"]) -> Integrated:
    """`c_i = sum over views and dim of (x_i - x0_i) * int_0^1 df/dx_i (x0 + a (x - x0)) da`, for every field i.

    Integrated gradients (Sundararajan, Taly & Yan, 2017, https://arxiv.org/abs/1703.01365), over embeddings and all views of a
    field. Contributions of a row sum to `f(x) - f(x0)`, which is known on every piece of the way too: in a row whose sum
    misses that by more than `TOLERANCE`, the pieces that miss most are halved. (With steps all alike, kinks of ReLU leave an
    error that falls as slowly as 1 / steps: docs/decisions/0009.) f reads rows one by one; x is float64.

    Example
    -------
    >>> x = torch.tensor([[[[3.0]], [[1.0]]]], dtype=torch.float64).transpose(1, 2)
    >>> found = integrate(lambda x: (x * x).sum((1, 2, 3)).unsqueeze(1), x, torch.zeros(1, 2, 1, dtype=torch.float64))
    >>> found.contributions.round(decimals=3).tolist(), found.change.tolist()
    ([[[9.0, 1.0]]], [[10.0]])
    """
    way = Way(f, base, x - base)
    rows = torch.arange(len(x))
    start, end = way.value(rows, torch.zeros(len(x))), way.value(rows, torch.ones(len(x)))
    pieces = _first(way, len(x))
    for _ in range(ROUNDS):
        wrong = pieces.wrong(end - start)
        if not wrong.any():
            break
        pieces = pieces.at(~wrong).beside(way.halves(pieces.at(wrong)))
    return Integrated(pieces.total(pieces.parts, len(x)), end - start)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of ways: the row whose way it is, from where to where, f at both ends, and what each field adds between them."""

    row: Int[Tensor, "pieces"]
    ends: Float[Tensor, "pieces two"]
    values: Float[Tensor, "pieces two columns"]
    parts: Float[Tensor, "pieces columns fields"]

    @property
    def missed(self) -> Float[Tensor, "pieces columns"]:
        """By how much what fields add differs from what f rises by."""
        return self.parts.sum(2) - (self.values[:, 1] - self.values[:, 0])

    def wrong(self, change: Float[Tensor, "rows columns"]) -> Bool[Tensor, "pieces"]:
        """The pieces to halve: in rows that miss too much, those that miss no less than the row's mean piece."""
        rows, size = len(change), self.missed.abs()
        sizes, moved = self.total(size, rows), self.total(self.parts.abs().sum(2), rows)
        misses = self.total(self.missed, rows).abs() > (TOLERANCE * change.abs()).clamp(min=FLOOR)
        misses |= sizes > (LOOSE * moved).clamp(min=FLOOR)
        mean = sizes / torch.bincount(self.row, minlength=rows).unsqueeze(1)
        return (misses[self.row] & (size >= mean[self.row])).any(1)

    def total(self, values: Float[Tensor, "pieces *rest"], rows: int) -> Float[Tensor, "rows *rest"]:
        """Sums over the pieces of each row."""
        return values.new_zeros(rows, *values.shape[1:]).index_add(0, self.row, values)

    def at(self, which: Bool[Tensor, "pieces"]) -> Pieces:
        """Some of them."""
        return Pieces(self.row[which], self.ends[which], self.values[which], self.parts[which])

    def beside(self, other: Pieces) -> Pieces:
        """These and others."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("row", "ends", "values", "parts"))
        return Pieces(*map(torch.cat, pairs))


@dataclass(frozen=True, slots=True)
class Way:
    """Straight ways from a baseline: `base + a step`, a from 0 to 1."""

    f: Scores
    base: Float[Tensor, "views fields dim"]
    step: Float[Tensor, "rows views fields dim"]

    def value(self, row: Int[Tensor, "points"], at: Float[Tensor, "points"]) -> Float[Tensor, "points columns"]:
        """f at points of the ways of some rows."""
        with torch.no_grad():
            return torch.cat([self.f(self._point(*one)) for one in _shares(row, at)])

    def slopes(self, row: Int[Tensor, "points"], at: Float[Tensor, "points"]) -> Float[Tensor, "points columns fields"]:
        """How fast each field moves f there."""
        return torch.cat([self._slopes(*one) for one in _shares(row, at)])

    def walked(self, row: Int[Tensor, "pieces"], ends: Float[Tensor, "pieces two"], values: Float[Tensor, "pieces two columns"]) -> Pieces:
        """Pieces with these ends, by two nodes of Gauss and Legendre each."""
        length = ends[:, 1] - ends[:, 0]
        points = ends[:, :1] + length.unsqueeze(1) * NODES
        slopes = self.slopes(row.repeat_interleave(len(NODES)), points.flatten())
        mean = slopes.view(*points.shape, *slopes.shape[1:]).mean(1)
        return Pieces(row, ends, values, mean * length[:, None, None])

    def halves(self, pieces: Pieces) -> Pieces:
        """Each piece as two."""
        low, high = pieces.ends.unbind(1)
        middle = (low + high) / 2
        value = self.value(pieces.row, middle)
        first, last = pieces.values.unbind(1)
        ends = torch.cat([torch.stack([low, middle], 1), torch.stack([middle, high], 1)])
        return self.walked(pieces.row.repeat(2), ends, torch.cat([torch.stack([first, value], 1), torch.stack([value, last], 1)]))

    def _point(self, row: Tensor, at: Tensor) -> Float[Tensor, "points views fields dim"]:
        return self.base + at[:, None, None, None] * self.step[row]

    def _slopes(self, row: Tensor, at: Tensor) -> Float[Tensor, "points columns fields"]:
        point = self._point(row, at).requires_grad_()
        with torch.enable_grad(), Undetached():
            columns = self.f(point).sum(0)
            gradients = [torch.autograd.grad(column, point, retain_graph=True)[0] for column in columns]
        return torch.stack([(gradient * self.step[row]).sum((1, 3)) for gradient in gradients], 1)


def _first(way: Way, rows: int) -> Pieces:
    marks = torch.linspace(0, 1, START + 1, dtype=torch.float64)
    row = torch.arange(rows).repeat_interleave(START)
    ends = torch.stack([marks[:-1], marks[1:]], 1).repeat(rows, 1)
    values = way.value(torch.arange(rows).repeat_interleave(START + 1), marks.repeat(rows))
    values = values.view(rows, START + 1, -1)
    return way.walked(row, ends, torch.stack([values[:, :-1], values[:, 1:]], 2).flatten(0, 1))


def _shares(row: Tensor, at: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(row, ASKED), torch.split(at, ASKED), strict=True))
