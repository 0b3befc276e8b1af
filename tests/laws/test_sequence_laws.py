"""The laws of every sequence encoder: padding never matters, nothing gives zeros, and each view and list is by itself."""

from __future__ import annotations

import pytest
import torch
from tests import everykind
from tests.everykind import fields, sizes
from torch import Tensor

from umbel.nn.losses import task_losses
from umbel.nn.recommender import Parts
from umbel.nn.sequence import SEQUENCES, Listing, SequenceEncoder, SequenceSizes
from umbel.recipes import stem

VIEWS, DIM, CODES = 3, 4, 9
TARGETED = Listing("watched", 1, 5, 0, ordered=True)
LOOSE = Listing("seen", 6, 3, None, ordered=True)
BAG = Listing("tags", 9, 2, None, ordered=False)
LISTS = (TARGETED, LOOSE, BAG)
SLOTS = 11
MAKERS = {name: SEQUENCES[name](SequenceSizes()) for name in SEQUENCES}
MAKERS["sasrec of two blocks"] = SEQUENCES["sasrec"](SequenceSizes(layers=2, heads=2))


def made(name: str, lists: tuple[Listing, ...] = LISTS, *, shape: tuple[int, int] = (VIEWS, DIM)) -> SequenceEncoder:
    """With random weights, biases too."""
    torch.manual_seed(0)
    encoder = MAKERS[name](lists, shape)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape))
    return encoder


def table(*, views: int = VIEWS) -> Tensor:
    return torch.randn(CODES, views * DIM, generator=torch.Generator().manual_seed(1))


def places(rows: int = 8) -> Tensor:
    """Slot 0 is the target, never padding; the second row's lists are empty, the third's hold one value."""
    found = torch.randint(-1, CODES, (rows, SLOTS), generator=torch.Generator().manual_seed(2))
    found[:, 0].clamp_(min=0)
    found[1:2, 1:] = -1
    found[2:3, 2:] = -1
    found[2:3, 1] = 4
    return found


@pytest.mark.parametrize("name", MAKERS)
def test_a_summary_a_list_and_view(name: str) -> None:
    assert made(name)(table(), places()).shape == (8, len(LISTS), VIEWS, DIM)


@pytest.mark.parametrize("name", MAKERS)
def test_an_empty_list_gives_zeros(name: str) -> None:
    found = made(name)(table(), places())
    assert not found[1].any()
    assert found[0].any()


