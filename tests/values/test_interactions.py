"""Interactions on numbers made by hand, their parameters by formula, and impossible sizes."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from umbel.errors import UserError
from umbel.nn.interact import INTERACTS, Interact, InteractSizes
from umbel.nn.interact.autoint import AutoInt
from umbel.nn.interact.dcn import DCN
from umbel.nn.interact.fm import FM
from umbel.nn.interact.masknet import MaskNet

# One row, two views, two fields of two numbers.
X = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]], [[0.0, -1.0], [2.0, 4.0]]]])


def told(interact: Interact, weights: dict[str, list[Tensor]]) -> list[list[list[float]]]:
    with torch.no_grad():
        for name, own in weights.items():
            for level, one in enumerate(own):
                interact.get_parameter(f"{name}.{level}").copy_(one)
    return [view.tolist() for view in interact(X)]


def test_fm_by_hand() -> None:
    first, second = FM((2, 2, 2))(X)
    assert first.tolist() == [[1.0, 2.0, 3.0, 5.0, 1.0 * 3, 2.0 * 5]]
    assert second.tolist() == [[0.0, -1.0, 2.0, 4.0, 0.0, -4.0]]


def test_fm_of_three_fields_sums_every_pair_once() -> None:
    x = torch.tensor([2.0, 3.0, 7.0]).view(1, 1, 3, 1)
    assert FM((1, 3, 1))(x)[0][0, -1].item() == 2 * 3 + 2 * 7 + 3 * 7


def test_fm_of_one_field_has_no_pairs() -> None:
    assert FM((1, 1, 2))(torch.tensor([[[[3.0, 4.0]]]]))[0].tolist() == [[3.0, 4.0, 0.0, 0.0]]


def test_one_cross_layer_by_hand() -> None:
    """View 0's map sums everything; view 1's hands on the first number alone, and its bias is 10."""
    first = torch.zeros(4, 4)
    first[0] = 1.0
    weights = torch.stack([torch.ones(4, 4), first])
    biases = torch.tensor([[[0.0] * 4], [[10.0] * 4]])
    found = told(DCN((2, 2, 2), layers=1), {"weights": [weights], "biases": [biases]})
    assert found[0] == [[1 * 11 + 1, 2 * 11 + 2, 3 * 11 + 3, 5 * 11 + 5]]
    assert found[1] == [[0.0, -1 * 10 - 1, 2 * 10 + 2, 4 * 10 + 4]]


def test_two_cross_layers_multiply_three_times() -> None:
    """With maps that hand on everything and no bias: x -> x + x^2 -> x + 2x^2 + x^3."""
    same = torch.eye(4).expand(2, 4, 4)
    found = told(DCN((2, 2, 2), layers=2), {"weights": [same, same]})
    assert found[0] == [[x + 2 * x**2 + x**3 for x in (1.0, 2.0, 3.0, 5.0)]]


def test_a_low_rank_map_is_the_product_of_two() -> None:
    down, up = torch.tensor([[1.0], [0.0], [2.0], [0.0]]).expand(2, 4, 1), torch.tensor([[1.0, 2.0, 3.0, 4.0]]).expand(2, 1, 4)
    low = told(DCN((2, 2, 2), layers=1, rank=1), {"weights": [down, up]})
    assert low[0] == [[1 * (7 * 1 + 1), 2 * (7 * 2 + 1), 3 * (7 * 3 + 1), 5 * (7 * 4 + 1)]]
    assert low == told(DCN((2, 2, 2), layers=1), {"weights": [down @ up]})


def test_without_weights_a_cross_layer_hands_the_fields_on() -> None:
    assert told(DCN((2, 2, 2), layers=2), {"weights": [torch.zeros(2, 4, 4)] * 2}) == [[[1, 2, 3, 5]], [[0, -1, 2, 4]]]


def test_fields_that_attend_by_hand() -> None:
    """One field of one number asks the other: with `Q = K = 1` and `x = (0, log 3)` the second weighs (1/4, 3/4) for itself only."""
    interact = AutoInt((1, 2, 1), layers=1, heads=1)
    with torch.no_grad():
        for name, value in (("query", 1.0), ("key", 1 / math.log(3)), ("value", 1.0)):
            interact.attentions[0].get_parameter(name).fill_(value)
        interact.weights[0].fill_(10.0)
    found = interact(torch.tensor([[[[0.0], [math.log(3)]]]]))[0]
    # field 0 asks with 0: both weigh 1/2. Field 1's scores are 0 and log 3.
    torch.testing.assert_close(found, torch.tensor([[math.log(3) / 2, 0.75 * math.log(3) + 10 * math.log(3)]]))


def test_what_falls_below_zero_is_cut() -> None:
    interact = AutoInt((1, 2, 1), layers=1, heads=1)
    with torch.no_grad():
        interact.attentions[0].get_parameter("value").zero_()
        interact.weights[0].fill_(1.0)
    assert interact(torch.tensor([[[[-3.0], [2.0]]]]))[0].tolist() == [[0.0, 2.0]]


def masked(bias: float) -> list[float]:
    """One block that adds up two fields of two numbers, each normalised to (-1, 1) or (1, -1), and its negative."""
    interact = MaskNet((1, 2, 2), layers=1, hidden=2)
    with torch.no_grad():
        interact.weights[0].zero_()
        interact.weights[1].zero_()
        interact.weights[2].copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0], [1.0, -1.0], [0.0, 0.0]]))
        interact.biases[1].fill_(bias)
        interact.gains[0].copy_(torch.tensor([[[1.0, 1.0], [3.0, 3.0]]]))
        interact.gains[1].fill_(5.0)
        interact.shifts[1].copy_(torch.tensor([0.5, 0.25]))
    found: list[float] = interact(torch.tensor([[[[100.0, 300.0], [300.0, 100.0]]]]))[0][0].tolist()
    return found


def test_a_mask_block_by_hand() -> None:
    """-1 from the first field and 3 from the second: (2, -2), normalised (1, -1), times 5, shifted, cut at zero."""
    assert masked(1.0) == pytest.approx([5.5, 0.0], abs=1e-4)


def test_a_mask_of_zero_leaves_the_shift() -> None:
    assert masked(0.0) == pytest.approx([0.5, 0.25])


def test_a_negative_mask_turns_the_sign() -> None:
    assert masked(-1.0) == pytest.approx([0.0, 5.25], abs=1e-4)


@pytest.mark.parametrize(("dim", "hidden", "says"), [
    (2, 1, "model.interact_sizes.hidden = 1: masknet's norm over a row needs 2 numbers; give 2 or more"),
    (1, 8, "model.dim = 1: masknet's norm over a row needs 2 numbers; give 2 or more"),
    (1, 1, "model.dim = 1: masknet's norm over a row needs 2 numbers; give 2 or more"),
])
def test_a_norm_over_one_number_is_refused(dim: int, hidden: int, says: str) -> None:
    """It makes 0 of any number, and the model a constant."""
    with pytest.raises(UserError) as caught:
        INTERACTS["masknet"](InteractSizes(hidden=hidden))((1, 3, dim))
    assert str(caught.value) == says


@pytest.mark.parametrize("layers", [1, 2])
def test_masks_of_two_numbers_tell_rows_apart(layers: int) -> None:
    torch.manual_seed(0)
    interact = INTERACTS["masknet"](InteractSizes(layers=layers, hidden=2))((1, 3, 2))
    found = interact(torch.randn(16, 1, 3, 2))[0]
    assert (found.std(0) > 0.1).all()


@pytest.mark.parametrize("heads", [3, 5, 16])
def test_heads_that_do_not_divide_dim(heads: int) -> None:
    with pytest.raises(UserError) as caught:
        INTERACTS["autoint"](InteractSizes(heads=heads))((2, 3, 8))
    assert str(caught.value) == f"model.interact_sizes.heads = {heads} does not divide model.dim = 8; use one of 1, 2, 4, 8"


@pytest.mark.parametrize(("views", "fields", "dim"), [(1, 1, 2), (2, 3, 4), (4, 5, 2)])
@pytest.mark.parametrize("layers", [1, 3])
def test_widths_and_parameters_by_formula(views: int, fields: int, dim: int, layers: int) -> None:
    wide = fields * dim
    expected = {
        "concatenate": (wide, 0),
        "fm": (wide + dim, 0),
        "dcn": (wide, layers * (wide**2 + wide)),
        "dcn of rank": (wide, layers * (2 * wide * 2 + wide)),
        # a mask's two layers, the map to a block's output, two norms: the first is every block's
        "masknet": (layers * 5, layers * (3 * wide * 5 + 5 + wide + 2 * 5) + 2 * wide),
        "autoint": (wide, layers * 4 * dim**2),
    }
    make = {name: INTERACTS[name](InteractSizes(layers=layers, hidden=5)) for name in INTERACTS}
    make["dcn of rank"] = INTERACTS["dcn"](InteractSizes(layers=layers, rank=2))
    assert set(make) == set(expected)
    for name, (width, numbers) in expected.items():
        interact = make[name]((views, fields, dim))
        assert (interact.width, sum(one.numel() for one in interact.parameters())) == (width, views * numbers), name


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (partial(InteractSizes, layers=0), "model.interact_sizes.layers = 0; give 1 or more"),
        (partial(InteractSizes, hidden=0), "model.interact_sizes.hidden = 0; give 1 or more"),
        (partial(InteractSizes, heads=-1), "model.interact_sizes.heads = -1; give 1 or more"),
        (partial(InteractSizes, rank=0), "model.interact_sizes.rank = 0; give 1 or more, or leave it out for whole matrices"),
    ],
)
def test_impossible_sizes(sizes: partial[InteractSizes], message: str) -> None:
    with pytest.raises(UserError) as caught:
        sizes()
    assert str(caught.value) == message
