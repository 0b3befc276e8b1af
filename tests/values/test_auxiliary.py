"""Auxiliary tasks: heard by others, hearing nobody, trained and not judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests import everykind
from tests.everykind import fields, sizes
from tests.laws.test_gradient_law import check
from tests.loops import Leaves, mix

from umbel.errors import UserError
from umbel.evaluate.judge import Predictions, evaluate, mean_score
from umbel.nn import routing
from umbel.nn.routing import PARADIGMS, own_and_shared
from umbel.recipes import stem, stem_al
from umbel.schema import Field, FieldKind, Schema, Task


def helped(tasks: int, *helps: int) -> Schema:
    """Tasks of which some are auxiliary."""
    plain = everykind.schema(tasks)
    return Schema(plain.fields, tuple(replace(task, auxiliary=number in helps) for number, task in enumerate(plain.tasks)))


def test_the_table() -> None:
    made = routing.stem_al(3, (1, 1), own_and_shared, helps=(1,))
    assert made.text(["click", "watch", "like", "commons"]).splitlines() == [
        "reads     0   1   2   3",
        "click     ●   ○   ○   ●  gate 0+3",
        "watch         ●          gate none",
        "like      ○   ○   ●   ●  gate 2+3",
        "commons   ○   ○   ○   ●  gate 3",
    ]


def test_its_gate_reads_its_own_view() -> None:
    made = routing.stem_al(2, (2, 1), own_and_shared, helps=(1,))
    assert made.text(["click", "watch", "commons"]).splitlines() == [
        "reads     0   0   1   1   2",
        "click     ●   ●   ○   ○   ●  gate 0+2",
        "watch             ●   ●      gate 1",
        "commons   ○   ○   ○   ○   ●  gate 2",
    ]


def test_without_an_auxiliary_task_it_is_stem() -> None:
    assert routing.stem_al(3, (2, 2), own_and_shared, helps=()) == routing.stem(3, (2, 2), own_and_shared)
    torch.manual_seed(0)
    one = stem(everykind.schema(), sizes())
    torch.manual_seed(0)
    assert torch.equal(stem_al(everykind.schema(), sizes())(fields()), one(fields()))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_reach(paradigm: str, layers: int) -> None:
    torch.manual_seed(0)
    check(stem_al(helped(3, 1), sizes(layers=layers, specific=2), paradigm=PARADIGMS[paradigm]))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_an_auxiliary_task_teaches_itself_alone_and_learns_from_nobody_else(layers: int) -> None:
    model = stem_al(helped(3, 2), sizes(layers=layers))
    taught = {name for name, tasks in model.reach.items() if 2 in tasks}
    assert taught == {"view 2", "tower like", *(f"layer {level} expert 2" for level in range(layers))}
    assert model.reach["view 2"] == (2,)
    assert model.reach["view 3"] == (0, 1)


def test_main_tasks_hear_it_and_it_hears_nobody() -> None:
    """Another auxiliary view moves the main task; another main view does not move the auxiliary one."""
    torch.manual_seed(0)
    model = everykind.awake(stem_al(helped(2, 1), sizes())).eval()
    before = model(fields()).detach()
    dim = model.views.dim
    with torch.no_grad():
        model.table[:, dim:2 * dim] += 0.5
    moved = model(fields()).detach()
    assert not torch.allclose(moved[:, 0], before[:, 0])
    with torch.no_grad():
        model.table[:, :dim] -= 0.5
        model.table[:, 2 * dim:] -= 0.5
    assert torch.equal(model(fields())[:, 1], moved[:, 1])


def test_by_plain_loops() -> None:
    """The main task's gate over its own, the auxiliary's (detached) and the shared expert; the auxiliary task's own expert."""
    torch.manual_seed(1)
    leaves, batch = Leaves(everykind.awake(stem_al(helped(2, 1), sizes())).eval()), fields(11)
    x = [leaves.view(batch, view) for view in range(3)]
    own, other, shared = (leaves.mlp(f"layer 0 expert {expert}", x[expert]) for expert in range(3))
    share = torch.softmax(leaves.mlp("layer 0 gate 0", x[0] + x[2], linear=True), 1)
    leaves.check(leaves.towers([mix(share, [own, other.detach(), shared]), other]), batch)


def judged(*helps: int) -> Predictions:
    schema = Schema((Field("user", FieldKind.ID),), tuple(Task(name, auxiliary=number in helps) for number, name in enumerate("ab")))
    logits = np.array([[2.0, -2.0], [1.0, 2.0], [-1.0, 1.0], [-2.0, -1.0]])
    events = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    return Predictions(schema, logits, events, np.ones((4, 2), bool), np.arange(4))


def test_it_has_no_report() -> None:
    calibrated = np.full((4, 2), 0.5)
    assert [task.name for task in evaluate(judged(), calibrated)] == ["a", "b"]
    assert [task.name for task in evaluate(judged(1), calibrated)] == ["a"]
    assert [task.name for task in evaluate(judged(0), calibrated)] == ["b"]


def test_it_does_not_stop_training() -> None:
    """Task a is ranked perfectly (AUC 1), task b the wrong way round (AUC 0)."""
    def score(*helps: int) -> object:
        found = judged(*helps)
        return mean_score(found.schema, found.events, found.observed, logits=found.logits)

    assert (score(), score(1), score(0)) == (0.5, 1.0, 0.0)


def test_somebody_is_judged() -> None:
    with pytest.raises(UserError, match="tasks: all are auxiliary; leave one to be judged"):
        Schema((Field("user", FieldKind.ID),), (Task("a", auxiliary=True),))
    assert [task.name for task in judged(0).schema.judged] == ["b"]


def test_its_numbers_by_hand() -> None:
    """Four experts; two gates over four, and none for the auxiliary task, which hears one."""
    model = stem_al(helped(3, 1), sizes())
    per_expert = (24 * 10 + 10) + (10 * 8 + 8)
    gates = 2 * (24 * 4 + 4)
    assert sum(parameter.numel() for parameter in model.layers.parameters()) == 4 * per_expert + gates
    assert model.views.views == 4
