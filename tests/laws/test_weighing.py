"""The weighing law: what tasks share follows the weighted sum, what a task owns its plain gradient, in every recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import pytest
import torch
from tests import everykind
from tests.everykind import fields, gradients, labels, sizes
from torch import Tensor

from umbel.balance.balancer import Balancer, Gramian
from umbel.balance.losses import Static
from umbel.data.batch import Batch
from umbel.errors import UserError
from umbel.learn.plan import Plan
from umbel.learn.step import Exact, Fast, Step
from umbel.learn.taps import At, Taps
from umbel.learn.weigh import Balance, Weigher
from umbel.nn.bank import Experts
from umbel.nn.heads import HEADS
from umbel.nn.mixture import Mixture
from umbel.nn.recommender import Parts, Recommender
from umbel.recipes import RECIPES
from umbel.schema import Schema, Task

WEIGHTS = (0.3, 2.0, -0.7)


@final
class Fixed(Balancer):
    """Weights that no balancer would give, after a look at the Gramian."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, losses: Tensor, gramian: Gramian) -> Tensor:
        self.seen.append(gramian())
        return torch.tensor(WEIGHTS[:len(losses)], dtype=losses.dtype)


def weighed(model: Recommender, balance: Balance) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """The gradients that a balanced step leaves, and each task's own."""
    batch, tasks = labels(32, len(model.schema.tasks)), len(model.schema.tasks)
    weigher = Weigher(everykind.awake(model), balance, tasks=tasks)
    with weigher.taps:
        losses = model.losses(model(fields(32)), batch)
    own = [gradients(model, loss) for loss in losses]
    named = dict(model.named_parameters())
    weigher.backward(losses, named)
    return {name: torch.zeros_like(one) if one.grad is None else one.grad for name, one in named.items()}, own


def check(model: Recommender, at: At = At.EXPERTS) -> None:
    """Every group against its declaration."""
    found, own = weighed(model, Balance(Fixed, at=at))
    every = model.reach
    for name, parts in model.groups().items():
        reach = every[name]
        for part in parts:
            given = sum((WEIGHTS[task] if len(reach) > 1 else 1.0) * part.of(own[task]) for task in reach)
            if reach:
                rounding = 1e-6 * max(0.1, *(float(part.of(one).abs().max()) for one in own))  # of sums of numbers that large
                assert torch.allclose(part.of(found), torch.as_tensor(given), rtol=1e-4, atol=rounding), name


@pytest.mark.parametrize(("recipe", "paradigm", "layers"), everykind.cover(3))
def test_shared_parts_are_weighted_and_own_ones_plain(recipe: str, paradigm: str | None, layers: int) -> None:
    torch.manual_seed(0)
    check(everykind.build(recipe, paradigm, sizes(layers=layers, specific=2), tasks=3))


@pytest.mark.parametrize("recipe", ["mmoe", "ple", "stem"])
def test_so_they_are_with_the_gramian_at_the_views(recipe: str) -> None:
    torch.manual_seed(1)
    check(everykind.build(recipe, None, sizes(), tasks=3), At.VIEWS)


@pytest.mark.parametrize("recipe", ["mmoe", "ple", "stem", "alone"])
def test_the_scalar_form_weighs_everything(recipe: str) -> None:
    torch.manual_seed(2)
    found, own = weighed(everykind.build(recipe, None, sizes(), tasks=3), Balance(Fixed, scalar=True))
    for name, gradient in found.items():
        wanted = sum(weight * one[name] for weight, one in zip(WEIGHTS, own, strict=True))
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-7)


def test_a_wrong_declaration_would_be_seen() -> None:
    model = everykind.build("mmoe", None, sizes(), tasks=3)
    found, own = weighed(model, Balance(Fixed, scalar=True))
    tower = model.groups()["tower click"][0]
    assert not torch.allclose(tower.of(found), tower.of(own[0]))


# The Gramian, by hand.


def by_hand(model: Recommender, gather: Callable[[Recommender], list[Tensor]], losses: Tensor) -> Tensor:
    """Inner products of the gradients at what `gather` collected, number by number."""
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, gather(model), retain_graph=True, allow_unused=True)
        rows.append([0.0 if one is None else one.double() for one in found])
    return torch.tensor([[float(sum((a * b).sum() for a, b in zip(one, other, strict=True))) for other in rows] for one in rows])


