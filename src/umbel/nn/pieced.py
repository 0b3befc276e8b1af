"""Rows in pieces: columns that all rows share, or that were met before, go through a linear map once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear

# What only asks for the shape or type of a tensor, which need not be whole for that.
ASKS = {
    Tensor.size, Tensor.dim, Tensor.__len__, Tensor.new_ones, Tensor.new_zeros, Tensor.is_floating_point,
    *(getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim", "requires_grad", "layout", "is_sparse")),
}  # fmt: skip
Call = Callable[..., Any]


class Piece(ABC):
    """Some columns of the rows that stand on `columns` of a whole: of every row, or one row for all."""

    columns: Int[Tensor, "own"]

    @abstractmethod
    def rows(self) -> Float[Tensor, "rows own"]:
        """The numbers."""

    @abstractmethod
    def times(self, weight: Tensor) -> Float[Tensor, "rows out"]:
        """Their share of `x W'`, W being `out width`."""

    @abstractmethod
    def plus(self, other: Piece) -> Piece:
        """The sum with a piece of the same columns and rows."""


@final
class Fresh(Piece):
    """Columns at hand; `slices` keeps the weights' columns from one request to the next."""

    def __init__(self, columns: Int[Tensor, "own"], x: Float[Tensor, "rows own"], slices: Slices) -> None:
        self.columns, self.x, self.slices = columns, x, slices

    def rows(self) -> Float[Tensor, "rows own"]:
        """As they are."""
        return self.x

    def times(self, weight: Tensor) -> Float[Tensor, "rows out"]:
        """Computed now."""
        return linear(self.x, self.slices(weight, self.columns))

    def plus(self, other: Piece) -> Piece:
        """Row by row."""
        return Fresh(self.columns, self.x + other.rows(), self.slices)


@final
class Slices:
    """The columns of weights that a piece meets, cut out once: weights are told apart by their identity, and do not change."""

    def __init__(self) -> None:
        self._cut: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, weight: Tensor, columns: Int[Tensor, "own"]) -> Float[Tensor, "out own"]:
        """`W[:, columns]`."""
        key = (id(weight), id(columns))
        if key not in self._cut:  # both are held, so that no other takes their identity
            self._cut[key] = (weight, columns, weight.detach().index_select(1, columns))
        return self._cut[key][2]


class Pieced(Tensor):
    """A tensor of rows that is whole only where it must be: `linear` and sums of two work piece by piece.

    Everything else sees the whole. A linear map of a sum of pieces is the sum of theirs, so that results differ from the
    whole's by rounding alone.
    """

    pieces: tuple[Piece, ...]
    _whole: Tensor | None

    @staticmethod
    def of(pieces: Sequence[Piece], rows: int) -> Pieced:
        """Pieces that together hold each column once."""
        width = sum(len(piece.columns) for piece in pieces)
        made = Tensor._make_subclass(Pieced, torch.zeros(1, dtype=pieces[0].rows().dtype).expand(rows, width))
        made.pieces, made._whole = tuple(pieces), None
        return made

    def whole(self) -> Float[Tensor, "rows width"]:
        """The plain tensor."""
        if self._whole is None:
            with torch._C.DisableTorchFunctionSubclass():
                count = self.shape[0]
                parts = [piece.rows().expand(count, -1) for piece in self.pieces]
                order = torch.cat([piece.columns for piece in self.pieces]).argsort()
                self._whole = torch.cat(parts, 1).index_select(1, order)
        return self._whole

    @classmethod
    def __torch_function__(cls, func: Call, types: object, *given: Any) -> Any:  # noqa: ANN401
        args: tuple[Any, ...] = given[0] if given else ()
        named: dict[str, Any] = dict(given[1] or {}) if len(given) > 1 else {}
        if func is linear and isinstance(args[0], Pieced):
            return _linear(*args, **named)
        if func in (Tensor.add, Tensor.__add__, torch.add) and not named and _alike(args):
            one, other = args
            return Pieced.of([a.plus(b) for a, b in zip(one.pieces, other.pieces, strict=True)], len(one))
        if func not in ASKS:
            args, named = _plain(args), {name: _plain(one) for name, one in named.items()}
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **named)


def _linear(x: Pieced, weight: Tensor, bias: Tensor | None = None) -> Float[Tensor, "rows out"]:
    one, many = bias, None
    for piece in x.pieces:
        share = piece.times(weight)
        if share.shape[0] == 1:
            one = share if one is None else one + share
        else:
            many = share if many is None else many + share
    if many is None:
        assert one is not None
        return one.expand(x.shape[0], -1).contiguous()
    return many if one is None else many.add_(one)


def _alike(args: Sequence[object]) -> bool:
    """Whether these are two tensors cut in the same way."""
    if len(args) != 2 or not all(isinstance(one, Pieced) for one in args):
        return False
    one, other = ([id(piece.columns) for piece in pieced.pieces] for pieced in args if isinstance(pieced, Pieced))
    return one == other


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Pieced):
        return value.whole()
    return type(value)(map(_plain, value)) if isinstance(value, tuple | list) else value
