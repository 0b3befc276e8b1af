"""What the study of transfer keeps for every architecture: shares add up, only what is shared disagrees, looking changes nothing."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import everykind, kindrows
from torch import Tensor

from umbel.data.batch import Batch
from umbel.kinds import LogNormal, TaskKind, ZeroInflated
from umbel.nn.recommender import Recommender
from umbel.recipes import RECIPES
from umbel.schema import Schema, Task
from umbel.study.transfer.gradients import LOWERED, _measures, affinities, conflicts
from umbel.study.transfer.labels import overlap
from umbel.study.transfer.listening import abundances, listen

TASKS = 3
NAMES = everykind.NAMES[:TASKS]
UNGATED = {"cross_stitch", "snr_trans", "snr_aver", "pepnet"}  # they exchange by other means than gates over experts
PAIRS = list(itertools.combinations(NAMES, 2))
# A recipe with every depth costs more than it tells: each is met at one depth, both depths by several recipes.
EVERY = [(name, 1 + place % 2) for place, name in enumerate(RECIPES)]


def built(recipe: str, layers: int) -> Recommender:
    torch.manual_seed(0)
    return everykind.awake(RECIPES[recipe](everykind.schema(TASKS), everykind.sizes(layers=layers))).eval()


def batch(rows: int = 40, *, seed: int = 0, seen: float = 1.0) -> Batch:
    own = everykind.labels(rows, TASKS, seed=seed, seen=seen)
    return Batch(everykind.fields(rows, seed=seed), own.labels, own.seen, torch.arange(rows))


def shared(model: Recommender) -> set[str]:
    """Layers that two tasks or more teach, by the reach a recipe declares."""
    return {name.rstrip("0123456789").rstrip() for name, tasks in model.reach.items() if len(tasks) > 1}


@pytest.mark.parametrize(("recipe", "layers"), EVERY)
def test_tasks_meet_where_the_reach_says_and_nowhere_else(recipe: str, layers: int) -> None:
    model = built(recipe, layers)
    found = conflicts(model, [batch()], everykind.VOCABULARY)
    places = {one.layer for one in found if not one.layer.startswith("table ")}
    assert places <= shared(model)
    for name in shared(model):
        teachers = [set(tasks) for group, tasks in model.reach.items() if group.startswith(name)]
        met = {(NAMES.index(one.tasks[0]), NAMES.index(one.tasks[1])) for one in found if one.layer == name}
        assert all(any({left, right} <= tasks for tasks in teachers) for left, right in met)


@pytest.mark.parametrize(("recipe", "layers"), EVERY)
def test_cosines_are_cosines(recipe: str, layers: int) -> None:
    found = conflicts(built(recipe, layers), [batch(seed=seed) for seed in (0, 1)], everykind.VOCABULARY)
    for one in found:
        assert -1 - 1e-9 <= one.cosine <= 1 + 1e-9
        assert one.conflicts in (0.0, 0.5, 1.0)
        assert one.tasks in PAIRS


@pytest.mark.parametrize(("recipe", "layers"), EVERY)
def test_looking_changes_nothing(recipe: str, layers: int) -> None:
    model, rows = built(recipe, layers), batch()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    conflicts(model, [rows], everykind.VOCABULARY)
    affinities(model, [rows])
    listen(model, [rows])
    abundances(model, everykind.VOCABULARY)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def moved(model: Recommender, helper: int, rows: Batch) -> list[float]:
    """The tasks' losses after the helper's step, on a copy of the model and without any of the study's code."""
    other = copy.deepcopy(model)
    named: dict[str, Tensor] = dict(other.named_parameters())
    loss = other.losses(other(rows.fields), rows)[helper]
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    each = zip(named.items(), gradients, strict=True)
    by_name = {name: torch.zeros_like(one) if gradient is None else gradient for (name, one), gradient in each}
    parts = [part for group, tasks in other.reach.items() if len(tasks) > 1 for part in other.groups()[group]]
    square = sum(part.of(by_name).square().sum().item() for part in parts)
    with torch.no_grad():
        for part in parts:
            part.of(named).sub_(LOWERED * loss.item() / square * part.of(by_name))
        after = other.losses(other(rows.fields), rows)
    return [float(one) for one in after]


STEPPED = [("shared_bottom", 2), ("mmoe", 1), ("ple", 2), ("stem", 1), ("me_mmoe", 1), ("cross_stitch", 2)]


