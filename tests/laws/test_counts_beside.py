"""How many numbers the architectures beside `Mixture` learn, by hand from their equations."""

from __future__ import annotations

import pytest
from tests import everykind
from tests.laws.test_parameter_counts import DIM, EXPERT, INPUT, TOWER, dense, total

from umbel.nn.recommender import Recommender, Sizes

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