@pytest.mark.parametrize("name", MAKERS)
def test_where_padding_stands_changes_nothing(name: str) -> None:
    encoder, place = made(name), places(1)
    place[0, 1:6] = torch.tensor([3, 7, 2, -1, -1])
    before = encoder(table(), place)
    for other in ([3, 7, -1, 2, -1], [-1, -1, 3, 7, 2], [-1, 3, -1, 7, 2]):
        place[0, 1:6] = torch.tensor(other)
        torch.testing.assert_close(encoder(table(), place), before, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_longer_padding_changes_nothing(name: str) -> None:
    """The same history where the field allows for more, by the same weights."""
    few, many = made(name, (TARGETED,)), made(name, (Listing("watched", 1, 9, 0, ordered=True),))
    with torch.no_grad():
        for key, parameter in few.named_parameters():
            wide = many.get_parameter(key)
            wide[tuple(slice(size) for size in parameter.shape)] = parameter
    place = torch.cat([places()[:, :6], torch.full((8, 4), -1)], 1)
    torch.testing.assert_close(many(table(), place), few(table(), place[:, :6]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_what_stands_where_padding_is_changes_nothing(name: str) -> None:
    """Padding is looked up at row 0: which must not be heard, nor taught."""
    encoder, place = made(name), torch.where(places() == 0, 1, places())
    values = table().requires_grad_()
    before = encoder(values, place)
    gradient = torch.autograd.grad(before.square().sum(), values)[0]
    assert not gradient[0].any()
    torch.testing.assert_close(encoder(values.detach().index_fill(0, torch.tensor([0]), 100.0), place), before)


@pytest.mark.parametrize("name", MAKERS)
def test_rows_alone_are_rows_together(name: str) -> None:
    encoder, place = made(name), places()
    together = encoder(table(), place)
    for row in range(len(place)):
        torch.testing.assert_close(encoder(table(), place[row:row + 1])[0], together[row], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_no_view_sees_another(name: str) -> None:
    encoder, values = made(name), table()
    before = encoder(values, places())
    values[:, DIM:2 * DIM] += 1.0
    after = encoder(values, places())
    for view in range(VIEWS):
        assert torch.equal(after[:, :, view], before[:, :, view]) == (view != 1)


@pytest.mark.parametrize("name", MAKERS)
def test_no_list_sees_another(name: str) -> None:
    encoder, place = made(name), places()
    before = encoder(table(), place)
    place[:, LOOSE.start:LOOSE.start + LOOSE.length] = 5
    after = encoder(table(), place)
    for number in range(len(LISTS)):
        assert torch.equal(after[:, number], before[:, number]) == (number != 1)


@pytest.mark.parametrize("name", MAKERS)
def test_a_view_alone_is_the_view_among_others(name: str) -> None:
    encoder = made(name)
    together, whole = encoder(table(), places()), dict(encoder.named_parameters())
    for view in range(VIEWS):
        alone = made(name, shape=(1, DIM))
        with torch.no_grad():
            for part in encoder.parts(view):
                alone.get_parameter(part.name).copy_(part.of(whole))
        found = alone(table()[:, view * DIM:(view + 1) * DIM].contiguous(), places())
        torch.testing.assert_close(found[:, :, 0], together[:, :, view], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_parts_cover_every_number_once_and_every_number_learns(name: str) -> None:
    encoder = made(name)
    counts = {key: torch.zeros_like(parameter) for key, parameter in encoder.named_parameters()}
    for view in range(VIEWS):
        for part in encoder.parts(view):
            part.of(counts).add_(1)
    assert all(bool((count == 1).all()) for count in counts.values())
    objective = encoder(table(), places(64)).square().sum()
    if counts:
        gradients = torch.autograd.grad(objective, list(encoder.parameters()))
        assert all(bool(gradient.flatten(1).any(1).all()) for gradient in gradients)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("lists", [(TARGETED,), (BAG, TARGETED), (TARGETED, LOOSE, BAG)])
def test_any_lists(name: str, lists: tuple[Listing, ...]) -> None:
    found = made(name, lists)(table(), places())
    assert found.shape == (8, len(lists), VIEWS, DIM)
    assert found.isfinite().all()


@pytest.mark.parametrize("name", MAKERS)
def test_order_matters_to_the_transformer_alone(name: str) -> None:
    encoder, place = made(name, (TARGETED,)), torch.tensor([[0, 3, 7, 2, 8, 5]])
    same = torch.allclose(encoder(table(), place), encoder(table(), place[:, [0, 5, 3, 4, 2, 1]]), atol=1e-6)
    assert same != name.startswith("sasrec")


@pytest.mark.parametrize("name", MAKERS)
def test_the_candidate_matters_to_target_attention_alone(name: str) -> None:
    encoder, place = made(name), torch.where(places() == 0, 1, places())
    other = place.clone()
    other[:, 0] = 0
    moved = (encoder(table(), place) != encoder(table(), other)).flatten(2).any(2).any(0)
    assert moved.tolist() == [name == "din", False, False]


@pytest.mark.parametrize("name", MAKERS)
def test_nothing_to_look_up(name: str) -> None:
    encoder = made(name)
    assert encoder(table(), places()[:0]).shape == (0, len(LISTS), VIEWS, DIM)
    nothing = torch.full((2, SLOTS), -1)
    assert not encoder(table()[:0], nothing).any()


@pytest.mark.parametrize("name", MAKERS)
def test_twice_differentiable(name: str) -> None:
    encoder, values = made(name).double(), table().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda given: encoder(given, places(3)), (values,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda given: encoder(given, places(3)), (values,), fast_mode=True)


@pytest.mark.parametrize("name", MAKERS)
def test_many_tables_and_weights_at_once(name: str) -> None:
    encoder = made(name)
    weights = {key: torch.stack([0.5 * parameter, parameter]) for key, parameter in encoder.named_parameters()}
    tables = torch.stack([table(), 2 * table()])
    spots = torch.stack([places(), places().flip(0)])

    def summed(own: dict[str, Tensor], values: Tensor, place: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(encoder, own, (values, place))
        return found

    found = torch.func.vmap(summed)(weights, tables, spots)
    for number in range(2):
        expected = summed({key: one[number] for key, one in weights.items()}, tables[number], spots[number])
        torch.testing.assert_close(found[number], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_half_precision_is_near(name: str) -> None:
    encoder = made(name)
    exact = encoder(table(), places())
    with torch.autocast("cpu", torch.bfloat16):
        near = encoder(table(), places())
    assert (near.float() - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("name", SEQUENCES)
def test_one_batch_can_be_overfitted(name: str) -> None:
    torch.manual_seed(2)
    model = stem(everykind.schema(), sizes(), parts=Parts(sequence=SEQUENCES[name](SequenceSizes())))
    batch, labels = fields(16), everykind.labels(16, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        loss = task_losses(model(batch), labels, model.schema).sum()
        torch.autograd.backward(loss)
        optimizer.step()
    assert loss.item() < 0.05
