"""MMoE, PLE and STEM as plain loops, written from their equations, against the tables: equal values, equal gradients.

The loops share no code with the library: one small matrix product per expert, gate and tower, one row of Python per
symbol. Weights are copied into them from the model under test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from tests import everykind
from tests.everykind import fields, gradients, sizes
from tests.loops import look, mix
from torch import Tensor

from umbel.nn.bank import Part
from umbel.nn.recommender import Recommender
from umbel.nn.routing import own_and_shared
from umbel.recipes import me_ple, mmoe, omoe, ple, shared_bottom, stem

Layers = list[tuple[Tensor, Tensor]]  # (weight out x in, bias out) of one MLP


@dataclass
class Loops:
    """The parameters of a model as separate little tensors, each a leaf, with the part of the model each was copied from."""

    model: Recommender
    layers: dict[str, Layers] = field(default_factory=dict)
    origin: list[tuple[Part, Tensor, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, parts in self.model.groups().items():
            if not name.startswith("view"):
                self.layers[name] = [self._layer(weight, bias) for weight, bias in zip(parts[::2], parts[1::2], strict=True)]

    def _layer(self, weight: Part, bias: Part) -> tuple[Tensor, Tensor]:
        named = dict(self.model.named_parameters())
        w, b = weight.of(named).detach(), bias.of(named).detach()
        stacked = w.ndim == 3
        own = (w[0].T if stacked else w).clone().requires_grad_(), b.flatten().clone().requires_grad_()
        self.origin += [(weight, own[0], stacked), (bias, own[1], False)]
        return own

    def mlp(self, name: str, x: Tensor, *, linear: bool) -> Tensor:
        """ReLU after every layer, but after the last if linear."""
        for level, (weight, bias) in enumerate(self.layers[name]):
            x = x @ weight.T + bias
            if not linear or level < len(self.layers[name]) - 1:
                x = torch.where(x > 0, x, torch.zeros_like(x))
        return x

    def check(self, logits: Tensor, batch: dict[str, Tensor], table: Tensor) -> None:
        """The same logits, and for each output the same gradients of every weight and of the table."""
        own = self.model(batch)
        torch.testing.assert_close(own, logits, atol=2e-6, rtol=1e-5)
        leaves = [table, *(leaf for _, leaf, _ in self.origin)]
        for output in range(logits.shape[1]):
            mine = gradients(self.model, own[:, output].square().sum())
            theirs = torch.autograd.grad(logits[:, output].square().sum(), leaves, retain_graph=True, allow_unused=True)
            self._compare(mine, [torch.zeros_like(leaf) if one is None else one for leaf, one in zip(leaves, theirs, strict=True)])

    def _compare(self, mine: dict[str, Tensor], theirs: list[Tensor]) -> None:
        torch.testing.assert_close(mine["table"], theirs[0], atol=1e-5, rtol=1e-4)
        for (part, _, stacked), other in zip(self.origin, theirs[1:], strict=True):
            own = part.of(mine)
            torch.testing.assert_close(own[0].T if stacked else own.view_as(other), other, atol=1e-5, rtol=1e-4)


def towers(loops: Loops, heard: list[Tensor]) -> Tensor:
    """logit_t = MLP_t(h_t)."""
    return torch.cat([loops.mlp(f"tower {task.name}", h, linear=True) for task, h in zip(loops.model.schema.tasks, heard, strict=True)], 1)


def run_mmoe(loops: Loops, x: list[Tensor], experts: int, *, gates: int) -> Tensor:
    """y_n = E_n(x); g_t = softmax(G_t(x)); h_t = sum_n g_tn y_n."""
    said = [loops.mlp(f"layer 0 expert {n}", x[0], linear=False) for n in range(experts)]
    shares = [torch.softmax(loops.mlp(f"layer 0 gate {gate}", x[0], linear=True), 1) for gate in range(gates)]
    tasks = len(loops.model.schema.tasks)
    return towers(loops, [mix(shares[task if gates > 1 else 0], said) for task in range(tasks)])


def run_ple(loops: Loops, x: list[Tensor], counts: tuple[int, int], layers: int) -> Tensor:
    """CGC: task t's gate reads its own input and chooses among its own and the shared experts; the commons hears all."""
    tasks, (own, shared) = len(loops.model.schema.tasks), counts
    for level in range(layers):
        said = [[loops.mlp(f"layer {level} expert {t * own + k}", x[t], linear=False) for k in range(own)] for t in range(tasks)]
        common = [loops.mlp(f"layer {level} expert {tasks * own + k}", x[tasks], linear=False) for k in range(shared)]
        heard = []
        for task in range(tasks):
            shares = torch.softmax(loops.mlp(f"layer {level} gate {task}", x[task], linear=True), 1)
            heard.append(mix(shares, [*said[task], *common]))
        if level < layers - 1:
            shares = torch.softmax(loops.mlp(f"layer {level} gate {tasks}", x[tasks], linear=True), 1)
            heard.append(mix(shares, [*(one for group in said for one in group), *common]))
        x = heard
    return towers(loops, x)


