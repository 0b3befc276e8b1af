"""Means of padded lists against the formula, and their derivatives of both orders."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from umbel.nn.pool import mean_rows

DRAW = torch.Generator().manual_seed(0)
TABLE = torch.randn(9, 4, generator=DRAW, dtype=torch.float64)
PLACE = torch.randint(-1, 9, (6, 7), generator=DRAW)
PLACE[1] = -1
WIDTHS = (4, 2, 1)


def looped(table: Tensor, place: Tensor, widths: tuple[int, ...]) -> Tensor:
    """One list after the other."""
    rows = []
    for row in place.tolist():
        start, lists = 0, []
        for width in widths:
            own = [code for code in row[start:start + width] if code >= 0]
            lists.append(table[own].mean(0) if own else torch.zeros(table.shape[1], dtype=table.dtype))
            start += width
        rows.append(torch.stack(lists))
    return torch.stack(rows)


def test_by_hand() -> None:
    table = torch.tensor([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]])
    place = torch.tensor([[0, 2, -1], [-1, -1, 1], [1, 1, 0]])
    assert mean_rows(table, place, (2, 1)).tolist() == [
        [[3.5, 35.0], [0.0, 0.0]], [[0.0, 0.0], [2.0, 20.0]], [[2.0, 20.0], [1.0, 10.0]],
    ]


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
def test_against_a_loop(kind: torch.dtype) -> None:
    torch.testing.assert_close(mean_rows(TABLE, PLACE.to(kind), WIDTHS), looped(TABLE, PLACE, WIDTHS))


def test_the_gradient_by_hand() -> None:
    table = torch.zeros(4, 1, requires_grad=True)
    place = torch.tensor([[0, 2, 2, -1], [2, -1, -1, -1], [-1, -1, -1, -1]])
    (found,) = torch.autograd.grad(mean_rows(table, place, (4,)).flatten() @ torch.tensor([3.0, 5.0, 7.0]), table)
    assert found.flatten().tolist() == [1.0, 0.0, 7.0, 0.0]


def test_derivatives_of_both_orders() -> None:
    table = TABLE.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mean_rows(x, PLACE, WIDTHS), table)
    assert torch.autograd.gradgradcheck(lambda x: mean_rows(x, PLACE, WIDTHS), table)


@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_but_padding(rows: int) -> None:
    table = torch.ones(5, 2, requires_grad=True)
    found = mean_rows(table, torch.full((rows, 7), -1), WIDTHS)
    assert found.shape == (rows, 3, 2)
    assert not found.any()
    assert not torch.autograd.grad(found.sum(), table)[0].any()


def test_a_row_that_no_list_names_gets_exactly_nothing() -> None:
    table = torch.randn(50, 3, generator=DRAW, requires_grad=True)
    (found,) = torch.autograd.grad(mean_rows(table, PLACE, WIDTHS).sum(), table)
    assert not found[9:].any()
    assert not table[9:].isnan().any()


def test_padding_keeps_bad_numbers_out() -> None:
    """Row 0 is not what padding reads: its infinity stays its own."""
    table = torch.tensor([[torch.inf], [1.0]])
    assert mean_rows(table, torch.tensor([[1, -1]]), (2,)).item() == 1.0


@pytest.mark.parametrize("dims", [(0, 0), (None, 0), (0, None)])
def test_batched_is_looped(dims: tuple[int | None, int | None]) -> None:
    tables, places = torch.randn(3, 9, 4, generator=DRAW), torch.randint(-1, 9, (3, 6, 7), generator=DRAW)
    first = tables if dims[0] == 0 else tables[0]
    second = places if dims[1] == 0 else places[0]
    found = torch.func.vmap(lambda a, b: mean_rows(a, b, WIDTHS), in_dims=dims)(first, second)
    for one in range(3):
        expected = mean_rows(first[one] if dims[0] == 0 else first, second[one] if dims[1] == 0 else second, WIDTHS)
        torch.testing.assert_close(found[one], expected)


@pytest.mark.parametrize("dims", [(0, 0), (None, 0)])
def test_batched_gradients_are_looped_gradients(dims: tuple[int | None, int | None]) -> None:
    tables, places = torch.randn(3, 9, 4, generator=DRAW), torch.randint(-1, 9, (3, 6, 7), generator=DRAW)
    gradient = torch.func.grad(lambda a, b: mean_rows(a, b, WIDTHS).square().sum())
    found = torch.func.vmap(gradient, in_dims=dims)(tables if dims[0] == 0 else tables[0], places)
    for one in range(3):
        torch.testing.assert_close(found[one], gradient(tables[one] if dims[0] == 0 else tables[0], places[one]))


def test_batched_over_another_axis() -> None:
    tables = torch.randn(9, 3, 4, generator=DRAW)
    found = torch.func.vmap(lambda a: mean_rows(a, PLACE, WIDTHS), in_dims=1)(tables)
    torch.testing.assert_close(found[2], mean_rows(tables[:, 2].contiguous(), PLACE, WIDTHS))


def test_memory_is_that_of_the_lists_not_of_the_slots() -> None:
    """2,000 rows x 100 slots x 64 numbers would be 51 MB; no tensor saved for the backward pass is a tenth of it."""
    table = torch.randn(300, 64, generator=DRAW, requires_grad=True)
    place = torch.randint(0, 300, (2_000, 100), generator=DRAW)
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        mean_rows(table, place, (100,)).sum()
    assert max(sizes) < 5_000_000
