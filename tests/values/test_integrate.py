"""The way from a baseline to a row, piece by piece, where every number is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from umbel.study.explain import integrate as module
from umbel.study.explain.integrate import Pieces, Undetached, Way, integrate


def row(*values: float) -> Tensor:
    """One row of one view whose fields are single numbers."""
    return torch.tensor(values, dtype=torch.float64).view(1, 1, -1, 1)


def bent(x: Tensor) -> Tensor:
    """`relu(a + b - 1)` and `a b`."""
    a, b = x[:, 0, :, 0].unbind(1)
    return torch.stack([(a + b - 1).relu(), a * b], 1)


def test_values_and_slopes_on_the_way() -> None:
    """From (0, 0) to (1, 1): at a quarter, f is 0 and 1/16; only the product rises, by a quarter for each field."""
    way = Way(bent, row(0, 0)[0], row(1, 1))
    at = torch.tensor([0.25, 0.75], dtype=torch.float64)
    rows = torch.tensor([0, 0])
    assert way.value(rows, at).tolist() == [[0.0, 0.0625], [0.5, 0.5625]]
    assert way.slopes(rows, at).tolist() == [[[0.0, 0.0], [0.25, 0.25]], [[1.0, 1.0], [0.75, 0.75]]]


def test_a_piece_knows_what_it_misses() -> None:
    """Two nodes are exact for a line and a product; on the piece with the kink in its middle both nodes stand on one side each."""
    way = Way(bent, row(0, 0)[0], row(1, 1))
    ends = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    values = torch.stack([way.value(torch.tensor([0]), ends[:, end]) for end in (0, 1)], 1)
    whole = way.walked(torch.tensor([0]), ends, values)
    assert whole.parts.tolist() == [[[pytest.approx(0.5)] * 2, [pytest.approx(0.5)] * 2]]
    assert whole.missed.abs().max() < 1e-12
    ends = torch.tensor([[0.0, 0.6]], dtype=torch.float64)
    values = torch.stack([way.value(torch.tensor([0]), ends[:, end]) for end in (0, 1)], 1)
    part = way.walked(torch.tensor([0]), ends, values)
    assert part.missed[0, 0] == pytest.approx(-0.2)
    assert part.missed[0, 1] == pytest.approx(0.0, abs=1e-12)


def test_halves_are_the_whole() -> None:
    way = Way(bent, row(0, 0)[0], row(1, 1))
    ends = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    values = torch.stack([way.value(torch.tensor([0]), ends[:, end]) for end in (0, 1)], 1)
    halves = way.halves(way.walked(torch.tensor([0]), ends, values))
    assert halves.ends.tolist() == [[0.0, 0.5], [0.5, 1.0]]
    assert halves.values.tolist() == [[[0.0, 0.0], [0.0, 0.25]], [[0.0, 0.25], [1.0, 1.0]]]
    assert halves.row.tolist() == [0, 0]


def pieces() -> Pieces:
    """Two pieces of row 0, one of which misses .5, and one of row 1, which misses nothing; one column, one field."""
    values = torch.tensor([[[0.0], [1.0]], [[1.0], [2.0]], [[0.0], [4.0]]], dtype=torch.float64)
    parts = torch.tensor([[[1.5]], [[1.0]], [[4.0]]], dtype=torch.float64)
    ends = torch.tensor([[0.0, 0.5], [0.5, 1.0], [0.0, 1.0]], dtype=torch.float64)
    return Pieces(torch.tensor([0, 0, 1]), ends, values, parts)


def test_pieces_that_miss_most_are_halved() -> None:
    change = torch.tensor([[2.0], [4.0]], dtype=torch.float64)
    assert pieces().missed.tolist() == [[0.5], [0.0], [0.0]]
    assert pieces().wrong(change).tolist() == [True, False, False]
    assert pieces().total(pieces().parts, 2).tolist() == [[[2.5]], [[4.0]]]


def test_errors_that_cancel_do_not_hide() -> None:
    """.5 too much on one piece and .5 too little on the other: the sum comes out, and both pieces are halved all the same."""
    one = pieces()
    parts = one.parts.clone()
    parts[1] = 0.5
    other = Pieces(one.row, one.ends, one.values, parts)
    change = torch.tensor([[2.0], [4.0]], dtype=torch.float64)
    assert other.total(other.parts, 2)[0].item() == 2.0
    assert other.wrong(change).tolist() == [True, True, False]


def test_some_pieces_and_pieces_beside_others() -> None:
    one = pieces()
    first, rest = one.at(torch.tensor([True, False, False])), one.at(torch.tensor([False, True, True]))
    both = rest.beside(first)
    assert both.row.tolist() == [0, 1, 0]
    assert both.parts.flatten().tolist() == [1.0, 4.0, 1.5]
    assert both.ends[-1].tolist() == [0.0, 0.5]


def test_a_kink_anywhere_is_found() -> None:
    """`relu(x - k)` from 0 to 1 adds `1 - k`, whatever k, and the miss is what is promised."""
    for kink in (0.001, 0.1, 1 / 3, 0.5, 0.77, 0.999):
        found = integrate(lambda x, kink=kink: (x.sum((1, 2, 3)) - kink).relu().unsqueeze(1), row(1.0), row(0.0)[0])  # type: ignore[misc]
        assert found.change.item() == pytest.approx(1 - kink)
        assert found.contributions.item() == pytest.approx(1 - kink, rel=1e-3)


def test_smooth_functions_need_no_halving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUNDS", 0)
    found = integrate(lambda x: x.exp().sum((1, 2, 3)).unsqueeze(1), row(0.5, -1.0), row(0.0, 0.0)[0])
    expected = torch.tensor([0.5, -1.0], dtype=torch.float64).exp() - 1
    torch.testing.assert_close(found.contributions[0, 0], expected, atol=1e-6, rtol=0)


def test_points_are_asked_for_in_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more points at a time than memory is meant for, to the same answer."""
    sizes = []

    def counted(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return bent(x)

    x, base = torch.rand(5, 1, 2, 1, dtype=torch.float64), row(0, 0)[0]
    whole = integrate(bent, x, base).contributions
    monkeypatch.setattr(module, "ASKED", 7)
    assert torch.equal(integrate(counted, x, base).contributions, whole)
    assert max(sizes) == 7


def test_views_and_widths_are_summed() -> None:
    """A field's contribution is over all its numbers in all views: 2 views x 3 numbers of slope 1, moved by 1, come to 6."""
    x, base = torch.ones(1, 2, 4, 3, dtype=torch.float64), torch.zeros(2, 4, 3, dtype=torch.float64)
    found = integrate(lambda x: x.sum((1, 2, 3)).unsqueeze(1), x, base)
    assert found.contributions[0, 0].tolist() == [pytest.approx(6.0)] * 4


def test_detach_detaches_nothing_only_while_entered() -> None:
    x = torch.tensor([2.0], requires_grad=True)

    def gradient() -> float:
        y = x * 3 * x.detach() * torch.detach(x)
        return float(torch.autograd.grad(y.sum(), x)[0])

    assert gradient() == 12.0
    with Undetached():
        assert gradient() == 36.0
        assert torch.nn.functional.dropout(x, 0.5, training=False).item() == 2.0
        assert torch.sum(torch.ones(2, 3), dim=1, keepdim=True).shape == (2, 1)
    assert gradient() == 12.0


def test_where_nothing_moves_nothing_is_added() -> None:
    """A constant f, and a row at the baseline."""
    still = integrate(lambda x: x.new_ones(len(x), 2) + 0 * x.sum((1, 2, 3)).unsqueeze(1), row(1.0, 2.0), row(0.0, 0.0)[0])
    assert not still.contributions.any()
    assert not still.change.any()
    there = integrate(bent, row(0.3, 0.4), row(0.3, 0.4)[0])
    assert not there.contributions.any()
