"""Look-ups, projections and compacted tables in small numbers."""

from __future__ import annotations

import pytest
import torch
from tests import everykind
from tests.everykind import fields
from torch import Tensor

from umbel.nn.encode import Counts, Numbers, Vectors
from umbel.nn.recommender import Sizes
from umbel.nn.views import Places, Views, compact
from umbel.recipes import stem
from umbel.schema import Field, FieldKind, Schema, Task

TASK = (Task("click"),)
USER = Field("user", FieldKind.ID)
ITEM = Field("item", FieldKind.ID)
WATCHED = Field("watched", FieldKind.SEQUENCE, like="item", length=3)
AGE = Field("age", FieldKind.NUMBER)
FACE = Field("face", FieldKind.VECTOR, width=2)


def place(schema: Schema, vocabulary: dict[str, int], batch: dict[str, Tensor]) -> list[list[int]]:
    found: list[list[int]] = Places(schema, vocabulary)(batch).tolist()
    return found


def test_places_are_codes_behind_the_vocabularies_before_them() -> None:
    schema = Schema((USER, AGE, WATCHED, ITEM), TASK)
    batch = {"user": torch.tensor([0, 3]), "watched": torch.tensor([[1, 2, -1], [-1, -1, -1]]), "item": torch.tensor([5, 0])}
    assert place(schema, {"user": 4, "item": 6}, batch) == [[0, 5, 6, -1, 9], [3, -1, -1, -1, 4]]


def test_a_field_that_shares_a_table_shares_its_places() -> None:
    schema = Schema((ITEM, WATCHED), TASK)
    batch = {"item": torch.tensor([2]), "watched": torch.tensor([[2, 2, 0]])}
    assert place(schema, {"item": 6}, batch) == [[2, 2, 2, 0]]


def test_codes_out_of_range() -> None:
    schema = Schema((USER, WATCHED, ITEM), TASK)
    batch = {"user": torch.tensor([-1]), "watched": torch.tensor([[99, -5, 5]]), "item": torch.tensor([6])}
    assert place(schema, {"user": 4, "item": 6}, batch) == [[0, 4, -1, 9, 4]]


def test_places_of_narrow_codes_are_wide() -> None:
    found = Places(Schema((USER,), TASK), {"user": 4})({"user": torch.tensor([3], dtype=torch.int32)})
    assert found.dtype == torch.int64


@pytest.mark.parametrize("shape", [(2, 2), (2, 4), (2,)])
def test_a_sequence_of_another_length(shape: tuple[int, ...]) -> None:
    codes = torch.zeros(shape, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"`watched` has 3 columns. Received: shape \(2,"):
        Places(Schema((ITEM, WATCHED), TASK), {"item": 6})({"item": torch.zeros(2, dtype=torch.int64), "watched": codes})