def run_stem(loops: Loops, x: list[Tensor], counts: tuple[int, int], layers: int, *, leak: bool) -> Tensor:
    """All forward, task-specific backward: g_i = softmax(G_i(x_i + x_S)); other tasks' experts are detached."""
    tasks, (own, shared) = len(loops.model.schema.tasks), counts
    for level in range(layers):
        said = [[loops.mlp(f"layer {level} expert {t * own + k}", x[t], linear=False) for k in range(own)] for t in range(tasks)]
        common = [loops.mlp(f"layer {level} expert {tasks * own + k}", x[tasks], linear=False) for k in range(shared)]
        heard = []
        for task in range(tasks):
            shares = torch.softmax(loops.mlp(f"layer {level} gate {task}", x[task] + x[tasks], linear=True), 1)
            candidates = [one if other == task else one.detach() for other in range(tasks) for one in said[other]]
            heard.append(mix(shares, [*candidates, *common]))
        if level < layers - 1:
            shares = torch.softmax(loops.mlp(f"layer {level} gate {tasks}", x[tasks], linear=True), 1)
            candidates = [one if leak else one.detach() for group in said for one in group]
            heard.append(mix(shares, [*candidates, *common]))
        x = heard
    return towers(loops, x)


def start(made: Callable[..., Recommender], tasks: int, **arguments: object) -> tuple[Loops, dict[str, Tensor], Tensor]:
    """A model away from its initial zeros, its loops, a batch, and a table of the loops' own."""
    torch.manual_seed(0)
    options = {name: value for name, value in arguments.items() if name in ("layers", "specific", "shared", "gate")}
    rest = {name: value for name, value in arguments.items() if name not in options}
    model = everykind.awake(made(everykind.schema(tasks), sizes(**options), **rest))  # type: ignore[arg-type]
    return Loops(model), fields(11), model.table.detach().clone().requires_grad_()


@pytest.mark.parametrize("gate", [(), (7,), (7, 5)])
@pytest.mark.parametrize("tasks", [2, 3])
def test_mmoe(tasks: int, gate: tuple[int, ...]) -> None:
    loops, batch, table = start(mmoe, tasks, shared=2, gate=gate)
    x = [look(loops.model, table, batch, 0)]
    loops.check(run_mmoe(loops, x, tasks + 2, gates=tasks), batch, table)


def test_omoe() -> None:
    loops, batch, table = start(omoe, 3, shared=1, gate=(5,))
    loops.check(run_mmoe(loops, [look(loops.model, table, batch, 0)], 4, gates=1), batch, table)


def test_shared_bottom() -> None:
    loops, batch, table = start(shared_bottom, 3)
    said = loops.mlp("layer 0 expert 0", look(loops.model, table, batch, 0), linear=False)
    loops.check(towers(loops, [said] * 3), batch, table)


@pytest.mark.parametrize("counts", [(1, 1), (2, 3)])
@pytest.mark.parametrize("layers", [1, 2])
def test_ple(layers: int, counts: tuple[int, int]) -> None:
    loops, batch, table = start(ple, 3, layers=layers, specific=counts[0], shared=counts[1], gate=(6,))
    x = [look(loops.model, table, batch, 0)] * 4
    loops.check(run_ple(loops, x, counts, layers), batch, table)


def test_ple_over_several_embeddings() -> None:
    """The CGC layer fed the slices: a view a task and one for all."""
    loops, batch, table = start(me_ple, 2, specific=1, shared=2)
    x = [look(loops.model, table, batch, view) for view in range(3)]
    loops.check(run_ple(loops, x, (1, 2), 1), batch, table)


@pytest.mark.parametrize("counts", [(1, 1), (2, 3), (1, 0)])
@pytest.mark.parametrize("tasks", [2, 3])
def test_stem(tasks: int, counts: tuple[int, int]) -> None:
    loops, batch, table = start(stem, tasks, specific=counts[0], shared=counts[1], gate=(6, 5))
    x = [look(loops.model, table, batch, view) for view in range(tasks + 1)]
    loops.check(run_stem(loops, x, counts, 1, leak=False), batch, table)


@pytest.mark.parametrize("layers", [2, 3])
def test_stem_in_depth(layers: int) -> None:
    loops, batch, table = start(stem, 2, layers=layers, specific=1, shared=2)
    x = [look(loops.model, table, batch, view) for view in range(3)]
    loops.check(run_stem(loops, x, (1, 2), layers, leak=False), batch, table)


def test_stem_in_depth_as_published() -> None:
    loops, batch, table = start(stem, 2, layers=2, specific=1, shared=2, legacy=True)
    x = [look(loops.model, table, batch, view) for view in range(3)]
    loops.check(run_stem(loops, x, (1, 2), 2, leak=True), batch, table)


def test_the_two_readings_of_depth_differ_in_gradients_only() -> None:
    loops, batch, table = start(stem, 2, layers=2, specific=1, shared=2)
    x = [look(loops.model, table, batch, view) for view in range(3)]
    closed, leaking = (run_stem(loops, x, (1, 2), 2, leak=leak) for leak in (False, True))
    torch.testing.assert_close(closed, leaking)
    with pytest.raises(AssertionError):
        loops.check(leaking, batch, table)


def test_a_shared_view_is_the_same_loops_over_one_input() -> None:
    loops, batch, table = start(ple, 2, specific=1, shared=1, paradigm=own_and_shared)
    x = [look(loops.model, table, batch, view) for view in range(3)]
    loops.check(run_ple(loops, x, (1, 1), 1), batch, table)
