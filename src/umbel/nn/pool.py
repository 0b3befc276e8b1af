"""Means of padded lists of table rows, without a tensor of rows x slots x width in either direction."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

Widths = tuple[int, ...]
Shape = tuple[Widths, int]  # how the slots are cut, and the rows of the table
Dims = tuple[object, ...]  # an axis or None for each tensor, and None for whatever else


class _Entries(NamedTuple):
    """What is no padding: the table row and the list of each entry, lists in order; how many entries a list has."""

    row: Int[Tensor, "entries"]
    bag: Int[Tensor, "entries"]
    counts: Int[Tensor, "lists"]


def mean_rows(table: Float[Tensor, "all width"], place: Int[Tensor, "rows slots"], widths: Widths) -> Float[Tensor, "rows lists width"]:
    """The mean over each of a row's lists of the table rows it names; -1 is padding, an empty list gives zeros.

    `widths` cuts the slots into lists. Twice differentiable in `table`; works under `torch.func.vmap`.
    Graphs that are exported get the plain formula, which costs memory but has no shape that depends on the data.

    Example
    -------
    >>> mean_rows(torch.tensor([[1.0], [2.0], [6.0]]), torch.tensor([[0, 2, -1, -1]]), (3, 1)).tolist()
    [[[3.5], [0.0]]]
    """
    if torch.compiler.is_compiling():
        return _padded(table, place, widths)
    return _mean(table, place, widths)


def _padded(table: Tensor, place: Tensor, widths: Widths) -> Tensor:
    """`mean_rows` by a look-up of every slot."""
    known = (place >= 0).to(table.dtype).unsqueeze(2)
    looked = nn.functional.embedding(place.clamp(min=0), table) * known
    pairs = zip(looked.split_with_sizes(widths, 1), known.split_with_sizes(widths, 1), strict=True)
    return torch.stack([values.sum(1) / mask.sum(1).clamp(min=1.0) for values, mask in pairs], 1)


def _entries(place: Tensor, widths: Widths) -> _Entries:
    known = place >= 0
    counts = torch.stack([mask.sum(1) for mask in known.split_with_sizes(widths, 1)], 1).flatten()
    row = place.flatten().index_select(0, known.flatten().nonzero().squeeze(1))
    return _Entries(row, torch.repeat_interleave(counts, output_size=len(row)), counts)


def _starts(counts: Tensor) -> Tensor:
    return counts.cumsum(0) - counts


class _Mean(torch.autograd.Function):
    """`out_b = sum_i table[row_i] / n_b`; its adjoint is `_Spread`."""

    @staticmethod
    def forward(table: Tensor, place: Tensor, widths: Widths) -> Tensor:
        row, _, counts = _entries(place, widths)
        if not len(row):
            return table.new_zeros(len(place), len(widths), table.shape[1])
        mean: Tensor = nn.functional.embedding_bag(row.long(), table, _starts(counts), mode="mean")
        return mean.view(len(place), len(widths), -1)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor, Widths], output: Tensor) -> None:
        table, place, widths = inputs
        ctx.save_for_backward(place)
        ctx.widths, ctx.size = widths, len(table)  # type: ignore[attr-defined]

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        (place,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return _spread(grad, place, (ctx.widths, ctx.size)), None, None  # type: ignore[attr-defined]

    @staticmethod
    def vmap(info: object, dims: Dims, *inputs: object) -> tuple[Tensor, int]:
        times, (table, place, widths) = _times(info), cast(tuple[Tensor, Tensor, Widths], inputs)
        tables, places = _batched(table, dims[0], times), _batched(place, dims[1], times)
        mean = _mean(tables.flatten(0, 1), _shifted(places, tables.shape[1]), widths)
        return mean.view(times, -1, *mean.shape[1:]), 0


class _Spread(torch.autograd.Function):
    """`out_j = sum over entries i that name row j of grad_b(i) / n_b(i)`: entries are sorted by row, then summed like a list."""

    @staticmethod
    def forward(grad: Tensor, place: Tensor, shape: Shape) -> Tensor:
        widths, size = shape
        row, bag, counts = _entries(place, widths)
        if not len(row):
            return grad.new_zeros(size, grad.shape[2])
        scaled = grad.flatten(0, 1) / counts.clamp(min=1).unsqueeze(1)
        bag = bag.index_select(0, row.int().argsort())
        named = row.new_zeros(size).scatter_add_(0, row.long(), torch.ones_like(row))  # bincount would ask the device for the largest
        spread: Tensor = nn.functional.embedding_bag(bag, scaled, _starts(named), mode="sum")
        return spread

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor, Shape], output: Tensor) -> None:
        _, place, (ctx.widths, _) = inputs  # type: ignore[attr-defined]
        ctx.save_for_backward(place)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        (place,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return _mean(grad, place, ctx.widths), None, None  # type: ignore[attr-defined]

    @staticmethod
    def vmap(info: object, dims: Dims, *inputs: object) -> tuple[Tensor, int]:
        times, (grad, place, (widths, size)) = _times(info), cast(tuple[Tensor, Tensor, Shape], inputs)
        grads, places = _batched(grad, dims[0], times), _batched(place, dims[1], times)
        spread = _spread(grads.flatten(0, 1), _shifted(places, size), (widths, times * size))
        return spread.view(times, size, -1), 0


def _mean(table: Tensor, place: Tensor, widths: Widths) -> Tensor:
    mean: Tensor = _Mean.apply(table, place, widths)  # type: ignore[no-untyped-call]
    return mean


def _spread(grad: Tensor, place: Tensor, shape: Shape) -> Tensor:
    spread: Tensor = _Spread.apply(grad, place, shape)  # type: ignore[no-untyped-call]
    return spread


def _times(info: object) -> int:
    size: int = info.batch_size  # type: ignore[attr-defined]
    return size


def _batched(x: Tensor, dim: object, size: int) -> Tensor:
    return x.movedim(dim, 0) if isinstance(dim, int) else x.expand(size, *x.shape)


def _shifted(places: Int[Tensor, "times rows slots"], size: int) -> Int[Tensor, "all slots"]:
    """Places in `times` tables of `size` rows, one under the other."""
    shift = torch.arange(len(places), device=places.device, dtype=places.dtype)[:, None, None] * size
    return torch.where(places < 0, places, places + shift).flatten(0, 1)