def test_views_by_hand() -> None:
    """Two views of two numbers: a table row is [view 0 | view 1]."""
    schema = Schema((WATCHED, ITEM), TASK)
    table = torch.arange(12.0).view(3, 4)
    rows = {"table": table, "place": torch.tensor([[1, 2, -1, 2], [-1, -1, -1, 0]])}
    views = Views(schema, (2, 2))
    assert views.counts is not None
    with torch.no_grad():
        views.counts.weight.zero_()
    found = views(rows, {})
    assert found.shape == (2, 2, 2, 2)
    assert found[0].tolist() == [[[6.0, 7.0], [8.0, 9.0]], [[8.0, 9.0], [10.0, 11.0]]]
    assert found[1].tolist() == [[[0.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [2.0, 3.0]]]


def test_fields_come_in_the_order_of_the_schema() -> None:
    """Each field set to a number of its own, whatever it is made from."""
    schema = everykind.schema()
    views = Views(schema, (2, 1))
    table = torch.zeros(40, 2)
    for number, start in enumerate((0, 11, 16, 33)):
        table[start:] = float(number + 1)
    with torch.no_grad():
        assert views.numbers is not None
        assert views.counts is not None
        views.counts.weight.zero_()
        views.numbers.weight.zero_()
        views.numbers.missing[:, :, 0] = torch.tensor([[5.0], [6.0]])
        views.vectors[0].get_parameter("missing").fill_(7.0)
    batch = fields(2)
    batch |= {"age": torch.full((2,), torch.nan), "price": torch.full((2,), torch.nan), "picture": torch.full((2, 3), torch.nan)}
    batch |= {"watched": torch.zeros(2, 4, dtype=torch.int32), "tags": torch.zeros(2, 2, dtype=torch.int32)}
    found = views({"table": table, "place": Places(schema, vocabulary())(batch)}, batch)
    # user, age, watched (of item), hour, item, price, tags, picture; vocabularies stand in the order user, hour, item, tags
    assert found[0, 0, :, 0].tolist() == [1.0, 5.0, 3.0, 2.0, 3.0, 6.0, 4.0, 7.0]
    assert torch.equal(found[:, 0], found[:, 1])


def vocabulary() -> dict[str, int]:
    assert everykind.schema().tables == ("user", "hour", "item", "tags")
    return everykind.VOCABULARY


def test_counts_by_hand() -> None:
    """Two lists of at most 3 and 1; one view of two numbers."""
    counts = Counts((3, 1), (1, 2))
    with torch.no_grad():
        counts.weight.copy_(torch.tensor([[[1.0, 2.0]], [[10.0, 20.0]]]))
    found = counts(torch.tensor([[0, 0], [3, 1], [1, 0]]))
    assert found.shape == (3, 2, 1, 2)
    assert found[0].tolist() == [[[0.0, 0.0]], [[0.0, 0.0]]]
    torch.testing.assert_close(found[1], torch.tensor([[[1.0, 2.0]], [[10.0, 20.0]]]))
    torch.testing.assert_close(found[2, 0, 0], torch.tensor([0.5, 1.0]))  # log 2 / log 4


def test_a_count_tells_lists_of_one_mean_apart() -> None:
    schema = Schema((WATCHED, ITEM), TASK)
    rows = {"table": torch.arange(12.0).view(3, 4), "place": torch.tensor([[1, -1, -1, 2], [1, 1, 1, 2]])}
    found = Views(schema, (2, 2))(rows, {})
    assert torch.equal(found[0, :, 1], found[1, :, 1])
    assert (found[0, :, 0] != found[1, :, 0]).all()


def test_numbers_by_hand() -> None:
    numbers = Numbers(["age", "price"], (2, 1))
    with torch.no_grad():
        numbers.weight.copy_(torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]))
        numbers.missing.copy_(torch.tensor([[[-1.0], [-2.0]], [[-3.0], [-4.0]]]))
    found = numbers({"age": torch.tensor([10.0, torch.nan]), "price": torch.tensor([torch.nan, 0.0])})
    assert found.flatten(1).tolist() == [[10.0, 20.0, -3.0, -4.0], [-1.0, -2.0, 0.0, 0.0]]


def test_a_missing_number_teaches_its_own_vector_only() -> None:
    numbers = Numbers(["age"], (1, 2))
    found = numbers({"age": torch.tensor([torch.nan])})
    weight, missing = torch.autograd.grad(found.sum(), [numbers.weight, numbers.missing])
    assert not weight.any()
    assert missing.flatten().tolist() == [1.0, 1.0]
    found = numbers({"age": torch.tensor([3.0])})
    weight, missing = torch.autograd.grad(found.sum(), [numbers.weight, numbers.missing])
    assert weight.flatten().tolist() == [3.0, 3.0]
    assert not missing.any()


def test_vectors_by_hand() -> None:
    vectors = Vectors("face", 2, shape=(2, 1))
    with torch.no_grad():
        vectors.weight.copy_(torch.tensor([[1.0, 10.0], [2.0, 20.0]]))
        vectors.missing.copy_(torch.tensor([[-1.0], [-2.0]]))
    found = vectors({"face": torch.tensor([[1.0, 1.0], [torch.nan, torch.nan], [0.0, 2.0]])})
    assert found.shape == (3, 1, 2, 1)
    assert found.flatten(1).tolist() == [[11.0, 22.0], [-1.0, -2.0], [20.0, 40.0]]


