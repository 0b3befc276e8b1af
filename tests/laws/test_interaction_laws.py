"""The laws of every interaction: fields of each view meet by themselves, row by row, with weights per view."""

from __future__ import annotations

import pytest
import torch
from tests import everykind
from tests.everykind import fields, sizes
from torch import Tensor

from umbel.nn.interact import INTERACTS, Interact, InteractSizes
from umbel.nn.losses import task_losses
from umbel.nn.recommender import Parts
from umbel.recipes import stem

SHAPE = (3, 4, 2)
SIZES = [InteractSizes(), InteractSizes(layers=1, hidden=5), InteractSizes(layers=3, rank=2, hidden=7, heads=2)]
EVERY = [(name, size) for name in INTERACTS for size in SIZES]


def made(name: str, size: InteractSizes = SIZES[0], *, shape: tuple[int, int, int] = SHAPE) -> Interact:
    """With random weights, biases too."""
    torch.manual_seed(0)
    interact = INTERACTS[name](size)(shape)
    with torch.no_grad():
        for parameter in interact.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape))
    return interact


def some(rows: int = 5, *, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "size"), EVERY)
def test_one_row_of_width_numbers_a_view(name: str, size: InteractSizes) -> None:
    interact = made(name, size)
    found = interact(some())
    assert len(found) == SHAPE[0]
    assert all(view.shape == (5, interact.width) for view in found)


@pytest.mark.parametrize(("name", "size"), EVERY)
def test_no_view_sees_another(name: str, size: InteractSizes) -> None:
    interact, x = made(name, size), some()
    moved = x.index_add(1, torch.tensor([1]), torch.ones(5, 1, *SHAPE[1:]))
    for view, (one, other) in enumerate(zip(interact(x), interact(moved), strict=True)):
        assert torch.equal(one, other) == (view != 1)


@pytest.mark.parametrize(("name", "size"), EVERY)
def test_a_view_alone_is_the_view_among_others(name: str, size: InteractSizes) -> None:
    interact, x = made(name, size), some()
    together = interact(x)
    for view in range(SHAPE[0]):
        alone = made(name, size, shape=(1, *SHAPE[1:]))
        whole = dict(interact.named_parameters())
        with torch.no_grad():
            for part in interact.parts(view):
                alone.get_parameter(part.name).copy_(part.of(whole))
        torch.testing.assert_close(alone(x[:, view:view + 1])[0], together[view], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("name", "size"), EVERY)
def test_parts_cover_every_number_once(name: str, size: InteractSizes) -> None:
    interact = made(name, size)
    counts = {key: torch.zeros_like(parameter) for key, parameter in interact.named_parameters()}
    for view in range(SHAPE[0]):
        for part in interact.parts(view):
            part.of(counts).add_(1)
    assert all(bool((count == 1).all()) for count in counts.values())


@pytest.mark.parametrize(("name", "size"), EVERY)
def test_every_field_reaches_the_output_and_every_weight_learns(name: str, size: InteractSizes) -> None:
    interact, x = made(name, size), some(20).requires_grad_()
    objective = torch.stack(interact(x)).square().sum()
    torch.autograd.backward(objective)
    assert x.grad is not None
    assert (x.grad.abs().sum(0) > 0).all()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in interact.parameters())


@pytest.mark.parametrize("name", INTERACTS)
def test_rows_alone_are_rows_together(name: str) -> None:
    interact, x = made(name), some()
    for row in range(5):
        for one, other in zip(interact(x[row:row + 1]), interact(x), strict=True):
            torch.testing.assert_close(one[0], other[row], atol=1e-6, rtol=1e-5)


LEAST = {"masknet": 2}  # numbers of a field; elsewhere one will do


@pytest.mark.parametrize("name", INTERACTS)
def test_no_rows_one_field_one_number(name: str) -> None:
    assert [len(view) for view in made(name)(some(0))] == [0, 0, 0]
    shape = (2, 1, LEAST.get(name, 1))
    assert all(view.isfinite().all() for view in made(name, shape=shape)(some(shape=shape)))


@pytest.mark.parametrize("name", INTERACTS)
def test_the_input_is_left_as_it_was(name: str) -> None:
    x = some()
    before = x.clone()
    made(name)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", INTERACTS)
def test_batched_over_weights(name: str) -> None:
    """As adaptation to many users at once calls it."""
    interact, x = made(name), some()
    weights = {key: torch.stack([0.5 * parameter, parameter]) for key, parameter in interact.named_parameters()}
    if weights:
        found = torch.func.vmap(lambda own: torch.func.functional_call(interact, own, (x,)))(weights)
        for one, other in zip(found, interact(x), strict=True):
            torch.testing.assert_close(one[1], other)
            assert not torch.allclose(one[0], other)


@pytest.mark.parametrize("name", INTERACTS)
def test_twice_differentiable(name: str) -> None:
    interact, x = made(name).double(), some(2).double().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda given: torch.stack(interact(given)), (x,), fast_mode=True)


@pytest.mark.parametrize("name", INTERACTS)
def test_half_precision_is_near(name: str) -> None:
    interact, x = made(name), some()
    with torch.autocast("cpu", torch.bfloat16):
        near = torch.stack(interact(x))
    exact = torch.stack(interact(x))
    assert (near.float() - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("name", INTERACTS)
def test_one_batch_can_be_overfitted(name: str) -> None:
    torch.manual_seed(2)
    model = stem(everykind.schema(), sizes(), parts=Parts(INTERACTS[name](InteractSizes())))
    batch, labels = fields(16), everykind.labels(16, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(180):
        optimizer.zero_grad()
        loss = task_losses(model(batch), labels, model.schema).sum()
        torch.autograd.backward(loss)
        optimizer.step()
    assert loss.item() < 0.05
