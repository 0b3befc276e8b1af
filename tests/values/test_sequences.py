"""Sequence encoders on numbers made by hand, their parameters by formula, and what is refused."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tests import everykind
from tests.everykind import fields, sizes

from umbel.errors import UserError
from umbel.nn.recommender import Parts
from umbel.nn.sequence import SEQUENCES, Listing, SequenceSizes, listings
from umbel.nn.sequence.din import TargetAttention
from umbel.nn.sequence.read import Read
from umbel.nn.sequence.sasrec import Block
from umbel.recipes import mmoe
from umbel.schema import Field, FieldKind, Schema, Task

TABLE = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 1.0]])
WATCHED = Listing("watched", 1, 3, 0, ordered=True)
PLACE = torch.tensor([[0, 0, 2, -1], [1, -1, -1, -1], [2, 1, -1, 3]])


def test_listings_of_every_kind() -> None:
    assert listings(everykind.schema()) == (Listing("watched", 1, 4, 6, ordered=True), Listing("tags", 7, 2, None, ordered=False))


def test_a_target_of_several_values_is_none() -> None:
    bag = Field("basket", FieldKind.BAG, length=2)
    schema = Schema((bag, Field("seen", FieldKind.SEQUENCE, like="basket", target="basket", length=3)), (Task("click"),))
    assert [one.target for one in listings(schema)] == [None, None]


def attention() -> Read:
    """One view, one list, a unit of one number: `a = relu(4 t_0 + 1 e_0 + 2 (e t)_1 - 1) * 0.5 + 0.25`."""
    encoder = SEQUENCES["din"](SequenceSizes(hidden=1))((WATCHED,), (1, 2))
    assert isinstance(encoder, Read)
    unit = encoder.reader
    assert isinstance(unit, TargetAttention)
    with torch.no_grad():
        unit.own.copy_(torch.tensor([[[1.0], [0.0]]]))
        unit.against.copy_(torch.tensor([[[4.0], [0.0]]]))
        unit.product.copy_(torch.tensor([[[0.0], [2.0]]]))
        unit.last.fill_(0.5)
        unit.biases[0].fill_(-1.0)
        unit.biases[1].fill_(0.25)
    return encoder


def test_target_attention_by_hand() -> None:
    found = attention()(TABLE, PLACE)[:, 0, 0]
    # row 0: target (1, 0); entries (1, 0): relu(4 + 1 + 0 - 1) = 4 -> 2.25; (3, 3): relu(4 + 3 + 0 - 1) = 6 -> 3.25
    assert found[0].tolist() == [(2.25 * 1 + 3.25 * 3) / 2, (3.25 * 3) / 2]
    assert found[1].tolist() == [0.0, 0.0]
    # row 2: target (3, 3); entries (0, 2): relu(12 + 0 + 12 - 1) = 23 -> 11.75; (-1, 1): relu(12 - 1 + 6 - 1) = 16 -> 8.25
    assert found[2].tolist() == [8.25 * -1 / 2, (11.75 * 2 + 8.25) / 2]


def test_the_weights_of_entries_can_be_read() -> None:
    unit = attention().reader
    assert isinstance(unit, TargetAttention)
    entries = TABLE[[0, 2]].view(1, 1, 2, 2)
    assert unit.weights(entries, TABLE[:1].unsqueeze(0)).tolist() == [[[2.25, 3.25]]]


def test_order_is_nothing_to_target_attention() -> None:
    moved = PLACE[:, [0, 3, 1, 2]]
    torch.testing.assert_close(attention()(TABLE, moved), attention()(TABLE, PLACE))


def test_the_candidate_matters_to_target_attention_and_not_to_the_mean() -> None:
    other = PLACE.clone()
    other[:, 0] = 3
    assert not torch.equal(attention()(TABLE, other), attention()(TABLE, PLACE))
    mean = SEQUENCES["mean"](SequenceSizes())((WATCHED,), (1, 2))
    assert torch.equal(mean(TABLE, other), mean(TABLE, PLACE))


def test_a_unit_that_has_learned_nothing_gives_the_mean() -> None:
    lists = listings(everykind.schema())
    table, place = torch.randn(20, 6), torch.randint(-1, 20, (7, 9)).clamp(min=-1)
    place[:, 6].clamp_(min=0)
    din, mean = (SEQUENCES[name](SequenceSizes())(lists, (2, 3)) for name in ("din", "mean"))
    with torch.no_grad():
        din.get_parameter("reader.last").zero_()
    torch.testing.assert_close(din(table, place), mean(table, place))


def test_lists_of_different_lengths_side_by_side() -> None:
    """The shorter one is padded, and reads nothing of its neighbours' slots."""
    long, short = Listing("long", 1, 3, 0, ordered=True), Listing("short", 4, 1, 0, ordered=True)
    place = torch.tensor([[0, 1, 2, -1, 3]])
    torch.manual_seed(0)
    both = SEQUENCES["din"](SequenceSizes())((long, short), (1, 2))
    moved = torch.tensor([[0, 2, 1, 1, 3]])
    assert torch.equal(both(TABLE, place)[:, 1], both(TABLE, moved)[:, 1])
    assert not torch.equal(both(TABLE, place)[:, 0], both(TABLE, moved)[:, 0])


