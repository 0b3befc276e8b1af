"""Dropout: how many are spared and by how much they grow, on the quick road and on torch's; banks that drop, against plain layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from umbel.nn import drop
from umbel.nn.bank import Block
from umbel.nn.drop import chance, dropped, spared

SHARES = (0.1, 0.4, 0.5, 0.9)


@pytest.fixture(params=["bits", "torch"])
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(drop, "quick", lambda x: False)
    return str(request.param)


@pytest.mark.parametrize("share", SHARES)
def test_a_share_is_dropped_and_the_mean_stays(road: str, share: float) -> None:
    torch.manual_seed(0)
    x = dropped(torch.ones(400, 501), share, training=True)
    kept = x[x != 0]
    assert 1 - kept.numel() / x.numel() == pytest.approx(share, abs=0.005)
    assert sorted(set(kept.tolist())) == pytest.approx([1 / (1 - share)], rel=1e-4)
    assert x.mean().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("share", SHARES)
def test_places_are_drawn_independently(road: str, share: float) -> None:
    """Four neighbours come from one draw of 64 bits: no pair of them agrees more often than chance, nor do two calls."""
    torch.manual_seed(1)
    one, again = chance(torch.empty(100_000, 4), share), chance(torch.empty(100_000, 4), share)
    for first, second in [(one[:, a], one[:, b]) for a in range(4) for b in range(a)] + [(one[:, 0], again[:, 0])]:
        assert (first & second).double().mean().item() == pytest.approx(share**2, abs=0.006)


@pytest.mark.parametrize("shape", [(), (1,), (3, 1), (2, 3, 5), (0, 4), (7,)])
def test_any_shape(road: str, shape: tuple[int, ...]) -> None:
    assert chance(torch.empty(shape), 0.5).shape == shape
    assert dropped(torch.ones(shape), 0.5, training=True).shape == shape


@pytest.mark.parametrize(("share", "left"), [(0.0, 1.0), (1.0, 0.0)])
def test_none_and_all(road: str, share: float, left: float) -> None:
    assert set(dropped(torch.ones(50), share, training=True).tolist()) == {left}


def test_nothing_is_dropped_in_evaluation(road: str) -> None:
    x = torch.ones(50)
    assert dropped(x, 0.5, training=False) is x


def test_one_seed_drops_the_same(road: str) -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(4)
        drawn.append(dropped(torch.ones(99), 0.3, training=True))
    assert torch.equal(*drawn)


def test_a_gradient_passes_where_a_number_passed(road: str) -> None:
    x = torch.ones(1000, requires_grad=True)
    y = dropped(x, 0.4, training=True)
    torch.autograd.backward(y.sum())
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


def test_halves_keep_their_type() -> None:
    assert spared(torch.ones(8, dtype=torch.bfloat16), 0.5).dtype is torch.bfloat16


def test_a_mapped_function_drops_as_torch_does() -> None:
    """Drawn bits cannot be mapped over; then torch draws."""
    torch.manual_seed(5)
    found = vmap(lambda x: dropped(x, 0.5, training=True), randomness="different")(torch.ones(40, 50))
    assert set(found.flatten().tolist()) == {0.0, 2.0}
    assert not torch.equal(found[0], found[1])


def block(linear: bool) -> Block:
    torch.manual_seed(6)
    made = Block(3, (5, 6, 4, 2), linear=linear, dropout=0.4)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def outcome(made: Block, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The output, its gradients, and the gradients of their squares."""
    torch.manual_seed(7)
    given = x.clone().requires_grad_()
    y = made(given)
    leaves = [given, *made.parameters()]
    first = torch.autograd.grad(y.square().sum(), leaves, create_graph=True)
    second = torch.autograd.grad(torch.stack([one.square().sum() for one in first]).sum(), leaves)
    return y.detach(), tuple(one.detach() for one in first), second


@pytest.mark.parametrize("linear", [False, True])
def test_banks_that_drop_are_plain_layers(linear: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One node of the graph or layer by layer: the same draws, outputs, gradients and gradients of gradients."""
    x = torch.randn(9, 5, generator=torch.Generator().manual_seed(8))
    fast = outcome(block(linear), x)
    monkeypatch.setattr("umbel.nn.bank.worth", lambda x: False)
    plain = outcome(block(linear), x)
    torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-5)
    assert bool((fast[0] == 0).any()) is not linear


def test_plain_gradients_are_those_of_the_graph() -> None:
    """Without a graph of the gradients they are computed by hand."""
    made, x = block(False), torch.randn(9, 5)
    _, graphed, _ = outcome(made, x)
    torch.manual_seed(7)
    given = x.clone().requires_grad_()
    torch.autograd.backward(made(given).square().sum())
    for own, other in zip([given, *made.parameters()], graphed, strict=True):
        assert own.grad is not None
        torch.testing.assert_close(own.grad, other, atol=1e-4, rtol=1e-5)
