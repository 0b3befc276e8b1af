"""A shelf of rows by hand: what is put is fetched by its number, products are those of the rows, and room grows without harm."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from umbel.nn.kept import FEWEST, Shelf, Shelved
from umbel.nn.pieced import Pieced, Slices

COLUMNS = torch.tensor([2, 0])
WEIGHT = torch.tensor([[1.0, 50.0, 10.0], [0.0, 50.0, -1.0]])


def seen(rows: int, start: int = 0) -> Tensor:
    """Two views of two columns, every number another."""
    return torch.arange(4.0 * start, 4.0 * (start + rows)).view(rows, 2, 2)


def shelf() -> Shelf:
    return Shelf(COLUMNS, Slices())


def test_rows_get_numbers_in_the_order_in_which_they_come() -> None:
    one = shelf()
    assert one.put(seen(2), {}).tolist() == [0, 1]
    assert one.put(seen(3, 2), {}).tolist() == [2, 3, 4]
    assert one.count == 5
    assert torch.equal(one.every(torch.tensor([4, 0, 0])), seen(5)[[4, 0, 0]])


def test_no_rows_are_none() -> None:
    one = shelf()
    one.put(seen(2), {})
    assert one.put(seen(0), {}).tolist() == []
    assert one.count == 2


def test_views_are_seen_one_by_one_or_in_sum() -> None:
    one = shelf()
    one.put(seen(3), {})
    numbers = torch.tensor([2, 1])
    assert torch.equal(one.seen((1,), numbers), seen(3)[[2, 1], 1])
    assert torch.equal(one.seen((0, 1), numbers), seen(3)[[2, 1]].sum(1))


def test_a_product_meets_the_shelfs_columns_of_a_weight() -> None:
    one = shelf()
    one.put(seen(2), {})
    # view 0 of row 0 is [0, 1], its columns 2 and 0: 0 * 10 + 1 * 1 and 0 * -1 + 1 * 0
    assert one.product((0,), WEIGHT, torch.tensor([0, 1])).tolist() == [[1.0, 0.0], [45.0, -4.0]]
    assert one.product((0, 1), WEIGHT, torch.tensor([1])).tolist() == [[(4 + 6) * 10.0 + (5 + 7), -10.0]]


def test_rows_that_come_later_are_in_the_product() -> None:
    one = shelf()
    one.put(seen(2), {})
    one.product((1,), WEIGHT, torch.tensor([0]))
    numbers = one.put(seen(2, 2), {})
    expected = linear(seen(4)[2:, 1], WEIGHT[:, COLUMNS])
    assert torch.equal(one.product((1,), WEIGHT, numbers), expected)


def test_room_grows_and_everything_stays() -> None:
    one = shelf()
    one.put(seen(10), {"item": torch.arange(10)})
    early = one.product((0,), WEIGHT, torch.arange(10)).clone()
    numbers = one.put(seen(3 * FEWEST, 10), {"item": torch.arange(10, 10 + 3 * FEWEST)})
    assert torch.equal(one.product((0,), WEIGHT, torch.arange(10)), early)
    assert torch.equal(one.every(torch.arange(10)), seen(10))
    torch.testing.assert_close(one.product((0,), WEIGHT, numbers), linear(seen(3 * FEWEST, 10)[:, 0], WEIGHT[:, COLUMNS]))
    assert one.fields(torch.tensor([9, 10, 3000]))["item"].tolist() == [9, 10, 3000]


def test_fields_come_back_as_they_were() -> None:
    one = shelf()
    one.put(seen(2), {"item": torch.tensor([7, 8], dtype=torch.int32), "tags": torch.tensor([[1, -1], [2, 3]])})
    one.put(seen(1, 2), {"item": torch.tensor([9], dtype=torch.int32), "tags": torch.tensor([[4, 5]])})
    found = one.fields(torch.tensor([2, 0]))
    assert found["item"].tolist() == [9, 7]
    assert found["item"].dtype is torch.int32
    assert found["tags"].tolist() == [[4, 5], [1, -1]]


def test_what_was_forgotten_is_written_over() -> None:
    one = shelf()
    one.put(seen(3), {"item": torch.arange(3)})
    one.product((0,), WEIGHT, torch.arange(3))
    one.drop(3)
    assert one.count == 0
    assert one.put(seen(2, 50), {"item": torch.tensor([50, 51])}).tolist() == [0, 1]
    assert torch.equal(one.product((0,), WEIGHT, torch.arange(2)), linear(seen(2, 50)[:, 0], WEIGHT[:, COLUMNS]))
    assert one.fields(torch.arange(2))["item"].tolist() == [50, 51]


@pytest.mark.parametrize("gone", [0, 1, 2, 4, 5])
def test_the_first_are_forgotten_and_the_others_come_down(gone: int) -> None:
    """Whether or not they come to where some of them were; what is put then follows them."""
    one = shelf()
    one.put(seen(5), {"item": torch.arange(5), "tags": torch.arange(10).view(5, 2)})
    one.product((0, 1), WEIGHT, torch.arange(5))
    one.drop(gone)
    assert one.count == 5 - gone
    left = torch.arange(5 - gone)
    assert torch.equal(one.every(left), seen(5)[gone:])
    assert one.fields(left)["item"].tolist() == list(range(gone, 5))
    assert one.fields(left)["tags"].flatten().tolist() == list(range(2 * gone, 10))
    numbers = one.put(seen(2, 50), {"item": torch.tensor([50, 51]), "tags": torch.zeros(2, 2, dtype=torch.int64)})
    assert numbers.tolist() == [5 - gone, 6 - gone]
    every = torch.arange(7 - gone)
    assert one.fields(every)["item"].tolist() == [*range(gone, 5), 50, 51]
    expected = linear(torch.cat([seen(5)[gone:], seen(2, 50)]).sum(1), WEIGHT[:, COLUMNS])
    assert torch.equal(one.product((0, 1), WEIGHT, every), expected)


def test_an_empty_shelf_forgets_nothing() -> None:
    one = shelf()
    one.drop(0)
    assert one.put(seen(1), {}).tolist() == [0]


def test_an_answer_may_be_changed_in_place() -> None:
    one = shelf()
    one.put(seen(2), {})
    numbers = torch.arange(2)
    before = one.product((0,), WEIGHT, numbers).clone()
    one.product((0,), WEIGHT, numbers).mul_(0)
    one.seen((0,), numbers).mul_(0)
    assert torch.equal(one.product((0,), WEIGHT, numbers), before)
    assert torch.equal(one.every(numbers), seen(2))


def test_rows_of_a_shelf_are_a_piece() -> None:
    one = shelf()
    one.put(seen(3), {})
    numbers = torch.tensor([2, 2, 0])
    piece = Shelved(one, (0,), numbers)
    assert torch.equal(piece.rows(), seen(3)[numbers, 0])
    both = piece.plus(Shelved(one, (1,), numbers))
    assert torch.equal(both.rows(), seen(3)[numbers].sum(1))
    assert torch.equal(both.times(WEIGHT), linear(seen(3)[numbers].sum(1), WEIGHT[:, COLUMNS]))


@pytest.mark.parametrize("views", [(0,), (1,), (0, 1)])
def test_a_shelf_alone_can_be_a_whole(views: tuple[int, ...]) -> None:
    one = Shelf(torch.tensor([1, 0]), Slices())
    one.put(seen(3), {})
    numbers = torch.tensor([1, 0])
    x = Pieced.of([Shelved(one, views, numbers)], 2)
    expected = seen(3)[numbers][:, list(views)].sum(1).flip(1)
    assert torch.equal(x.whole(), expected)
    torch.testing.assert_close(linear(x, WEIGHT[:, :2]), linear(expected, WEIGHT[:, :2]))


def test_two_weights_of_one_shape_are_told_apart() -> None:
    one = shelf()
    one.put(seen(2), {})
    numbers = torch.arange(2)
    assert torch.equal(one.product((0,), 2 * WEIGHT, numbers), 2 * one.product((0,), WEIGHT, numbers))
    for _ in range(20):  # a weight that is gone gives its identity to no other
        torch.testing.assert_close(one.product((0,), WEIGHT.clone(), numbers), one.product((0,), WEIGHT, numbers))
        torch.testing.assert_close(one.product((0,), WEIGHT * 3, numbers), 3 * one.product((0,), WEIGHT, numbers))