def test_a_half_missing_vector_is_missing_and_its_gradient_finite() -> None:
    vectors = Vectors("face", 2, shape=(1, 1))
    found = vectors({"face": torch.tensor([[torch.nan, 4.0]])})
    torch.testing.assert_close(found.flatten(), vectors.missing.flatten())
    (weight,) = torch.autograd.grad(found.sum(), [vectors.weight])
    assert not weight.any()


def test_fields_without_codes() -> None:
    schema = Schema((AGE, FACE), TASK)
    views = Views(schema, (2, 3))
    rows = {"table": torch.zeros(0, 6), "place": torch.zeros(4, 0, dtype=torch.int64)}
    assert views(rows, {"age": torch.randn(4), "face": torch.randn(4, 2)}).shape == (4, 2, 2, 3)


def test_fresh_embeddings_are_small_and_row_0_is_like_any() -> None:
    torch.manual_seed(0)
    table = fresh()
    assert table.std().item() == pytest.approx(1e-4, rel=0.05)
    assert table[0].abs().max() > 0


def fresh() -> Tensor:
    return stem(Schema((USER,), (Task("a"), Task("b"))), Sizes({"user": 400}, dim=16)).table.detach()


def test_compact_by_hand() -> None:
    table = torch.arange(10.0).view(5, 2)
    touched, local = compact({"table": table, "place": torch.tensor([[4, -1, 1], [1, 1, 4]])})
    assert touched.tolist() == [1, 4]
    assert local["table"].tolist() == [[2.0, 3.0], [8.0, 9.0]]
    assert local["place"].tolist() == [[1, -1, 0], [0, 0, 1]]


@pytest.mark.parametrize("size", [12, 30, 31, 5_000])
def test_both_ways_of_compacting_agree_with_unique(size: int) -> None:
    """Up to twice as many table rows as places they are marked, beyond that sorted."""
    draw = torch.Generator().manual_seed(size)
    table, places = torch.randn(size, 3, generator=draw), torch.randint(-1, size, (5, 3), generator=draw)
    places[0, 0], places[1, 1] = size - 1, 0
    touched, local = compact({"table": table, "place": places})
    assert touched.tolist() == sorted({one for one in places.flatten().tolist() if one >= 0})
    known = places >= 0
    assert torch.equal(local["place"] >= 0, known)
    assert torch.equal(touched[local["place"][known].long()], places[known])
    assert torch.equal(local["table"], table[touched])


@pytest.mark.parametrize("size", [3, 5_000])
def test_nothing_to_touch(size: int) -> None:
    touched, local = compact({"table": torch.randn(size, 2), "place": torch.full((2, 3), -1)})
    assert len(touched) == 0
    assert local["table"].shape == (0, 2)
    assert local["place"].tolist() == [[-1, -1, -1]] * 2


def test_no_rows_at_all() -> None:
    touched, local = compact({"table": torch.randn(4, 2), "place": torch.zeros(0, 3, dtype=torch.int64)})
    assert len(touched) == 0
    assert local["place"].shape == (0, 3)


def test_a_compacted_table_is_a_leaf_of_its_own() -> None:
    table = torch.randn(6, 2, requires_grad=True)
    places = torch.tensor([[1, 3]])
    _, local = compact({"table": table, "place": places})
    leaf = local["table"]
    assert leaf.is_leaf
    assert leaf.requires_grad
    with torch.no_grad():
        leaf.zero_()
    assert table.detach().abs().min() > 0
    assert places.tolist() == [[1, 3]]


def test_compact_carries_what_else_there_is() -> None:
    extra = torch.ones(2)
    _, local = compact({"table": torch.randn(3, 2), "place": torch.tensor([[0]]), "extra": extra})
    assert local["extra"] is extra


def test_places_are_of_the_type_that_gradients_are_added_up_by() -> None:
    for size in (4, 5_000):
        _, local = compact({"table": torch.randn(size, 2), "place": torch.tensor([[0, -1]])})
        assert local["place"].dtype == torch.int64
