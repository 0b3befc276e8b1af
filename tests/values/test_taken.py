"""What a step takes from a linear map, by hand, and the same in both forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from umbel.learn.taken import ByMatrix, ByRows, Pace, Taken, shorter

PACE = Pace(torch.tensor(0.5), torch.tensor(2.0))


def rows(numbers: list[list[float]]) -> Tensor:
    """Of one source and one user."""
    return torch.tensor(numbers)[None, None]


X, D = rows([[1.0, 2.0], [0.0, 1.0]]), rows([[3.0], [-1.0]])


@pytest.fixture(params=["rows", "matrix"])
def taken(request: pytest.FixtureRequest) -> Taken:
    return ByRows(X, D) if request.param == "rows" else ByMatrix.of(X, D)


def test_ahead_behind_and_square_by_hand(taken: Taken) -> None:
    """dW = 3 (1, 2) - (0, 1) = (3, 5), db = 2."""
    assert taken.ahead(rows([[1.0, 1.0], [2.0, 0.0]]), PACE).flatten().tolist() == [0.5 * 8 + 2 * 2, 0.5 * 6 + 2 * 2]
    assert taken.behind(rows([[2.0]]), PACE).flatten().tolist() == [3.0, 5.0]
    assert taken.square().tolist() == [9.0 + 25 + 4]
    assert taken.matrix().weight.flatten().tolist() == [3.0, 5.0]
    assert taken.matrix().bias.flatten().tolist() == [2.0]


def test_two_steps_add_up(taken: Taken) -> None:
    x, d = rows([[1.0, 0.0]]), rows([[4.0]])
    both = taken.plus(ByRows(x, d) if isinstance(taken, ByRows) else ByMatrix.of(x, d))
    assert both.matrix().weight.flatten().tolist() == [7.0, 5.0]
    assert both.matrix().bias.flatten().tolist() == [6.0]


def test_rows_met_again_are_kept_once() -> None:
    both = ByRows(X, D, pairs=X @ X.mT).plus(ByRows(X, D, pairs=X @ X.mT))
    assert both.x is X
    assert both.d.flatten().tolist() == [6.0, -2.0]
    assert torch.equal(both.ahead(X, PACE), ByRows(X, 2 * D).ahead(X, PACE))


def test_a_scale_is_the_users_own(taken: Taken) -> None:
    assert taken.scaled(torch.tensor([0.5])).square().tolist() == [38.0 / 4]


@pytest.mark.parametrize("broken", [float("inf"), float("nan")])
@pytest.mark.parametrize("by_rows", [True, False])
def test_what_is_no_number_becomes_nothing(broken: float, *, by_rows: bool) -> None:
    """Of two users, one of whom has no numbers, in inputs or gradients."""
    x, d = torch.cat([X, X], 1), torch.cat([D, D], 1)
    x[0, 1, 0, 0], d[0, 1, 1, 0] = broken, broken
    made: Taken = ByRows(x, d) if by_rows else ByMatrix.of(x, d)
    only = made.only(torch.tensor([True, False]))
    assert only.square().tolist() == [38.0, 0.0]
    assert only.ahead(torch.cat([X, X], 1), PACE)[0, 1].abs().sum() == 0


def test_rows_are_shorter_where_they_hold_fewer_numbers() -> None:
    assert shorter(10, 64, 256)
    assert shorter(31, 64, 64)
    assert not shorter(32, 64, 64)
    assert not shorter(10, 1, 64)