@pytest.mark.parametrize(("recipe", "layers"), STEPPED)
def test_look_ahead_gains_are_those_of_a_step_really_taken(recipe: str, layers: int) -> None:
    model, rows = built(recipe, layers), batch(60)
    with torch.no_grad():
        before = [float(one) for one in model.losses(model(rows.fields), rows)]
    found = {(one.helper, one.helped): one.percent for one in affinities(model, [rows])}
    for helper, helped in itertools.permutations(range(TASKS), 2):
        expected = (1 - moved(model, helper, rows)[helped] / before[helped]) / LOWERED
        assert found[NAMES[helper], NAMES[helped]] == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize(("recipe", "layers"), EVERY)
def test_shares_add_up_to_one(recipe: str, layers: int) -> None:
    gates, experts = listen(built(recipe, layers), [batch(seed=1)])
    assert [one.task for one in gates] == ([] if recipe in UNGATED else list(NAMES)), "who has gates is listened to"
    for one in gates:
        assert one.own + one.shared + one.others == pytest.approx(1.0, abs=1e-6)
        assert min(one.own, one.shared, one.others) >= 0
        assert one.entropy is None or -1e-9 <= one.entropy <= 1 + 1e-9
    assert all(0 <= one.zeros <= 1 for one in experts)


@pytest.mark.parametrize(("recipe", "layers"), EVERY)
def test_directions_lie_between_one_and_the_width(recipe: str, layers: int) -> None:
    model = built(recipe, layers)
    found = abundances(model, everykind.VOCABULARY)
    assert {one.view for one in found} == set(range(model.views.views))
    assert all(1 - 1e-9 <= one.value <= one.width + 1e-9 for one in found)


def test_batches_are_looked_at_alike_in_any_order() -> None:
    model, several = built("stem", 1), [batch(seed=seed) for seed in range(3)]
    one, other = ({(each.helper, each.helped): each.percent for each in affinities(model, rows)} for rows in (several, several[::-1]))
    assert one == pytest.approx(other, abs=1e-9)


def test_a_task_nobody_saw_is_nobody_s_rival() -> None:
    rows = batch()
    seen = torch.tensor([True, False, True]).expand_as(rows.seen)
    found = conflicts(built("mmoe", 1), [Batch(rows.fields, rows.labels, seen, rows.index)], everykind.VOCABULARY)
    assert {one.tasks for one in found} == {(NAMES[0], NAMES[2])}
    helps = affinities(built("mmoe", 1), [Batch(rows.fields, rows.labels, seen, rows.index)])
    assert NAMES[1] not in {one.helper for one in helps}
    assert not any(math.isnan(one.percent) for one in helps)


def test_a_leap_tells_nothing() -> None:
    """A tower all but dead has next to no gradient below it: the step that would lower its loss is beyond all measure."""
    model, rows = built("mmoe", 1), batch()
    parts = model.groups()[f"tower {NAMES[0]}"]
    named: dict[str, Tensor] = dict(model.named_parameters())
    with torch.no_grad():
        for part in parts:
            part.of(named).mul_(1e-4)
    helps = affinities(model, [rows])
    assert {one.helper for one in helps} == set(NAMES[1:])
    assert all(abs(one.percent) < 10 for one in helps)


def test_a_dead_tower_helps_nobody() -> None:
    model, rows = built("mmoe", 1), batch()
    named: dict[str, Tensor] = dict(model.named_parameters())
    with torch.no_grad():
        for part in model.groups()[f"tower {NAMES[2]}"]:
            part.of(named).zero_()
    assert {one.helper for one in affinities(model, [rows])} == set(NAMES[:2])


UNITS = (1e-4, 0.05, 1.0, 60.0, 3.6e6)  # milliseconds, hours and what lies between


def amounts(kind: TaskKind, unit: float, *, weight: float = 1.0, weighed: bool = False) -> tuple[Recommender, Batch]:
    """An event beside amounts of that kind in that unit, in a model that begins where those labels are."""
    torch.manual_seed(0)
    schema = Schema(everykind.FIELDS, (Task("click"), Task("amount", kind, weight=weight)))
    model = everykind.awake(RECIPES["shared_bottom"](schema, everykind.sizes())).eval()
    draw = torch.Generator().manual_seed(3)
    logs = 0.6 * torch.randn(80, generator=draw) + math.log(unit)
    above = torch.rand(80, generator=draw) < (1.0 if kind.labels.above else 0.4)
    start = [math.log(unit), 0.3]
    model.begin("amount", torch.tensor(start if kind.outputs == 2 else [-0.4, *start]))
    labels = torch.stack([torch.randint(0, 2, (80,), generator=draw).float(), torch.where(above, logs.exp(), 0.0)], 1)
    seen = torch.rand((80, 2), generator=draw) < 0.9
    labels[~seen] = math.nan
    weights = torch.rand((80, 2), generator=draw) + 0.5 if weighed else None
    return model, Batch(everykind.fields(80), labels, seen, torch.arange(80), weight=weights)


