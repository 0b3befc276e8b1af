"""A tensor in pieces by hand: linear maps and sums go piece by piece, everything else sees the whole, and asking costs nothing."""

from __future__ import annotations

from typing import final

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from umbel.nn.pieced import Fresh, Piece, Pieced, Slices

ONE = torch.tensor([[10.0, 20.0]])
EACH = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
WHOLE = torch.tensor([[1.0, 10.0, 20.0, 2.0], [3.0, 10.0, 20.0, 4.0], [5.0, 10.0, 20.0, 6.0]])
COLUMNS = (torch.tensor([1, 2]), torch.tensor([0, 3]))
WEIGHT = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.5, 0.0, -1.0, 0.25], [0.0, 0.0, 0.0, 1.0]])
BIAS = torch.tensor([100.0, 0.0, -1.0])


def made(one: Tensor = ONE, each: Tensor = EACH) -> Pieced:
    slices = Slices()
    return Pieced.of([Fresh(COLUMNS[0], one, slices), Fresh(COLUMNS[1], each, slices)], 3)


@final
class Counted(Piece):
    """A piece that says how often its numbers were asked for."""

    def __init__(self, columns: Int[Tensor, "own"], x: Float[Tensor, "rows own"]) -> None:
        self.columns, self.x, self.asked, self.met = columns, x, 0, 0

    def rows(self) -> Float[Tensor, "rows own"]:
        self.asked += 1
        return self.x

    def times(self, weight: Tensor) -> Float[Tensor, "rows out"]:
        self.met += 1
        return linear(self.x, weight[:, self.columns])

    def plus(self, other: Piece) -> Piece:
        return Counted(self.columns, self.x + other.rows())


def test_it_is_a_tensor_of_the_whole_shape() -> None:
    x = made()
    assert isinstance(x, Tensor)
    assert (tuple(x.shape), len(x), x.ndim, x.dtype) == ((3, 4), 3, 2, torch.float32)
    assert x.size(1) == 4
    assert x.new_ones(2, 1).tolist() == [[1.0], [1.0]]
    assert type(x.new_ones(2, 1)) is Tensor


def test_the_whole_has_every_column_in_its_place() -> None:
    assert torch.equal(made().whole(), WHOLE)
    assert type(made().whole()) is Tensor


def test_linear_is_that_of_the_whole() -> None:
    assert torch.equal(linear(made(), WEIGHT, BIAS), linear(WHOLE, WEIGHT, BIAS))
    assert torch.equal(linear(made(), WEIGHT), linear(WHOLE, WEIGHT))


def test_a_module_takes_it_for_a_tensor() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 1))
    with torch.inference_mode():
        torch.testing.assert_close(model(made()), model(WHOLE))


def test_linear_fetches_no_whole() -> None:
    pieces = [Counted(COLUMNS[0], ONE), Counted(COLUMNS[1], EACH)]
    x = Pieced.of(pieces, 3)
    asked = [piece.asked for piece in pieces]
    linear(x, WEIGHT, BIAS)
    assert (len(x), x.shape[1]) == (3, 4)
    x.new_ones(len(x), 1)
    assert [piece.asked for piece in pieces] == asked
    assert [piece.met for piece in pieces] == [1, 1]


def test_the_whole_is_fetched_once() -> None:
    pieces = [Counted(COLUMNS[0], ONE), Counted(COLUMNS[1], EACH)]
    x = Pieced.of(pieces, 3)
    before = pieces[1].asked
    assert torch.equal(x * 2, WHOLE * 2)
    assert torch.equal(torch.relu(x), WHOLE)
    assert pieces[1].asked == before + 1


def test_sums_stay_in_pieces() -> None:
    other = made(2 * ONE, 3 * EACH)
    whole = other.whole()
    for total in (made() + other, torch.add(made(), other), made().add(other)):
        assert isinstance(total, Pieced)
        assert torch.equal(total.whole(), WHOLE + whole)
        assert torch.equal(linear(total, WEIGHT, BIAS), linear(WHOLE + whole, WEIGHT, BIAS))


def test_sums_with_what_is_cut_otherwise_are_whole() -> None:
    slices = Slices()
    other = Pieced.of([Fresh(torch.tensor([0, 1, 2, 3]), WHOLE, slices)], 3)
    half = Pieced.of([Fresh(COLUMNS[0], ONE, slices)], 3)
    for total in (made() + other, other + made(), made() + WHOLE, WHOLE + made(), made() + 1.0):
        assert type(total) is Tensor
    assert torch.equal(made() + other, 2 * WHOLE)
    assert torch.equal(half + half, 2 * half.whole())
    assert torch.equal(made() + WHOLE, 2 * WHOLE)


@pytest.mark.parametrize(
    "sees",
    [
        lambda x: torch.cat([x, x], 1), lambda x: torch.stack([x, x]), lambda x: x[:, 1:3], lambda x: x.unbind(1)[2], lambda x: x.sum(),
        lambda x: x @ WEIGHT.T, lambda x: torch.baddbmm(torch.zeros(1), x[None], WEIGHT.T[None]), lambda x: nn.functional.pad(x, (0, 1)),
        lambda x: x.index_select(1, torch.tensor([3, 0])), lambda x: nn.functional.layer_norm(x, (4,)), lambda x: x.view(3, 2, 2),
        lambda x: torch.einsum("rc,rd->cd", x, x), lambda x: x.softmax(1), lambda x: torch.where(x > 3, x, 0.0),
    ],
)  # fmt: skip
def test_everything_else_sees_the_whole(sees: object) -> None:
    assert callable(sees)
    found = sees(made())
    assert type(found) is Tensor
    assert torch.equal(found, sees(WHOLE))


def test_columns_in_common_alone_make_rows_of_their_own() -> None:
    x = Pieced.of([Fresh(torch.tensor([1, 0]), ONE, Slices())], 3)
    found = linear(x, WEIGHT[:, :2], BIAS)
    assert torch.equal(found, torch.tensor([[20.0, 10.0]]).expand(3, 2) @ WEIGHT[:, :2].T + BIAS)
    found.relu_()  # an answer may be changed in place, and no row is another
    found[0] += 1
    assert not torch.equal(found[0], found[1])


def test_one_row_is_enough() -> None:
    x = Pieced.of([Fresh(COLUMNS[0], ONE, Slices()), Fresh(COLUMNS[1], EACH[:1], Slices())], 1)
    assert torch.equal(linear(x, WEIGHT, BIAS), linear(WHOLE[:1], WEIGHT, BIAS))


def test_no_input_is_changed() -> None:
    one, each, weight = ONE.clone(), EACH.clone(), WEIGHT.clone()
    x = made(one, each)
    linear(x, weight, BIAS).relu_()
    total = x + x
    assert isinstance(total, Pieced)
    total.whole().mul_(2)
    assert torch.equal(one, ONE)
    assert torch.equal(each, EACH)
    assert torch.equal(weight, WEIGHT)


def test_columns_of_a_weight_are_cut_once() -> None:
    slices = Slices()
    first = slices(WEIGHT, COLUMNS[0])
    assert torch.equal(first, WEIGHT[:, 1:3])
    assert slices(WEIGHT, COLUMNS[0]) is first
    assert torch.equal(slices(WEIGHT, COLUMNS[1]), WEIGHT[:, [0, 3]])
    assert torch.equal(slices(WEIGHT + 1, COLUMNS[0]), first + 1)
