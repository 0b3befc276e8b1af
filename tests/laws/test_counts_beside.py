"""How many numbers the architectures beside `Mixture` learn, by hand from their equations."""

from __future__ import annotations

import pytest
from tests import everykind
from tests.laws.test_parameter_counts import DIM, EXPERT, INPUT, TOWER, dense, total

from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import ame
from umbel.schema import Schema, Task

TASKS = 3


def above(recipe: str, *, layers: int = 1, own: int = 1, shared: int = 1, tasks: int = TASKS) -> int:
    """What stands between a single view and the towers."""
    size = Sizes(everykind.VOCABULARY, dim=DIM, expert=EXPERT, tower=TOWER, specific=own, shared=shared, layers=layers)
    model: Recommender = everykind.build(recipe, "shared", size, tasks=tasks)
    return total(model) - view(model) - tasks * dense((EXPERT[-1], *TOWER, 1))


def view(model: Recommender) -> int:
    return model.table.numel() + sum(parameter.numel() for parameter in model.views.parameters())


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_cross_stitch(layers: int) -> None:
    """A network a task, and a 3 x 3 cell after each of its two hidden layers."""
    assert above("cross_stitch", layers=layers) == (
        TASKS * (dense((INPUT, *EXPERT)) + (layers - 1) * dense((EXPERT[-1], *EXPERT))) + layers * 2 * 9)


def test_one_task_has_no_cell() -> None:
    assert above("cross_stitch", tasks=1) == dense((INPUT, *EXPERT))


@pytest.mark.parametrize(("own", "shared"), [(1, 0), (1, 2), (3, 0), (2, 2)])
def test_adatt(own: int, shared: int) -> None:
    """A gate a task over all experts; a number for each own expert where there are several."""
    experts = TASKS * own + shared
    assert above("adatt", own=own, shared=shared) == (
        experts * dense((INPUT, *EXPERT)) + TASKS * dense((INPUT, experts)) + (TASKS * own if own > 1 else 0))


def test_adatt_of_two_layers() -> None:
    """Below, the commons has a gate and a residual too, since the shared experts above read it."""
    lower = 8 * dense((INPUT, *EXPERT)) + 4 * dense((INPUT, 8)) + 6 + 2
    upper = 8 * dense((EXPERT[-1], *EXPERT)) + 3 * dense((EXPERT[-1], 8)) + 6
    assert above("adatt", own=2, shared=2, layers=2) == lower + upper


@pytest.mark.parametrize("layers", [1, 2])
def test_snr(layers: int) -> None:
    """Four sub-networks a level; a number a connection, and a matrix each for the one with matrices."""
    networks = 4 * (dense((INPUT, *EXPERT)) + (layers - 1) * dense((EXPERT[-1], *EXPERT)))
    connections = 4 * TASKS + (layers - 1) * 4 * 4
    assert above("snr_aver", layers=layers) == networks + connections
    assert above("snr_trans", layers=layers) == networks + connections * (1 + EXPERT[-1] ** 2)


@pytest.mark.parametrize(("own", "shared"), [(1, 1), (2, 0), (2, 3)])
def test_home(own: int, shared: int) -> None:
    """Two groups by kind (click and like, seconds); below 2 own + shared experts, above 3 own + 2 own + shared."""
    def expert(width: int) -> int:
        gate = 2 * width * 4
        return gate + dense((width, *EXPERT)) + 2 * sum(EXPERT)

    below = (2 * own + shared) * expert(INPUT)
    if own + shared > 1:
        below += 2 * (dense((INPUT, own + shared)) + dense((INPUT, own)))
    if shared:
        below += dense((INPUT, 2 * own + shared)) + dense((INPUT, shared))
    above_ = (5 * own + shared) * expert(EXPERT[-1]) + 3 * (dense((EXPERT[-1], 2 * own + shared)) + dense((EXPERT[-1], own)))
    assert above("home", own=own, shared=shared) == below + above_


def test_pepnet() -> None:
    """One category says the domain, two ids are the prior: the view's gate, and a task's network with a gate a layer."""
    view_gate = dense((DIM + INPUT, INPUT, INPUT))
    network = dense((INPUT, *EXPERT)) + sum(dense((2 * DIM + INPUT, width, width)) for width in EXPERT)
    assert above("pepnet") == view_gate + TASKS * network


def test_pepnet_of_two_layers_is_a_longer_network() -> None:
    longer = dense((EXPERT[-1], *EXPERT)) + sum(dense((2 * DIM + INPUT, width, width)) for width in EXPERT)
    assert above("pepnet", layers=2) - above("pepnet") == TASKS * longer


@pytest.mark.parametrize("tasks", [2, 8])
def test_ame(tasks: int) -> None:
    """Tables of 1, 2 and 4 views, however many tasks; each brought to the first width of an expert."""
    size = Sizes(everykind.VOCABULARY, dim=DIM, expert=EXPERT, tower=TOWER)
    model = ame(Schema(everykind.FIELDS, tuple(Task(str(task)) for task in range(tasks))), size)
    assert model.table.shape[1] == 7 * DIM
    experts = tasks + 1
    assert sum(parameter.numel() for parameter in model.layers.parameters()) == (
        7 * INPUT * EXPERT[0] + 3 * EXPERT[0] + experts * dense((EXPERT[0], *EXPERT)) + tasks * dense((EXPERT[0], experts)))
