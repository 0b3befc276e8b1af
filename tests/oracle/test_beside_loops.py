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
from umbel.recipes import adatt, ame, cross_stitch, home, pepnet, snr_aver, snr_trans


def start(made: Callable[..., Recommender], tasks: int, size: Sizes, **arguments: object) -> tuple[Leaves, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = everykind.awake(made(everykind.schema(tasks), size, **arguments)).eval()
    with torch.no_grad():  # away from what they start as
        for name, parameter in model.named_parameters():
            if any(one in name for one in ("cells", "layers.0.weights", "bank.scales", "bank.shifts", "alpha")):
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


def ramp(alpha: Tensor) -> Tensor:
    """The hard concrete without noise: a sigmoid stretched to [-.1, 1.1] and cut to [0, 1]."""
    stretched = 1.2 / (1 + torch.exp(-alpha)) - 0.1
    return torch.where(stretched < 0, torch.zeros_like(alpha), torch.where(stretched > 1, torch.ones_like(alpha), stretched))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("recipe", [snr_trans, snr_aver])
def test_snr(recipe: Callable[..., Recommender], layers: int) -> None:
    """h_r = sum_n z_rn y_n W_rn; below, readers are the sub-networks above."""
    leaves, batch = start(recipe, 2, sizes(layers=layers, shared=2))
    x = [leaves.view(batch, 0)] * 4
    for layer in range(layers):
        said = [leaves.mlp(f"layer {layer} expert {expert}", x[expert]) for expert in range(4)]
        z = ramp(leaves.of[f"layers.{layer}.gates.alpha"])
        maps = leaves.of.get(f"layers.{layer}.maps")
        x = []
        for reader in range(2 if layer == layers - 1 else 4):
            fed = [one if maps is None else one @ maps[reader, number] for number, one in enumerate(said)]
            x.append(sum((z[reader, number] * one for number, one in enumerate(fed)), torch.zeros_like(said[0])))
    leaves.check(leaves.towers(x), batch)


def test_snr_over_own_views() -> None:
    """Four sub-networks dealt round two views: 0, 1, 0, 1."""
    leaves, batch = start(snr_trans, 2, sizes(shared=2), paradigm=own_views)
    x = [leaves.view(batch, view) for view in (0, 1, 0, 1)]
    said = [leaves.mlp(f"layer 0 expert {expert}", x[expert]) for expert in range(4)]
    z, maps = ramp(leaves.of["layers.0.gates.alpha"]), leaves.of["layers.0.maps"]
    heard = [sum((z[task, n] * said[n] @ maps[task, n] for n in range(4)), torch.zeros_like(said[0])) for task in range(2)]
    leaves.check(leaves.towers(heard), batch)


def test_ame() -> None:
    """Tables one and two views wide; task 0 hears both, task 1 the narrow one; three experts on tables 0, 1, 0."""
    leaves, batch = start(ame, 2, sizes(), tables=(1, 2), routes=((0, 1), (0,)))
    views = [leaves.view(batch, view) for view in range(3)]
    x = [leaves.mlp("layer 0 table 0", views[0], linear=True), leaves.mlp("layer 0 table 1", torch.cat(views[1:], 1), linear=True)]
    said = [leaves.mlp(f"layer 1 expert {expert}", x[table]) for expert, table in enumerate((0, 1, 0))]
    first = torch.softmax(leaves.mlp("layer 1 gate 0", x[0] + x[1], linear=True), 1)
    other = torch.softmax(leaves.mlp("layer 1 gate 1", x[0], linear=True), 1)
    leaves.check(leaves.towers([mix(first, said), mix(other, [said[0], said[2]])]), batch)


def normed(leaves: Leaves, layer: int, expert: int, x: Tensor) -> Tensor:
    """swish(norm(W (x * 2 sigmoid(x B A)) + b)), the norm over a row, layer by layer."""
    names = ("down", "up", "scales.0", "scales.1", "shifts.0", "shifts.1")
    bank = {name: leaves.of[f"layers.{layer}.mixture.bank.{name}"][expert] for name in names}
    h = x * 2 / (1 + torch.exp(-(x @ bank["down"] @ bank["up"])))
    for level in range(2):
        weights, biases = (leaves.of[f"layers.{layer}.mixture.bank.maps.{level}.{kind}"][expert] for kind in ("weights", "biases"))
        y = h @ weights + biases
        centred = y - y.mean(1, keepdim=True)
        y = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() * bank[f"scales.{level}"] + bank[f"shifts.{level}"]
        h = y / (1 + torch.exp(-y))
    return h


def heard_at_home(leaves: Leaves, layer: int, reader: int, asked: Tensor, said: dict[int, Tensor], own: list[int]) -> Tensor:
    """What a gate gives of what is heard, and the reader's own once more: a sigmoid for one, a softmax for several."""
    heard = mix(torch.softmax(leaves.mlp(f"layer {layer} gate {reader}", asked, linear=True), 1), list(said.values()))
    logits = leaves.mlp(f"layer {layer} self gate {reader}", asked, linear=True)
    share = torch.softmax(logits, 1) if len(own) > 1 else 1 / (1 + torch.exp(-logits))
    return heard + mix(share, [said[one] for one in own])


@pytest.mark.parametrize("own", [1, 2])
def test_home(own: int) -> None:
    """Three tasks in groups {click, like} and {seconds}; one shared expert in both levels."""
    leaves, batch = start(home, 3, sizes(specific=own), groups=(("click", "like"), ("seconds",)), rank=2)
    x = leaves.view(batch, 0)
    low = {expert: normed(leaves, 0, expert, x) for expert in range(2 * own + 1)}
    groups = [list(range(own)), list(range(own, 2 * own))]
    z = [heard_at_home(leaves, 0, group, x, {one: low[one] for one in (*mine, 2 * own)}, mine) for group, mine in enumerate(groups)]
    z.append(heard_at_home(leaves, 0, 2, x, low, [2 * own]))
    members, heard = (0, 1, 0), []
    tasks = [list(range(task * own, (task + 1) * own)) for task in range(3)]
    locals_ = [list(range((3 + group) * own, (4 + group) * own)) for group in range(2)]
    reads = [*(members[task] for task in range(3) for _ in range(own)), *(group for group in range(2) for _ in range(own)), 2]
    high = [normed(leaves, 1, expert, z[read]) for expert, read in enumerate(reads)]
    for task, group in enumerate(members):
        names = [*tasks[task], *locals_[group], 5 * own]
        heard.append(heard_at_home(leaves, 1, task, z[group] + z[2], {one: high[one] for one in names}, tasks[task]))
    leaves.check(leaves.towers(heard), batch)


def scale(leaves: Leaves, name: str, member: int, x: Tensor) -> Tensor:
    """2 sigmoid(W' ReLU(W x + b) + b')."""
    first, last = ([leaves.of[f"{name}.maps.{level}.{kind}"][member] for kind in ("weights", "biases")] for level in (0, 1))
    return 2 / (1 + torch.exp(-(relu(x @ first[0] + first[1]) @ last[0] + last[1])))


@pytest.mark.parametrize("gate", [(), (5,)])
@pytest.mark.parametrize("tasks", [1, 2])
def test_pepnet(tasks: int, gate: tuple[int, ...]) -> None:
    """The domain is the hour, the prior user and item: places 3, and 0 and 4, of eight fields three numbers wide."""
    leaves, batch = start(pepnet, tasks, sizes(gate=gate))
    e = leaves.view(batch, 0)
    o = e * scale(leaves, "interact.scale", 0, torch.cat([e[:, 9:12], e.detach()], 1))
    asked = torch.cat([e[:, 0:3], e[:, 12:15], o.detach()], 1)
    heard = []
    for task in range(tasks):
        h = o
        for level in range(2):
            weights, biases = (leaves.of[f"layers.0.maps.{level}.{kind}"][task] for kind in ("weights", "biases"))
            h = scale(leaves, f"layers.0.scales.{level}", task, asked) * relu(h @ weights + biases)
        heard.append(h)
    leaves.check(leaves.towers(heard), batch)


def test_pepnet_without_a_domain_and_over_own_views() -> None:
    size = Sizes(everykind.VOCABULARY, dim=3, expert=(5,), tower=(6,))
    leaves, batch = start(pepnet, 2, size, paradigm=own_views, domain=(), prior=("hour",))
    heard = []
    for task in range(2):
        o = leaves.view(batch, task)
        weights, biases = (leaves.of[f"layers.0.maps.0.{kind}"][task] for kind in ("weights", "biases"))
        heard.append(scale(leaves, "layers.0.scales.0", task, torch.cat([o[:, 9:12], o.detach()], 1)) * relu(o @ weights + biases))
    leaves.check(leaves.towers(heard), batch)
