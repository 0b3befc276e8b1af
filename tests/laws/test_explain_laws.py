"""Explanations keep their laws whatever is explained: they add up, a row's is its own, and fields that are not read add nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.everykind import fields
from tests.kindrows import ROWS, Row
from tests.laws.test_combinations import COVERING, Choice, made
from torch import Tensor

from umbel.kinds import TASK_KINDS
from umbel.nn.recommender import Recommender
from umbel.study.explain.explain import doubled
from umbel.study.explain.integrate import FLOOR, Integrated, integrate
from umbel.study.explain.scale import scale

PROMISED = 1e-3  # of |f(x) - f(x0)|


def seen(model: Recommender, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.views(model.rows(batch), batch)
    return found.double()


def misses(found: Integrated) -> Tensor:
    """By how much a row's sums miss, as a share of what is promised: at most 1."""
    allowed = (PROMISED * found.change.abs()).clamp(min=FLOOR)
    return (found.contributions.sum(2) - found.change).abs() / allowed


def near(found: Integrated) -> Tensor:
    """How alike two explanations of a row are: which piece of a way is halved may hang on the last bit of a number."""
    return 2 * PROMISED * found.contributions.abs().sum(2, keepdim=True)


@pytest.mark.parametrize("choice", COVERING, ids="-".join)
def test_a_combination_is_explained(choice: Choice) -> None:
    """Sums come out against the model itself, and nothing of the model is changed."""
    model, rows = made(choice).eval(), fields(2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x, base = seen(model, rows), seen(model, fields(1, seed=9))[0]
    above = doubled(model)
    found = integrate(above.beyond, x, base)
    assert found.contributions.shape == (*model(rows).shape, len(rows))  # auxiliary outputs, too
    assert misses(found).max() <= 1
    expected = model(rows).double() - model.beyond(base.float().unsqueeze(0)).double()
    torch.testing.assert_close(found.change, expected, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("choice", COVERING[::6], ids="-".join)
def test_rows_alone_in_any_order_and_again(choice: Choice) -> None:
    model = made(choice).eval()
    x, base = seen(model, fields(3)), seen(model, fields(1, seed=9))[0]
    above = doubled(model)
    found = integrate(above.beyond, x, base)
    for rows in ([2, 0], [1]):
        other = integrate(above.beyond, x[rows], base).contributions
        assert ((other - found.contributions[rows]).abs() <= near(found)[rows]).all()
    assert torch.equal(integrate(above.beyond, x, base).contributions, found.contributions)


@pytest.mark.parametrize("choice", COVERING[::9], ids="-".join)
def test_a_field_at_the_baseline_adds_nothing(choice: Choice) -> None:
    """Dummy: what does not differ from the baseline has no contribution, and a row at the baseline none at all."""
    model = made(choice).eval()
    x, base = seen(model, fields(4)), seen(model, fields(1, seed=9))[0]
    x[:, :, 2], x[0] = base[:, 2], base
    found = integrate(doubled(model).beyond, x, base)
    assert not found.contributions[:, :, 2].any()
    assert not found.contributions[0].any()
    assert found.contributions[1:, :, [0, 1, 3, 4]].any()


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_every_kind_of_task_has_a_scale(row: Row) -> None:
    """A column an answer, finite even where chances are all but sure, and rows are read one by one."""
    kind = row.kind
    draw = torch.Generator().manual_seed(1)
    outputs = 5 * torch.randn(40, kind.outputs, generator=draw, dtype=torch.float64)
    found = scale(kind).of(outputs)
    assert found.shape == (40, len(kind.answers))
    assert found.isfinite().all()
    assert scale(kind).of(100 * outputs.sign()).isfinite().all()
    assert torch.equal(scale(kind).of(outputs[7:8]), found[7:8])
    assert scale(kind).unit


def test_the_rows_are_of_all_kinds() -> None:
    assert {row.kind.name for row in ROWS.values()} == set(TASK_KINDS)


@pytest.mark.parametrize("seed", range(4))
def test_random_nets_with_kinks_and_curves(seed: int) -> None:
    """A net of ReLU and tanh over eight fields: sums come out on every row, also where f(x) and f(x0) are nearly equal."""
    draw = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in ((16, 40), (40, 2)))
    x, base = torch.randn(16, 1, 8, 2, generator=draw, dtype=torch.float64), torch.randn(1, 8, 2, generator=draw, dtype=torch.float64)

    def net(x: Tensor) -> Tensor:
        hidden = x.flatten(1) @ first
        return (hidden.relu() + hidden.tanh()) @ second

    found = integrate(net, x, base)
    assert misses(found).max() <= 1
    close = base + (x - base) * 1e-6
    assert misses(integrate(net, close, base)).max() <= 1
    assert np.isfinite(found.contributions.numpy()).all()
