"""Every interaction against its equation in plain loops over rows, views, fields and numbers."""

from __future__ import annotations

import pytest
import torch

from umbel.nn.interact import INTERACTS, Interact, InteractSizes

Row = list[float]
VIEWS, FIELDS, DIM = 2, 3, 4
X = torch.randn(5, VIEWS, FIELDS, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def made(name: str, sizes: InteractSizes) -> Interact:
    interact = INTERACTS[name](sizes)((VIEWS, FIELDS, DIM)).double()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in interact.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    return interact


def weights(interact: Interact, name: str, view: int) -> list[list[Row]]:
    """A list of parameters, one view of each, as lists."""
    owned = interact.get_submodule(name)
    return [parameter[view].tolist() for parameter in owned.parameters()]


def product(x: Row, matrix: list[Row]) -> Row:
    """`x' M`."""
    return [sum(one * row[out] for one, row in zip(x, matrix, strict=True)) for out in range(len(matrix[0]))]


def fields_of(row: int, view: int) -> list[Row]:
    found: list[Row] = X[row, view].tolist()
    return found


def flat(fields: list[Row]) -> Row:
    return [number for field in fields for number in field]


def compare(interact: Interact, expected: list[list[Row]]) -> None:
    """`expected[row][view]`."""
    for view, found in enumerate(interact(X)):
        torch.testing.assert_close(found, torch.tensor([row[view] for row in expected], dtype=torch.float64), atol=1e-12, rtol=1e-10)


def test_fm() -> None:
    expected = []
    for row in range(len(X)):
        views = []
        for view in range(VIEWS):
            e = fields_of(row, view)
            pairs = [(i, j) for i in range(FIELDS) for j in range(i + 1, FIELDS)]
            views.append(flat(e) + [sum(e[i][d] * e[j][d] for i, j in pairs) for d in range(DIM)])
        expected.append(views)
    compare(made("fm", InteractSizes()), expected)


@pytest.mark.parametrize("rank", [None, 2])
def test_dcn(rank: int | None) -> None:
    interact = made("dcn", InteractSizes(layers=3, rank=rank))
    expected = []
    for row in range(len(X)):
        views = []
        for view in range(VIEWS):
            maps, biases = weights(interact, "weights", view), weights(interact, "biases", view)
            first = crossed = flat(fields_of(row, view))
            for layer in range(3):
                own = maps[layer:layer + 1] if rank is None else maps[2 * layer:2 * layer + 2]
                through = crossed
                for matrix in own:
                    through = product(through, matrix)
                crossed = [a * (b + c) + d for a, b, c, d in zip(first, through, biases[layer][0], crossed, strict=True)]
            views.append(crossed)
        expected.append(views)
    compare(interact, expected)