@pytest.mark.parametrize(("recipe", "members"), [("mmoe", 4), ("ple", 1), ("stem", 1), ("omoe", 4), ("shared_bottom", 1)])
def test_the_gramian_is_taken_at_experts_that_two_teach(recipe: str, members: int) -> None:
    torch.manual_seed(3)
    model = everykind.awake(everykind.build(recipe, None, sizes(specific=1), tasks=3))
    said: list[Tensor] = []
    mixture = model.layers[0]
    assert isinstance(mixture, Mixture)
    mixture.bank.register_forward_hook(lambda _, __, blocks: said.extend(blocks))
    taps = Taps(model, At.EXPERTS)
    with taps:
        losses = model.losses(model(fields(32)), labels(32, 3))
    found = taps.gramian(losses)
    # A shared expert's outputs: whole blocks in these recipes, except ple's, where it is the last of its block.
    flat: list[list[Tensor]] = []
    for loss in losses:
        grads = torch.autograd.grad(loss, said, retain_graph=True, materialize_grads=True)
        flat.append([torch.cat([one[-members:].flatten() if recipe != "stem" else one.flatten() for one in grads[-1:]])])
    wanted = torch.stack([torch.stack([torch.dot(a[0], b[0]) for b in flat]) for a in flat])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-10)
    assert (torch.diagonal(found) > 0).all()
    assert torch.equal(found, found.T)


def test_at_the_views_it_is_the_shared_ones() -> None:
    torch.manual_seed(4)
    model = everykind.awake(everykind.build("stem", None, sizes(), tasks=3))
    seen: list[Tensor] = []
    model.views.register_forward_hook(lambda _, __, output: seen.append(output))
    taps = Taps(model, At.VIEWS)
    with taps:
        losses = model.losses(model(fields(32)), labels(32, 3))
    grads = [torch.autograd.grad(loss, seen, retain_graph=True)[0][:, 3].flatten() for loss in losses]
    torch.testing.assert_close(taps.gramian(losses), torch.stack(grads) @ torch.stack(grads).T, rtol=1e-4, atol=1e-10)


def test_without_a_shared_part_it_is_the_identity() -> None:
    model = everykind.build("alone", None, sizes(), tasks=3)
    taps = Taps(model, At.EXPERTS)
    with taps:
        losses = model.losses(model(fields(8)), labels(8, 3))
    assert torch.equal(taps.gramian(losses), torch.eye(3))


def test_where_only_a_view_is_shared_it_is_taken_there() -> None:
    model = everykind.build("alone", "shared", sizes(), tasks=3)
    assert [place.module for place in Taps(model, At.EXPERTS).places] == [model.views]


@pytest.mark.parametrize("recipe", ["mmoe", "ple", "stem", "home", "snr_trans", "adatt"])
def test_where_experts_are_shared_it_is_taken_at_experts(recipe: str) -> None:
    """Whatever kind of experts they are: at the views it costs a backward pass a task through the whole model."""
    model = everykind.build(recipe, None, sizes(), tasks=3)
    assert all(isinstance(place.module, Experts) for place in Taps(model, At.EXPERTS).places)


@pytest.mark.parametrize(("recipe", "paradigm", "layers"), everykind.cover(3))
def test_tasks_that_share_meet_somewhere(recipe: str, paradigm: str | None, layers: int) -> None:
    model = everykind.build(recipe, paradigm, sizes(layers=layers), tasks=3)
    below = [tasks for name, tasks in model.reach.items() if not name.startswith(("tower", "layer")) or "expert" in name]
    assert bool(Taps(model, At.EXPERTS).places) == any(len(tasks) > 1 for tasks in below)


def test_nothing_listens_after_a_step() -> None:
    model = everykind.build("mmoe", None, sizes(), tasks=3)
    weighed(model, Balance(Fixed))
    assert not any(module._forward_hooks for module in model.modules())


# A whole step.


def batch(rows: int = 24, tasks: int = 3) -> Batch:
    own = labels(rows, tasks, seen=0.8)
    return Batch(fields(rows), own.labels, own.seen, torch.arange(rows))


