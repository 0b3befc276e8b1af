"""Stacked MLPs against MLPs one by one, in small numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from umbel.nn.bank import Bank, Block, Fan, Part, xavier_


def set_all(module: torch.nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)


def own(module: Bank | Fan, member: int) -> list[tuple[Tensor, Tensor]]:
    """One member's layers as (weight out x in, bias)."""
    named = dict(module.named_parameters())
    pieces = [part.of(named) for part in module.parts(member)]
    layers = []
    for weight, bias in zip(pieces[::2], pieces[1::2], strict=True):
        layers.append((weight if weight.ndim == 2 else weight[0].T, bias.flatten()))
    return layers


def plain(layers: list[tuple[Tensor, Tensor]], x: Tensor, *, linear: bool) -> Tensor:
    for level, (weight, bias) in enumerate(layers):
        x = x @ weight.T + bias
        if not (linear and level == len(layers) - 1):
            x = x.clamp(min=0)
    return x


def test_one_layer_by_hand() -> None:
    block = Block(2, (2, 1), linear=False, dropout=0.0)
    with torch.no_grad():
        block.weights[0].copy_(torch.tensor([[1.0, 2.0], [-1.0, 1.0]]))
        block.biases[0].copy_(torch.tensor([0.5, 0.0]))
    assert block(torch.tensor([[1.0, 1.0], [2.0, 1.0]])).tolist() == [[[3.5], [4.5]], [[0.0], [0.0]]]


def test_two_layers_by_hand() -> None:
    block = Block(1, (1, 2, 1), linear=True, dropout=0.0)
    with torch.no_grad():
        block.weights[0].copy_(torch.tensor([[1.0], [-1.0]]))
        block.weights[1].copy_(torch.tensor([[[2.0], [3.0]]]))
        block.biases[1].fill_(-1.0)
    assert block(torch.tensor([[1.0], [-2.0]])).flatten().tolist() == [1.0, 5.0]


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("widths", [(4, 3), (4, 5, 3), (4, 6, 5, 2)])
@pytest.mark.parametrize("reads", [(0,), (0, 0, 0), (0, 1, 2), (1, 0, 1, 2, 0)])
def test_a_bank_is_its_members(reads: tuple[int, ...], widths: tuple[int, ...], linear: bool) -> None:
    torch.manual_seed(0)
    bank = Bank(reads, widths, linear=linear)
    for parameter in bank.parameters():
        torch.nn.init.normal_(parameter)
    inputs = tuple(torch.randn(7, 4) for _ in range(3))
    outputs = dict(zip(bank.order, [one for block in bank(inputs) for one in block], strict=True))
    for member, read in enumerate(reads):
        torch.testing.assert_close(outputs[member], plain(own(bank, member), inputs[read], linear=linear), atol=1e-5, rtol=1e-5)


def test_members_of_one_input_share_one_product() -> None:
    bank = Bank((0, 1, 0, 0), (4, 8, 2))
    assert [tuple(block.get_parameter("weights.0").shape) for block in bank.blocks] == [(24, 4), (8, 4)]
    assert bank.order == (0, 2, 3, 1)


@pytest.mark.parametrize("inner", [(4,), (4, 5)])
def test_a_fan_is_its_members(inner: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    fan = Fan((0, 1, 0, 1, 1), inner, lasts=(3, 1, 1, 3, 2))
    for parameter in fan.parameters():
        torch.nn.init.normal_(parameter)
    inputs = (torch.randn(6, 4), torch.randn(6, 4))
    outputs = fan(inputs)
    assert [output.shape[1] for output in outputs] == [3, 1, 1, 3, 2]
    for member, read in enumerate((0, 1, 0, 1, 1)):
        torch.testing.assert_close(outputs[member], plain(own(fan, member), inputs[read], linear=True), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("module", [Bank((0, 1, 0), (4, 5, 2)), Fan((0, 0, 1), (4, 5), lasts=(2, 1, 2))])
def test_parts_cover_a_bank_once(module: Bank | Fan) -> None:
    counts = {name: torch.zeros_like(parameter) for name, parameter in module.named_parameters()}
    for member in range(3):
        for part in module.parts(member):
            part.of(counts).add_(1)
    assert all(bool((count == 1).all()) for count in counts.values())


@pytest.mark.parametrize("module", [Bank((0, 1, 0), (4, 5, 2)), Fan((0, 0, 1), (4, 5), lasts=(2, 1, 2))])
def test_there_is_no_member_beyond_the_last(module: Bank | Fan) -> None:
    with pytest.raises(IndexError):
        module.parts(3)


def test_a_part_is_a_view() -> None:
    tensors = {"a.w": torch.zeros(4, 2)}
    Part("w", (slice(1, 2),)).under("a").of(tensors).fill_(1.0)
    assert tensors["a.w"].tolist() == [[0, 0], [1, 1], [0, 0], [0, 0]]


def test_initial_spread_knows_one_member_only() -> None:
    """Xavier over one expert's matrix, not over the wide one that holds eight."""
    torch.manual_seed(2)
    block = Block(8, (200, 100, 50), linear=False, dropout=0.0)
    assert block.weights[0].std().item() == pytest.approx(math.sqrt(2 / 300), rel=0.02)
    assert block.weights[1].std().item() == pytest.approx(math.sqrt(2 / 150), rel=0.02)
    assert not any(bool(bias.any()) for bias in block.biases)


def test_xavier_by_hand() -> None:
    torch.manual_seed(3)
    assert xavier_(torch.empty(1000, 1000), (3, 5)).std().item() == pytest.approx(0.5, rel=0.01)


def test_dropout_follows_hidden_layers_only() -> None:
    torch.manual_seed(4)
    block = Block(1, (1, 400, 1), linear=True, dropout=0.5)
    set_all(block, 1.0)
    wild = torch.stack([block(torch.ones(1, 1)) for _ in range(20)])
    assert wild.std() > 1.0
    assert wild.mean().item() == pytest.approx(801.0, rel=0.05)
    assert block.eval()(torch.ones(1, 1)).item() == 801.0
    single = Block(1, (1, 1), linear=True, dropout=0.5)
    set_all(single, 1.0)
    assert single(torch.ones(3, 1)).flatten().tolist() == [2.0, 2.0, 2.0]


def test_half_precision_goes_member_by_member_to_the_same_end() -> None:
    torch.manual_seed(0)
    bank = Bank((0, 1, 0), (6, 8, 5, 4))
    inputs = torch.randn(7, 6), torch.randn(7, 6)
    full = torch.cat(bank(inputs))
    torch.autograd.backward(full.sum())
    gradients = [parameter.grad.clone() for parameter in bank.parameters() if parameter.grad is not None]
    bank.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        half = torch.cat(bank(inputs))
    torch.autograd.backward(half.float().sum())
    assert half.dtype is torch.bfloat16
    torch.testing.assert_close(half.float(), full, rtol=0.05, atol=0.02)
    for parameter, gradient in zip(bank.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, rtol=0.05, atol=0.1)
