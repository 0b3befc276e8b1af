"""Every sequence encoder against its equation in plain loops over rows, lists, views and entries."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from umbel.nn.sequence import SEQUENCES, Listing, SequenceSizes
from umbel.nn.sequence.read import Read

Row = list[float]
Summary = Callable[[int, list[Row], Row], Row]  # of a batch's entries and target
VIEWS, DIM, HIDDEN, CODES = 2, 4, 3, 7
LISTS = (Listing("a", 1, 4, 0, ordered=True), Listing("b", 5, 2, 0, ordered=True))
DRAW = torch.Generator().manual_seed(0)
TABLE = torch.randn(CODES, VIEWS * DIM, generator=DRAW, dtype=torch.float64)
PLACE = torch.randint(-1, CODES, (12, 7), generator=DRAW).clamp(min=-1)
PLACE[:, 0].clamp_(min=0)


def made(name: str, sizes: SequenceSizes) -> Read:
    encoder = SEQUENCES[name](sizes)(LISTS, (VIEWS, DIM)).double()
    assert isinstance(encoder, Read)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=DRAW, dtype=torch.float64))
    return encoder


def piece(code: int, view: int) -> Row:
    found: Row = TABLE[code, view * DIM:(view + 1) * DIM].tolist()
    return found


def expected(summary: Summary) -> Tensor:
    """`summary` of every list of every row in every view; zeros where nothing is known."""
    rows = []
    for codes in PLACE.tolist():
        lists = []
        for number, one in enumerate(LISTS):
            known = [code for code in codes[one.start:one.start + one.length] if code >= 0]
            views = []
            for view in range(VIEWS):
                batch = view * len(LISTS) + number
                entries = [piece(code, view) for code in known]
                views.append(summary(batch, entries, piece(codes[0], view)) if entries else [0.0] * DIM)
            lists.append(views)
        rows.append(lists)
    return torch.tensor(rows, dtype=torch.float64)


def test_din() -> None:
    """The activation unit as the paper draws it: entry, target and their product side by side into a hidden layer."""
    encoder = made("din", SequenceSizes(hidden=HIDDEN))
    weights = {name.removeprefix("reader."): parameter.tolist() for name, parameter in encoder.named_parameters()}

    def weight(batch: int, entry: Row, target: Row) -> float:
        total = weights["biases.1"][batch][0][0]
        for unit in range(HIDDEN):
            inner = weights["biases.0"][batch][0][unit]
            for d in range(DIM):
                inner += weights["own"][batch][d][unit] * entry[d]
                inner += weights["against"][batch][d][unit] * target[d]
                inner += weights["product"][batch][d][unit] * entry[d] * target[d]
            total += weights["last"][batch][unit][0] * max(inner, 0.0)
        return float(total)

    def summary(batch: int, entries: list[Row], target: Row) -> Row:
        own = [weight(batch, entry, target) for entry in entries]
        return [sum(a * entry[d] for a, entry in zip(own, entries, strict=True)) / len(entries) for d in range(DIM)]

    torch.testing.assert_close(encoder(TABLE, PLACE), expected(summary), atol=1e-12, rtol=1e-10)


def product(x: Row, matrix: list[Row]) -> Row:
    """`x' M`."""
    return [sum(one * row[out] for one, row in zip(x, matrix, strict=True)) for out in range(len(matrix[0]))]


def plus(x: Row, y: Row) -> Row:
    return [a + b for a, b in zip(x, y, strict=True)]


def even(x: Row, gain: Row, shift: Row) -> Row:
    mean = sum(x) / len(x)
    spread = math.sqrt(sum((one - mean) ** 2 for one in x) / len(x) + 1e-5)
    return [(one - mean) / spread * a + b for one, a, b in zip(x, gain, shift, strict=True)]


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (1, 2), (2, 1), (3, 4)])
def test_sasrec(layers: int, heads: int) -> None:
    """Every state of every block, though the last one alone is read."""
    encoder = made("sasrec", SequenceSizes(layers=layers, heads=heads))
    weights = {name.removeprefix("reader."): parameter.tolist() for name, parameter in encoder.named_parameters()}
    width = DIM // heads

    def attend(prefix: str, batch: int, states: list[Row]) -> list[Row]:
        query, key, value = (weights[f"{prefix}attention.{name}"][batch] for name in ("query", "key", "value"))
        said = []
        for place, state in enumerate(states):
            row: Row = []
            for head in range(heads):
                q, k, v = ([of_input[head] for of_input in matrix] for matrix in (query, key, value))
                asked = product(state, q)
                scores = [sum(a * b for a, b in zip(asked, product(other, k), strict=True)) for other in states[:place + 1]]
                shares = [math.exp(one / math.sqrt(width)) for one in scores]
                heard = [product(other, v) for other in states[:place + 1]]
                row += [sum(a * one[d] for a, one in zip(shares, heard, strict=True)) / sum(shares) for d in range(width)]
            said.append(row)
        return said

    def block(number: int, batch: int, states: list[Row]) -> list[Row]:
        prefix = f"blocks.{number}."
        norms = [[weights[f"{prefix}{kind}.{which}"][batch][0][0] for which in (0, 1)] for kind in ("gains", "shifts", "biases")]
        gains, shifts, biases = norms
        heard = attend(prefix, batch, [even(state, gains[0], shifts[0]) for state in states])
        met = [plus(state, one) for state, one in zip(states, heard, strict=True)]
        found = []
        for state in met:
            inner = plus(product(even(state, gains[1], shifts[1]), weights[f"{prefix}weights.0"][batch]), biases[0])
            out = plus(product([max(one, 0.0) for one in inner], weights[f"{prefix}weights.1"][batch]), biases[1])
            found.append(plus(state, out))
        return found

    def summary(batch: int, entries: list[Row], target: Row) -> Row:
        view, number = divmod(batch, len(LISTS))
        positions = weights[f"positions.{number}"][view]
        states = [plus(entry, positions[len(entries) - 1 - place]) for place, entry in enumerate(entries)]
        for layer in range(layers):
            states = block(layer, batch, states)
        return states[-1]

    torch.testing.assert_close(encoder(TABLE, PLACE), expected(summary), atol=1e-10, rtol=1e-8)
