"""What stands beside `Mixture`, as plain loops written from the papers' equations: equal values, equal gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests import everykind
from tests.everykind import fields, sizes
from tests.loops import Leaves, mix
from torch import Tensor

from umbel.nn.adatt import AdaTT
from umbel.nn.recommender import Recommender, Sizes
from umbel.nn.routing import own_views
from umbel.recipes import adatt, cross_stitch


def start(made: Callable[..., Recommender], tasks: int, size: Sizes, **arguments: object) -> tuple[Leaves, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = everykind.awake(made(everykind.schema(tasks), size, **arguments)).eval()
    with torch.no_grad():  # away from what they start as
        for name, parameter in model.named_parameters():
            if "cells" in name or "layers.0.weights" in name:
                parameter.add_(torch.randn(parameter.shape))
    return Leaves(model), fields(11)


def relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.zeros_like(x))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_cross_stitch(tasks: int, layers: int) -> None:
    """x_t <- sum_s a_ts ReLU(W_s x_s + b_s), hidden layer by hidden layer."""
    leaves, batch = start(cross_stitch, tasks, sizes(layers=layers))
    x = [leaves.view(batch, 0)] * tasks
    for layer in range(layers):
        for level in range(2):
            name = f"layers.{layer}.maps.{level}"
            found = [relu(x[task] @ leaves.of[f"{name}.weights"][task] + leaves.of[f"{name}.biases"][task]) for task in range(tasks)]
            x = found
            if tasks > 1:
                cell = leaves.of[f"layers.{layer}.cells.{level}"]
                x = [sum((cell[task, other] * found[other] for other in range(tasks)), torch.zeros_like(found[0])) for task in range(tasks)]
    leaves.check(leaves.towers(x), batch)


def test_cross_stitch_over_own_views() -> None:
    leaves, batch = start(cross_stitch, 2, Sizes(everykind.VOCABULARY, dim=3, expert=(5,), tower=(6,)), paradigm=own_views)
    weights, biases, cell = (leaves.of[f"layers.0.{name}"] for name in ("maps.0.weights", "maps.0.biases", "cells.0"))
    one, other = (relu(leaves.view(batch, task) @ weights[task] + biases[task]) for task in range(2))
    heard = [cell[0, 0] * one + cell[0, 1] * other, cell[1, 0] * one + cell[1, 1] * other]
    leaves.check(leaves.towers(heard), batch)


def test_a_cell_starts_near_separate_networks() -> None:
    leaves = Leaves(cross_stitch(everykind.schema(3), sizes()))
    cell = leaves.of["layers.0.cells.0"]
    torch.testing.assert_close(cell, torch.tensor([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]]))


def fused(leaves: Leaves, x: list[Tensor], counts: tuple[int, int], layer: int, *, readers: int) -> list[Tensor]:
    """h_r = sum_n g_rn y_n + sum_{n of r} v_rn y_n, experts of the tasks first; every expert reads its owner's x, and so does a gate."""
    tasks, (own, shared) = len(x) - 1, counts
    owners = [*(task for task in range(tasks) for _ in range(own)), *[tasks] * shared]
    said = [leaves.mlp(f"layer {layer} expert {expert}", x[owner]) for expert, owner in enumerate(owners)]
    found, weighed = [], 0
    for reader in range(readers):
        heard = mix(torch.softmax(leaves.mlp(f"layer {layer} gate {reader}", x[reader], linear=True), 1), said)
        native = [one for one, owner in zip(said, owners, strict=True) if owner == reader]
        if len(native) > 1:
            weights = leaves.of[f"layers.{layer}.weights.{weighed}"]
            weighed += 1
            heard = heard + sum((weight * one for weight, one in zip(weights, native, strict=True)), torch.zeros_like(heard))
        elif native:
            heard = heard + native[0]
        found.append(heard)
    return found


@pytest.mark.parametrize("counts", [(1, 0), (1, 1), (2, 3)])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("tasks", [2, 3])
def test_adatt(tasks: int, layers: int, counts: tuple[int, int]) -> None:
    leaves, batch = start(adatt, tasks, sizes(layers=layers, specific=counts[0], shared=counts[1]))
    x = [leaves.view(batch, 0)] * (tasks + 1)
    for layer in range(layers):
        last = layer == layers - 1
        found = fused(leaves, x, counts, layer, readers=tasks + (0 if last or not counts[1] else 1))
        x = [*found, *[found[0]] * (tasks + 1 - len(found))]
    leaves.check(leaves.towers(x[:tasks]), batch)


def test_a_residual_starts_within_its_bound() -> None:
    model = adatt(everykind.schema(3), sizes(specific=4))
    drawn = torch.cat([leaf for name, leaf in Leaves(model).of.items() if name.startswith("layers.0.weights")])
    assert len(drawn) == 12
    assert bool((drawn.abs() <= 0.5).all())
    assert len(set(drawn.tolist())) == 12


def test_one_expert_weighs_one() -> None:
    (layer,) = adatt(everykind.schema(2), sizes(specific=1, shared=1)).layers
    assert isinstance(layer, AdaTT)
    assert layer.residual().tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert not list(layer.weights)