def helps(model: Recommender, rows: Batch) -> dict[tuple[str, str], float]:
    return {(one.helper, one.helped): one.percent for one in affinities(model, [rows])}


DENSE = (LogNormal(), ZeroInflated())


def test_these_are_the_losses_without_a_zero() -> None:
    made = (row.kind for row in kindrows.ROWS.values())
    assert {kind.name for kind in made if kind.form.density} == {kind.name for kind in DENSE}


@pytest.mark.parametrize("kind", DENSE)
def test_help_is_the_same_in_every_unit(kind: TaskKind) -> None:
    """Though the loss of such a task is above 0 in one unit, below it in another and next to 0 between them."""
    each = [amounts(kind, unit) for unit in UNITS]
    losses = [model.losses(model(rows.fields), rows)[1].item() for model, rows in each]
    assert losses[0] < 0 < losses[-1]
    found = [helps(*one) for one in each]
    assert found[0].keys() == {("click", "amount"), ("amount", "click")}
    for one in found:
        assert one == pytest.approx(found[2], rel=0.01, abs=1e-4)
    assert min(map(abs, found[2].values())) > 0.01


@pytest.mark.parametrize("kind", DENSE)
@pytest.mark.parametrize("weighed", [False, True])
def test_help_is_the_same_however_much_a_task_weighs(kind: TaskKind, weighed: bool) -> None:
    plain, heavy = (helps(*amounts(kind, 60.0, weight=weight, weighed=weighed)) for weight in (1.0, 8.0))
    assert plain == pytest.approx(heavy, rel=0.01, abs=1e-4)


@pytest.mark.parametrize("kind", DENSE)
@pytest.mark.parametrize("weighed", [False, True])
def test_help_of_a_density_is_of_the_nats_that_its_unit_moves(kind: TaskKind, weighed: bool) -> None:
    """The measure by its own definition: how far the loss moves where the unit is e times smaller and the model begins there."""
    losses = []
    for unit in (1.0, math.e):
        model, rows = amounts(kind, unit, weight=3.0, weighed=weighed)
        losses.append(model.losses(model(rows.fields), rows).detach())
    measure = _measures(model.schema, rows, losses[1])
    assert float(measure[0]) == float(losses[1][0])
    assert float(measure[1]) == pytest.approx(float(losses[1][1] - losses[0][1]), rel=1e-3)


def test_amounts_that_are_all_nothing_are_no_measure() -> None:
    model, rows = amounts(ZeroInflated(), 1.0)
    nothing = Batch(rows.fields, torch.where(rows.labels > 0, rows.labels * torch.tensor([1.0, 0.0]), rows.labels), rows.seen, rows.index)
    assert math.isnan(float(_measures(model.schema, nothing, torch.ones(2))[1]))
    assert helps(model, nothing) == {}


LABELS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@given(rows=LABELS)
@settings(max_examples=150, deadline=None)
def test_overlap_stays_in_its_range_and_is_symmetric(rows: list[tuple[bool, bool]]) -> None:
    first, second = (np.array(column) for column in zip(*rows, strict=True))
    one, other = overlap(("a", "b"), first, second), overlap(("b", "a"), second, first)
    assert -1 - 1e-9 <= one.correlation <= 1 + 1e-9
    assert -1e-9 <= one.information <= 1 + 1e-9
    assert one.correlation == pytest.approx(other.correlation)
    assert one.information == pytest.approx(other.information)
    assert (one.second_in_first, one.first_in_second) == (other.first_in_second, other.second_in_first)


@given(rows=LABELS)
@settings(max_examples=80, deadline=None)
def test_one_label_with_itself_is_one_label_twice(rows: list[tuple[bool, bool]]) -> None:
    label = np.array([one for one, _ in rows])
    found = overlap(("a", "b"), label, label)
    varied = bool(label.any()) and not bool(label.all())
    assert found.duplicate is varied
    assert found.correlation == pytest.approx(1.0 if varied else 0.0)
