"""Every interaction against its equation in plain loops over rows, views, fields and numbers."""

from __future__ import annotations

import math

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


def normal(x: Row) -> Row:
    mean = sum(x) / len(x)
    spread = math.sqrt(sum((one - mean) ** 2 for one in x) / len(x) + 1e-5)
    return [(one - mean) / spread for one in x]


def affine(x: Row, gain: Row, shift: Row) -> Row:
    return [a * b + c for a, b, c in zip(x, gain, shift, strict=True)]


def plus(x: Row, bias: Row) -> Row:
    return [a + b for a, b in zip(x, bias, strict=True)]


def test_masknet() -> None:
    interact = made("masknet", InteractSizes(layers=2, hidden=5))
    own = {key: parameter.tolist() for key, parameter in interact.named_parameters()}
    expected = []
    for row in range(len(X)):
        views = []
        for view in range(VIEWS):
            e = fields_of(row, view)
            gains, shifts = own["gains.0"][view][0], own["shifts.0"][view][0]
            even = flat([affine(normal(field), gain, shift) for field, gain, shift in zip(e, gains, shifts, strict=True)])
            said: Row = []
            for block in range(2):
                first, second, last = (own[f"weights.{step}"][view][block] for step in range(3))
                inner = [max(one, 0.0) for one in plus(product(flat(e), first), own["biases.0"][view][block][0])]
                mask = plus(product(inner, second), own["biases.1"][view][block][0])
                out = normal(product([a * b for a, b in zip(mask, even, strict=True)], last))
                said += [max(one, 0.0) for one in affine(out, own["gains.1"][view][block][0], own["shifts.1"][view][block][0])]
            views.append(said)
        expected.append(views)
    compare(interact, expected)


@pytest.mark.parametrize("heads", [1, 2])
def test_autoint(heads: int) -> None:
    interact = made("autoint", InteractSizes(layers=2, heads=heads))
    own = {key: parameter.tolist() for key, parameter in interact.named_parameters()}
    expected = []
    for row in range(len(X)):
        views = []
        for view in range(VIEWS):
            met = fields_of(row, view)
            for layer in range(2):
                names = (f"attentions.{layer}.{kind}" for kind in ("query", "key", "value"))
                query, key, value = ([head_of(own[name][view], head) for head in range(heads)] for name in names)
                said = []
                for field in met:
                    row_said: Row = []
                    for head in range(heads):
                        asked = product(field, query[head])
                        scores = [sum(a * b for a, b in zip(asked, product(other, key[head]), strict=True)) for other in met]
                        shares = [math.exp(one) / sum(map(math.exp, scores)) for one in scores]
                        values = [product(other, value[head]) for other in met]
                        row_said += [sum(a * one[d] for a, one in zip(shares, values, strict=True)) for d in range(DIM // heads)]
                    said.append([max(one, 0.0) for one in plus(row_said, product(field, own[f"weights.{layer}"][view]))])
                met = said
            views.append(flat(met))
        expected.append(views)
    compare(interact, expected)


def head_of(weight: list[list[Row]], head: int) -> list[Row]:
    """One head's matrix of a weight `dim heads width`."""
    return [of_input[head] for of_input in weight]
