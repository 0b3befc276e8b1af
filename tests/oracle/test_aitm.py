"""Adaptive information transfer against its equations written out in plain torch, and its losses against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests import everykind
from tests.everykind import Labels, fields, sizes
from tests.loops import Leaves
from tests.oracle.test_esmm import BUY, CART, CLICK, LIKE, SCHEMA, STARS, STEPS, rows, sigmoid
from torch import Tensor

from umbel.nn.heads import Aitm, MakeAitm
from umbel.nn.heads.aitm import conditional
from umbel.nn.losses import Denominator, task_losses
from umbel.nn.recommender import Parts, Recommender, Sizes
from umbel.recipes import aitm, esmm, mmoe, stem
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

CHAINED = Schema(everykind.FIELDS, (Task("buy", given="like"), Task("click"), Task("seconds", REGRESSION), Task("like", given="click")))
ABOVE = {0: 3, 3: 1}  # buy after like after click
FIRST = 4             # the marginals of buy and like are outputs 4 and 5
VOICE, WIDTHS = (0, 1, 2, 3, 4, 5), (4, 3)


def head(calibrator: float = 0.6) -> Aitm:
    torch.manual_seed(0)
    made = MakeAitm(calibrator)(SCHEMA, VOICE, widths=WIDTHS, dropout=0.0)
    assert isinstance(made, Aitm)
    return made.double()


def attended(leaves: Leaves, handed: Tensor, own: Tensor) -> Tensor:
    """softmax over the two of <K x, Q x> / sqrt(width), times V x."""
    parts = leaves.model.groups()["transfer"]
    maps = [(weight.of(leaves.of), bias.of(leaves.of)) for weight, bias in zip(parts[::2], parts[1::2], strict=True)]
    scores, values = [], []
    for x in (handed, own):
        value, key, query = (x @ weight.T + bias for weight, bias in maps)
        scores.append(torch.stack([key[row] @ query[row] for row in range(len(x))]) / math.sqrt(x.shape[1]))
        values.append(value)
    shares = torch.softmax(torch.stack(scores), 0)
    return shares[0][:, None] * values[0] + shares[1][:, None] * values[1]


def given(own: Tensor, above: Tensor) -> Tensor:
    """The logit of the ratio of the two chances; from log ratio -0.01 on, its continuation."""
    ratio = torch.log(torch.sigmoid(own) / torch.sigmoid(above))
    edge = math.exp(-0.01)
    inside = torch.logit(torch.exp(torch.minimum(ratio, torch.full_like(ratio, -0.01))))
    return torch.where(ratio <= -0.01, inside, math.log(edge / (1 - edge)) + torch.log(1 + torch.relu(ratio + 0.01) / 0.01))


def by_hand(leaves: Leaves, batch: dict[str, Tensor]) -> Tensor:
    """A network a task over one embedding, then the chain step by step."""
    x = leaves.view(batch, 0)
    heard = [leaves.mlp(f"layer 0 expert {task}", x) for task in range(4)]
    for task, name in ((3, "like"), (0, "buy")):
        heard[task] = attended(leaves, leaves.mlp(f"handing {name}", heard[ABOVE[task]], linear=True), heard[task])
    said = leaves.towers(heard)
    columns = [given(said[:, task], said[:, ABOVE[task]]) if task in ABOVE else said[:, task] for task in range(4)]
    return torch.stack([*columns, said[:, 0], said[:, 3]], 1)


@pytest.mark.parametrize("seed", range(3))
def test_the_recipe_is_the_paper_s_equations(seed: int) -> None:
    torch.manual_seed(seed)
    model = everykind.awake(aitm(CHAINED, sizes())).eval()
    batch = fields(11, seed=seed)
    leaves = Leaves(model)
    leaves.check(by_hand(leaves, batch), batch)


def test_one_task_attends_to_the_other_s_step() -> None:
    """What the click hears moves like and buy; what buy hears moves neither click nor like."""
    torch.manual_seed(0)
    model = everykind.awake(aitm(CHAINED, sizes())).eval()
    before = model(fields()).detach()
    moved: dict[str, list[int]] = {}
    for task, name in enumerate(("buy", "click", "seconds", "like")):
        other = everykind.awake(aitm(CHAINED, sizes())).eval()
        other.load_state_dict(model.state_dict())
        with torch.no_grad():
            parts = other.groups()[f"layer 0 expert {task}"]
            for part in parts:
                part.of(dict(other.named_parameters())).mul_(0.5)
        change = (other(fields()) - before).abs().amax(0)
        moved[name] = [output for output in range(6) if change[output] > 1e-6]
    assert moved == {"buy": [0, 4], "click": [0, 1, 3, 4, 5], "seconds": [2], "like": [0, 3, 4, 5]}


@pytest.mark.parametrize(("own", "above"), [(0.3, 0.6), (1e-9, 0.5), (0.98, 0.999), (0.01, 0.02), (0.5, 0.5051)])
def test_a_conditional_is_the_ratio_of_two_chances(own: float, above: float) -> None:
    logits = torch.tensor([own, above], dtype=torch.float64).logit()
    assert conditional(logits[:1], logits[1:]).sigmoid().item() == pytest.approx(own / above, rel=1e-9)


def test_marginals_that_contradict_each_other_stay_finite_and_in_order() -> None:
    """Where a task is held likelier than what it is given, the conditional goes on rising above .99, never to 1."""
    own = torch.linspace(-3, 60, 200)
    found = conditional(own, torch.full_like(own, -1.0))
    assert found.isfinite().all()
    assert (found.diff() >= 0).all()
    assert (found[own < 3].diff() > 0).all()
    assert found[own > -0.9].min().sigmoid() > 0.99
    assert found.max() < 20


@pytest.mark.parametrize("ratio", [-0.01, -0.0100001, -0.0099999])
def test_the_continuation_has_no_step(ratio: float) -> None:
    own = torch.tensor([math.log(0.3) + ratio], dtype=torch.float64).exp().logit().requires_grad_()
    found = conditional(own, torch.tensor([0.3], dtype=torch.float64).logit())
    (slope,) = torch.autograd.grad(found, own)
    assert found.item() == pytest.approx(-0.01 - math.log(-math.expm1(-0.01)), abs=2e-5)
    assert slope.item() == pytest.approx(100.5 * (1 - own.sigmoid().item()), rel=0.01)


@pytest.mark.parametrize("logit", [(-800.0, 0.0), (800.0, 900.0), (-700.0, -800.0), (0.0, -1e4), (1e6, 1e6)])
def test_extreme_marginals_are_finite(logit: tuple[float, float]) -> None:
    own, above = (torch.tensor([one], requires_grad=True) for one in logit)
    found = conditional(own, above)
    assert found.isfinite().all()
    assert all(one.isfinite().all() for one in torch.autograd.grad(found, (own, above)))


def test_the_product_along_a_chain_is_the_tower_s_marginal() -> None:
    """`schema.marginal` over the outputs gives back the auxiliary ones, wherever no task is held likelier than .99 of what it is given."""
    torch.manual_seed(1)
    model = everykind.awake(aitm(CHAINED, sizes())).eval().double()
    with torch.no_grad():  # likes are rarer than clicks, purchases than likes
        for name, shift in (("buy", -6.0), ("like", -3.0)):
            model.groups()[f"tower {name}"][-1].of(dict(model.named_parameters())).add_(shift)
    logits = model(fields(40)).detach().numpy()
    for name, column in (("buy", FIRST), ("like", FIRST + 1)):
        expected = -np.logaddexp(0, -logits[:, column])
        order = logits[:, CHAINED.outputs[0 if name == "buy" else 3].start] < math.log(0.99 / 0.01)
        assert order.mean() > 0.9
        assert CHAINED.marginal(logits, name)[order] == pytest.approx(expected[order], rel=1e-9)


def by_loops(logits: Tensor, batch: Labels, task: int, *, denominator: Denominator, calibrator: float) -> float:
    """Cross entropy of the marginal, and what it is above the one before, on rows whose outcome is known."""
    column = {BUY: 5, CART: 6}
    total, known = 0.0, 0
    for row in range(len(logits)):
        outcome: int | None = 1
        for step in STEPS[task]:
            outcome = None if not batch.seen[row, step] else int(batch.labels[row, step])
            if outcome != 1:
                break
        if outcome is None:
            continue
        known += 1
        before = STEPS[task][-2]
        later, earlier = (sigmoid(float(logits[row, column.get(one, one)])) for one in (task, before))
        weight = 1.0 if batch.weight is None else float(batch.weight[row, task])
        total += weight * (-math.log(later if outcome else 1 - later) + calibrator * max(later - earlier, 0.0))
    return SCHEMA.tasks[task].weight * total / (known if denominator is Denominator.SEEN else len(logits))


@pytest.mark.parametrize("denominator", list(Denominator))
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("calibrator", [0.0, 0.6])
def test_losses_by_plain_loops(denominator: Denominator, weighted: bool, calibrator: float) -> None:
    logits = 2 * torch.randn(60, 7, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    batch = rows(seed=6)
    batch = batch if weighted else Labels(batch.labels, batch.seen)
    found = head(calibrator).losses(logits, batch, SCHEMA, denominator=denominator)
    own = task_losses(logits, batch, SCHEMA, denominator=denominator)
    for task in (BUY, CART):
        assert found[task].item() == pytest.approx(by_loops(logits, batch, task, denominator=denominator, calibrator=calibrator), rel=1e-12)
    for task in (LIKE, CLICK, STARS):
        assert found[task].item() == own[task].item()


def test_the_calibrator_by_hand() -> None:
    """Two clicks bought at .9 after .6 and at .2 after .5: only the first is too likely, by .3."""
    schema = Schema((Field("user", FieldKind.ID),), (Task("click"), Task("buy", given="click")))
    logits = torch.tensor([[0.6, 0.5, 0.9], [0.5, 0.5, 0.2]], dtype=torch.float64).logit()
    batch = Labels(torch.ones(2, 2, dtype=torch.float64), torch.ones(2, 2, dtype=torch.bool))
    made = MakeAitm(2.0)(schema, VOICE, widths=WIDTHS, dropout=0.0)
    found = made.losses(logits, batch, schema, denominator=Denominator.SEEN)
    assert found[1].item() == pytest.approx((-math.log(0.9) - math.log(0.2)) / 2 + 2.0 * 0.3 / 2)


def test_who_teaches_what() -> None:
    taught = {name: tasks for name, (_, tasks) in head().groups().items()}
    assert taught == {
        "tower buy": (BUY,), "tower like": (LIKE,), "tower click": (CLICK, CART), "tower stars": (STARS,), "tower cart": (BUY, CART),
        "handing buy": (BUY,), "handing cart": (BUY, CART), "transfer": (BUY, CART),
    }  # fmt: skip
    assert head().hears == ((CLICK, CART, BUY), (LIKE,), (CLICK,), (STARS,), (CLICK, CART))
    without = {name: tasks for name, (_, tasks) in head(0.0).groups().items()}
    assert (without["tower click"], without["tower cart"]) == ((CLICK,), (CART,))


def test_what_decides_nothing_may_hold_anything() -> None:
    logits = torch.zeros(3, 7)
    logits[1] = torch.nan
    logits.requires_grad_()
    values = torch.tensor([[1.0, 0, 1, 2, 1], [math.nan] * 5, [math.nan, 1, 0, math.nan, math.nan]])
    losses = head().float().losses(logits, Labels(values, ~values.isnan()), SCHEMA, denominator=Denominator.SEEN)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert losses.isfinite().all()
    assert not gradient[1].any()


# Eight categories, 16 numbers a field, the widths of the code published with STEM: its counts of dense parameters.
PUBLISHED = Schema(tuple(Field(f"f{number}", FieldKind.CATEGORY) for number in range(8)), (Task("finish"), Task("like", given="finish")))


@pytest.mark.parametrize(("recipe", "tower", "count"), [(aitm, (128, 128), 2_397_954), (esmm, (), 1_183_746)])
def test_parameters_of_the_published_code(recipe: object, tower: tuple[int, ...], count: int) -> None:
    assert callable(recipe)
    with torch.device("meta"):
        model = recipe(PUBLISHED, Sizes(dict.fromkeys(PUBLISHED.tables, 9), dim=16, expert=(512, 512, 512), tower=tower))
    assert sum(parameter.numel() for parameter in model.dense_parameters()) == count


@pytest.mark.parametrize("recipe", [mmoe, stem])
def test_it_stands_on_any_mixture(recipe: object) -> None:
    assert callable(recipe)
    model: Recommender = recipe(CHAINED, sizes(), parts=Parts(head=MakeAitm()))
    assert model(fields(5)).shape == (5, 6)