def trained(kind: type[Fast] | type[Exact], balance: Balance | None, *, recipe: str = "mmoe", steps: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(5)
    model = everykind.awake(everykind.build(recipe, None, sizes(), tasks=3))
    step: Step = kind(model, Plan(balance=balance, rate=0.01, clip=0.05, l2=0.1))
    for _ in range(steps):
        step(batch())
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize("kind", [Fast, Exact])
@pytest.mark.parametrize("recipe", RECIPES)
def test_weights_of_one_are_the_plain_step(recipe: str, kind: type[Fast] | type[Exact], scalar: bool) -> None:
    plain, balanced = trained(kind, None, recipe=recipe), trained(kind, Balance(Static, scalar=scalar), recipe=recipe)
    assert all(torch.equal(plain[name], balanced[name]) for name in plain)


@pytest.mark.parametrize("kind", [Fast, Exact])
def test_other_weights_are_another_step(kind: type[Fast] | type[Exact]) -> None:
    plain, balanced = trained(kind, None), trained(kind, Balance(Fixed))
    assert not torch.equal(plain["table"], balanced["table"])


@pytest.mark.parametrize("recipe", ["mmoe", "ple", "stem"])
def test_fast_and_exact_agree_where_every_row_is_touched(recipe: str) -> None:
    """One step from zero moments without L2: what a batch touches moves alike, what it does not stays."""
    after = []
    for kind in (Fast, Exact):
        torch.manual_seed(6)
        model = everykind.awake(everykind.build(recipe, None, sizes(), tasks=3))
        kind(model, Plan(balance=Balance(Fixed), rate=0.01, l2=0.0))(batch(64))
        after.append(model.state_dict()["table"])
    torch.testing.assert_close(*after, rtol=1e-4, atol=1e-5)


def test_bf16_weighs_about_the_same() -> None:
    found = []
    for precision in (None, torch.bfloat16):
        torch.manual_seed(7)
        model = everykind.awake(everykind.build("mmoe", None, sizes(), tasks=3))
        step = Fast(model, Plan(balance=Balance(Fixed), precision=precision, rate=1e-9))
        step(batch())
        assert step.weigher is not None
        own = step.weigher.balancer
        assert isinstance(own, Fixed)
        found.append((own.seen[0], {name: one.grad for name, one in model.named_parameters() if one.grad is not None}))
    (one, plain), (other, halved) = found
    assert (one - other).norm() < 0.05 * one.norm()
    assert plain.keys() == halved.keys()
    for name, gradient in plain.items():
        assert halved[name].dtype is torch.float32
        assert (gradient - halved[name]).norm() <= 0.1 * gradient.norm() + 1e-6


def test_gradients_add_to_what_is_there() -> None:
    torch.manual_seed(8)
    model = everykind.awake(everykind.build("stem", None, sizes(), tasks=3))
    weigher, named = Weigher(model, Balance(Fixed), tasks=3), dict(model.named_parameters())
    once: dict[str, Tensor] = {}
    for time in range(2):
        with weigher.taps:
            losses = model.losses(model(fields(16)), labels(16, 3))
        weigher.backward(losses, named)
        once = once or {name: one.grad.clone() for name, one in named.items() if one.grad is not None}
        for name, gradient in once.items():
            torch.testing.assert_close(named[name].grad, (time + 1) * gradient)


def test_no_two_gradients_share_memory() -> None:
    """Clipping scales them in place, and must scale each once."""
    for recipe in RECIPES:
        model = everykind.build(recipe, None, sizes(layers=2), tasks=3)
        weighed(model, Balance(Fixed))
        places = [one.grad.data_ptr() for one in model.parameters() if one.grad is not None]
        assert len(places) == len(set(places))


def test_a_model_that_declares_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="does not say which tasks teach what; train it without a balancer"):
        Weigher(torch.nn.Linear(2, 2), Balance(Static), tasks=2)


CHAINED = Schema(everykind.FIELDS, (Task("click"), Task("like", given="click"), Task("buy", given="like")))


@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_weighed(head: str) -> None:
    torch.manual_seed(9)
    try:
        model = RECIPES["mmoe"](everykind.schema(3), sizes(), parts=Parts(head=HEADS[head]()))
    except UserError:
        model = RECIPES["mmoe"](CHAINED, sizes(), parts=Parts(head=HEADS[head]()))
    check(model)
