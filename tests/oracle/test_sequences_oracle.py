"""Every sequence encoder against its equation in plain loops over rows, lists, views and entries."""

from __future__ import annotations

from collections.abc import Callable

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
