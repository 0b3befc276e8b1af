"""MLPs as one node of the graph, against autograd on the plain formula."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.toys import SCHEMA, SLOTS, batch
from torch import Tensor

from umbel.learn.plan import Plan
from umbel.learn.step import Fast
from umbel.nn import bank
from umbel.nn.bank import Block
from umbel.nn.dense import ONEDNN, worth
from umbel.nn.recommender import Sizes
from umbel.recipes import RECIPES

SHAPES = [(1, (5, 3)), (3, (5, 3)), (1, (5, 7, 2)), (4, (5, 8, 3)), (2, (6, 8, 4, 1))]


Work = Callable[[], list[Tensor]]


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> Callable[[Work], list[Tensor]]:
    """Work without the node."""

    def work(made: Work) -> list[Tensor]:
        with monkeypatch.context() as context:
            context.setattr(bank, "worth", lambda x: False)
            return made()

    return work


def block_of(members: int, widths: tuple[int, ...], *, linear: bool) -> Block:
    torch.manual_seed(len(widths) + members)
    made = Block(members, widths, linear=linear, dropout=0.0)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not ONEDNN, reason="this torch has no oneDNN")
@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize(("members", "widths"), SHAPES)
def test_output_and_gradients_are_those_of_the_formula(
    members: int, widths: tuple[int, ...], linear: bool, plainly: Callable[[Work], list[Tensor]],
) -> None:
    block, x = block_of(members, widths, linear=linear), torch.randn(11, 2, widths[0])[:, 1].requires_grad_()
    up = torch.randn(11, members, widths[-1]).transpose(0, 1)  # rows first in memory, as a mixture gives it

    def made() -> list[Tensor]:
        y = block(x)
        return [y, *torch.autograd.grad(y, [x, *block.parameters()], up)]

    assert worth(x)
    assert type(block(x).grad_fn).__name__ == "_MlpsBackward"
    same(made(), plainly(made))


@pytest.mark.skipif(not ONEDNN, reason="this torch has no oneDNN")
def test_relu_cuts_every_hidden_layer() -> None:
    block = Block(2, (1, 1, 1), linear=True, dropout=0.0)
    with torch.no_grad():
        block.weights[0].copy_(torch.tensor([[2.0], [-2.0]]))
        block.weights[1].copy_(torch.tensor([[[3.0]], [[5.0]]]))
    x = torch.tensor([[1.0], [-1.0], [0.0]], requires_grad=True)
    block(x).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [6.0, -10.0, 0.0]


def test_a_training_that_diverged_shows() -> None:
    block, x = block_of(2, (4, 6, 2), linear=False), torch.randn(7, 4, requires_grad=True)
    with torch.no_grad():
        block.weights[0][0, 0] = torch.nan
    assert block(x)[0].isnan().all()
    assert not block(x)[1].isnan().any()


@pytest.mark.parametrize("frozen", ["x", "weights.0", "biases.1"])
def test_whoever_asks_for_no_gradient_gets_none(frozen: str, plainly: Callable[[Work], list[Tensor]]) -> None:
    block, x = block_of(2, (5, 4, 3), linear=False), torch.randn(6, 5, requires_grad=True)
    leaves = {"x": x, **dict(block.named_parameters())}
    leaves.pop(frozen).requires_grad = False

    def made() -> list[Tensor]:
        return list(torch.autograd.grad(block(x).square().sum(), list(leaves.values())))

    same(made(), plainly(made))


@pytest.mark.parametrize("frozen", [False, True])
def test_second_derivatives_are_those_of_the_formula(frozen: bool, plainly: Callable[[Work], list[Tensor]]) -> None:
    block, x = block_of(3, (4, 6, 2), linear=False), torch.randn(7, 4, requires_grad=True)
    block.weights[0].requires_grad = not frozen
    leaves = [x, *(one for one in block.parameters() if one.requires_grad)]

    def made() -> list[Tensor]:
        first = torch.autograd.grad(block(x).square().sum(), leaves, create_graph=True)
        return list(torch.autograd.grad(sum((one.square().sum() for one in first), torch.zeros(())), leaves))

    same(made(), plainly(made))


def test_two_backward_passes_see_the_same_graph() -> None:
    block, x = block_of(2, (4, 6, 2), linear=False), torch.randn(7, 4, requires_grad=True)
    y = block(x)
    first = torch.autograd.grad(y[0].sum(), list(block.parameters()), retain_graph=True)
    again = torch.autograd.grad(y[0].sum(), list(block.parameters()), retain_graph=True)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    both = torch.autograd.grad(y.sum(), list(block.parameters()))
    other = torch.autograd.grad(block(x)[1].sum(), list(block.parameters()))
    same([one + two for one, two in zip(first, other, strict=True)], list(both))


def test_where_it_does_not_pay() -> None:
    x = torch.randn(3, 4)
    assert not worth(x.double())
    assert not worth(x.t())
    assert not worth(x[:0])
    with torch.no_grad():
        assert not worth(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not worth(x)
    inside = []
    torch.func.vmap(lambda row: inside.append(worth(row[None])) or row)(x)  # type: ignore[func-returns-value]
    assert inside == [False]


def test_dropout_is_in_the_one_node_too() -> None:
    block, x = Block(2, (4, 3, 2), linear=False, dropout=0.5), torch.randn(5, 4, requires_grad=True)
    assert (type(block(x).grad_fn).__name__ == "_MlpsBackward") is ONEDNN
    assert (type(block.eval()(x).grad_fn).__name__ == "_MlpsBackward") is ONEDNN


@pytest.mark.parametrize("recipe", ["mmoe", "ple", "stem", "shared_bottom"])
def test_a_training_goes_the_same_way(recipe: str, plainly: Callable[[Work], list[Tensor]]) -> None:
    def trained() -> list[Tensor]:
        torch.manual_seed(3)
        model = RECIPES[recipe](SCHEMA, Sizes({"user": 20, "tags": 20}, dim=4, expert=(8, 6), tower=(5,)))
        step = Fast(model, Plan(rate=0.01))
        losses = [step(batch(torch.randint(0, 20, (32, SLOTS)), torch.randint(0, 2, (32, 2)).float())) for _ in range(5)]
        return [*losses, *(parameter.detach() for parameter in model.parameters())]

    same(trained(), plainly(trained))


def test_the_same_training_twice_gives_the_same_bytes() -> None:
    """oneDNN is asked for one sum in one order, whatever lies where in memory."""
    found = []
    for _ in range(2):
        block, x = block_of(3, (33, 17, 5), linear=False), torch.linspace(-1, 1, 129 * 33).view(129, 33).requires_grad_()
        found.append(torch.autograd.grad(block(x).square().sum(), [x, *block.parameters()]))
        torch.randn(1001)  # moves what comes after
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