def test_the_candidate_in_a_history_is_heard_through_a_model() -> None:
    """The same history, another item: the field `watched` of the model changes under din alone."""
    batch = fields(6, missing=False)
    other = {**batch, "item": (batch["item"] + 1) % 17}
    for name, heard in (("mean", False), ("din", True)):
        torch.manual_seed(0)
        model = everykind.awake(mmoe(everykind.schema(), sizes(), parts=Parts(sequence=SEQUENCES[name](SequenceSizes()))))
        seen, moved = (model.views(model.rows(one), one)[:, 0, 2] for one in (batch, other))
        assert torch.equal(seen, moved) != heard


def transformer(*, views: int = 1) -> Read:
    """One block whose attention and hidden layer add nothing, and whose positions are 10 for the last entry, 20, 30 before it."""
    encoder = SEQUENCES["sasrec"](SequenceSizes())((WATCHED,), (views, 2))
    assert isinstance(encoder, Read)
    with torch.no_grad():
        encoder.get_parameter("reader.blocks.0.attention.value").zero_()
        encoder.get_parameter("reader.blocks.0.weights.1").zero_()
        encoder.get_parameter("reader.positions.0").copy_(torch.tensor([[10.0], [20.0], [30.0]]).expand(views, 3, 2))
    return encoder


def test_the_last_entry_is_the_summary() -> None:
    assert transformer()(TABLE, PLACE)[:, 0, 0].tolist() == [[13.0, 13.0], [0.0, 0.0], [9.0, 11.0]]


def test_entries_are_heard_by_their_place_from_the_end() -> None:
    """Attention that hears all alike gives the mean of the normalised entries, (1, -1) or (-1, 1) by which number is larger."""
    encoder = transformer()
    with torch.no_grad():
        encoder.get_parameter("reader.blocks.0.attention.query").zero_()
        encoder.get_parameter("reader.blocks.0.attention.value").copy_(torch.eye(2).view(1, 2, 1, 2))
        encoder.get_parameter("reader.positions.0").copy_(torch.tensor([[[5.0, 0.0], [0.0, 5.0], [0.0, 5.0]]]))
    found = encoder(TABLE, PLACE)[:, 0, 0]
    # row 0: (1, 0) + (0, 5) is (-1, 1), (3, 3) + (5, 0) is (1, -1): a mean of 0 beside the last state (8, 3)
    torch.testing.assert_close(found[0], torch.tensor([8.0, 3.0]), atol=1e-4, rtol=0)
    # row 2: (0, 2) + (0, 5) is (-1, 1), (-1, 1) + (5, 0) is (1, -1)
    torch.testing.assert_close(found[2], torch.tensor([4.0, 1.0]), atol=1e-4, rtol=0)


def test_a_later_entry_is_not_heard_by_an_earlier_one() -> None:
    """Two blocks: what the first makes of an entry does not depend on those behind it."""
    torch.manual_seed(0)
    block = Block(1, 4, heads=2)
    x = torch.randn(1, 1, 5, 4)
    earlier = torch.ones(1, 1, 5, 5, dtype=torch.bool).tril()
    before, after = block(x, x, earlier), x.clone()
    after[0, 0, 3, 1] += 1.0
    moved = (block(after, after, earlier) != before)[0, 0].any(1)
    assert moved.tolist() == [False, False, False, True, True]


@pytest.mark.parametrize("heads", [3, 16])
def test_heads_that_do_not_divide_dim(heads: int) -> None:
    with pytest.raises(UserError) as caught:
        SEQUENCES["sasrec"](SequenceSizes(heads=heads))((WATCHED,), (2, 8))
    assert str(caught.value) == f"model.sequence_sizes.heads = {heads} does not divide model.dim = 8; use one of 1, 2, 4, 8"


def test_a_bag_has_no_order_and_keeps_its_mean() -> None:
    bag = Listing("tags", 1, 3, None, ordered=False)
    sasrec, mean = (SEQUENCES[name](SequenceSizes())((bag,), (1, 2)) for name in ("sasrec", "mean"))
    assert not list(sasrec.parameters())
    assert torch.equal(sasrec(TABLE, PLACE), mean(TABLE, PLACE))


@pytest.mark.parametrize("hidden", [1, 16])
@pytest.mark.parametrize(("views", "dim", "lists"), [(1, 1, 1), (3, 4, 2)])
def test_parameters_by_formula(hidden: int, views: int, dim: int, lists: int) -> None:
    own = tuple(Listing(str(number), 1 + 2 * number, 2, 0, ordered=True) for number in range(lists))
    expected = {"mean": 0, "din": 3 * dim * hidden + hidden + hidden + 1}
    expected["sasrec"] = 2 * dim + 2 * (5 * dim**2 + 6 * dim)  # positions; two blocks of five maps, two biases and two norms
    assert set(expected) == set(SEQUENCES)
    for name, numbers in expected.items():
        encoder = SEQUENCES[name](SequenceSizes(hidden=hidden, layers=2))(own, (views, dim))
        assert sum(one.numel() for one in encoder.parameters()) == views * lists * numbers, name


def test_target_attention_without_any_target_is_refused() -> None:
    item, seen = Field("item", FieldKind.ID), Field("seen", FieldKind.SEQUENCE, like="item", length=3)
    schema, numbers = Schema((item, seen), (Task("click"),)), Schema((Field("age", FieldKind.NUMBER),), (Task("click"),))
    parts = Parts(sequence=SEQUENCES["din"](SequenceSizes()))
    with pytest.raises(UserError, match=r"model\.sequence: 'din', but 'seen' names no target; add target"):
        mmoe(schema, everykind.sizes(), parts=parts)
    assert mmoe(numbers, everykind.sizes(), parts=parts)({"age": torch.zeros(2)}).shape == (2, 1)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (partial(SequenceSizes, hidden=0), "model.sequence_sizes.hidden = 0; give 1 or more"),
        (partial(SequenceSizes, layers=0), "model.sequence_sizes.layers = 0; give 1 or more"),
        (partial(SequenceSizes, heads=-2), "model.sequence_sizes.heads = -2; give 1 or more"),
    ],
)
def test_impossible_sizes(sizes: partial[SequenceSizes], message: str) -> None:
    with pytest.raises(UserError) as caught:
        sizes()
    assert str(caught.value) == message
