"""The parts that enrich an episode: propagation over values, the encoding of a set of items, the contrast of users."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from umbel.learn.slopes import sketched
from umbel.nn.avae import AttentionVae, Kind, Widths
from umbel.nn.contrast import contrast
from umbel.nn.propagate import RHO, Propagation

NODES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [5.0, -1.0]])
EDGES = torch.tensor([[0, 1, 1], [2, 2, 2]])  # node 1 met node 2 twice, node 3 met nobody


def dense(nodes: Tensor, edges: Tensor, layers: int) -> list[Tensor]:
    """The rounds by a matrix of counts."""
    counts = torch.zeros(len(nodes), len(nodes))
    for one, other in edges.T.tolist():
        counts[one, other] += 1
        counts[other, one] += 1
    degree = counts.sum(1)
    scale = torch.where(degree > 0, degree.clamp(min=1).rsqrt(), 0.0)
    rounds = [nodes]
    for _ in range(layers):
        rounds.append(scale[:, None] * counts @ (scale[:, None] * rounds[-1]))
    return rounds


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_propagation_is_the_dense_matrix(layers: int) -> None:
    rounds = dense(NODES, EDGES, layers)
    mean = torch.stack(rounds[1:]).mean(0)
    linked = torch.tensor([[1.0], [1.0], [1.0], [0.0]])
    torch.testing.assert_close(Propagation(layers)(NODES, EDGES), NODES + RHO * (mean - linked * NODES))
    torch.testing.assert_close(Propagation(layers, residual=False)(NODES, EDGES), torch.stack(rounds).mean(0))


def test_no_edges_no_layers_or_rho_0_is_the_identity() -> None:
    none = torch.zeros(2, 0, dtype=torch.int64)
    assert torch.equal(Propagation(3)(NODES, none), NODES)
    assert torch.equal(Propagation(0)(NODES, EDGES), NODES)
    assert torch.equal(Propagation(3, rho=0.0)(NODES, EDGES), NODES)
    torch.testing.assert_close(Propagation(3, residual=False)(NODES, none), NODES / 4)  # what the published form does to the lonely


def test_a_lonely_value_keeps_what_it_has() -> None:
    found = Propagation(3)(NODES, EDGES)
    assert torch.equal(found[3], NODES[3])
    assert (found[:3] != NODES[:3]).any(1).all()


def test_numbering_the_nodes_otherwise_changes_nothing() -> None:
    order = torch.tensor([2, 0, 3, 1])
    place = order.argsort()
    torch.testing.assert_close(Propagation(3)(NODES[order], place[EDGES]), Propagation(3)(NODES, EDGES)[order])


def test_rho_begins_at_a_quarter_and_is_learned() -> None:
    made = Propagation(2)
    assert made.rho.item() == pytest.approx(0.25)
    made(NODES, EDGES).sum().backward()
    assert made.lean.grad is not None
    assert float(made.lean.grad.abs()) > 0
    assert not Propagation(2, residual=False).lean.requires_grad


def vae(user: int = 4, *, scaled: bool = True) -> AttentionVae:
    torch.manual_seed(0)
    return AttentionVae(user, 3, widths=Widths(hidden=4, wide=5, latent=2), scaled=scaled)


def test_the_encoding_is_the_formula_written_out() -> None:
    made = vae()
    user, items = torch.randn(1, 1, 4), torch.randn(1, 3, 3)
    offered = items[0] @ made.offer.weight.T
    logits = offered @ (made.ask.weight @ user[0, 0]) / 2  # sqrt of the four hidden numbers
    t = torch.softmax(logits, 0) @ offered + user[0, 0]
    h = torch.relu(made.wide.weight @ t + made.wide.bias)
    found = made(user, items, torch.ones(1, 1, 3))
    torch.testing.assert_close(found.mean[0, 0], made.mean.weight @ h + made.mean.bias)
    torch.testing.assert_close(found.log_variance[0, 0], made.log_variance.weight @ h + made.log_variance.bias)


def test_rows_of_others_and_padding_do_not_enter_a_set() -> None:
    made, draw = vae(5), torch.Generator().manual_seed(1)
    user, items = torch.randn(2, 2, 5, generator=draw), torch.randn(2, 4, 3, generator=draw)
    there = torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 0]], [[0, 1, 0, 0], [0, 0, 0, 0]]])
    found = made(user, items, there).mean
    alone = made(user[:1, :1], items[:1, :2], torch.ones(1, 1, 2)).mean
    torch.testing.assert_close(found[0, 0], alone[0, 0])
    changed = items.clone()
    changed[0, 2:] = 9.0
    torch.testing.assert_close(made(user, changed, there).mean[0, 0], found[0, 0])


def test_a_set_without_items_is_told_by_the_user_alone_and_has_gradients() -> None:
    made = vae(5)
    user = torch.randn(1, 1, 5, requires_grad=True)
    found = made(user, torch.randn(1, 2, 3), torch.zeros(1, 1, 2))
    h = torch.relu(made.wide.weight @ (made.own(user[0, 0])) + made.wide.bias)
    torch.testing.assert_close(found.mean[0, 0], made.mean.weight @ h + made.mean.bias)
    found.mean.sum().backward()
    assert user.grad is not None
    assert user.grad.isfinite().all()
    assert all(one.grad is None or bool(one.grad.isfinite().all()) for one in made.parameters())


def test_attention_is_scaled_unless_it_is_to_be_as_published() -> None:
    draw = torch.Generator().manual_seed(1)
    user, items, there = torch.randn(1, 1, 4, generator=draw), torch.randn(1, 3, 3, generator=draw), torch.ones(1, 1, 3)
    plain, twice = vae(scaled=False), vae()
    with torch.no_grad():
        twice.ask.weight *= 2  # the square root of the four hidden numbers
    torch.testing.assert_close(plain(user, items, there).mean, twice(user, items, there).mean)
    assert not torch.allclose(plain(user, items, there).mean, vae()(user, items, there).mean, atol=1e-6)


def test_divergence_is_that_of_torch() -> None:
    kind = Kind(torch.tensor([[0.5, -1.0]]), torch.tensor([[0.2, -0.7]]))
    own = torch.distributions.Normal(kind.mean, (kind.log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(kind.divergence()[0], expected)
    assert float(Kind(torch.zeros(1, 2), torch.zeros(1, 2)).divergence()) == 0.0


def test_draws_have_their_mean_and_variance() -> None:
    torch.manual_seed(3)
    drawn = Kind(torch.full((20_000, 1), 2.0), torch.full((20_000, 1), math.log(0.25))).drawn()
    assert float(drawn.mean()) == pytest.approx(2.0, abs=0.02)
    assert float(drawn.std()) == pytest.approx(0.5, abs=0.02)


def test_contrast_by_hand() -> None:
    own = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    like = torch.tensor([[[1.0, 1.0], [7.0, 7.0]], [[0.0, 1.0], [1.0, 0.0]]])
    there = torch.tensor([[True, False], [True, True]])
    found = contrast(own, like, there, temperature=0.5)
    near = math.exp(math.sqrt(0.5) / 0.5)
    assert float(found[0]) == pytest.approx(-math.log(near / (near + math.exp(0.0))), abs=1e-5)
    total = math.exp(2.0) + 1.0 + 1.0  # two likes, and the other user at a right angle
    assert float(found[1]) == pytest.approx((-math.log(math.exp(2.0) / total) - math.log(1.0 / total)) / 2, abs=1e-5)


def test_contrast_of_nobody_or_alone_is_nothing() -> None:
    own, like = torch.randn(2, 3), torch.randn(2, 1, 3)
    assert contrast(own, like, torch.zeros(2, 1, dtype=torch.bool), temperature=0.2).tolist() == [0.0, 0.0]
    assert contrast(own[:1], like[:1], torch.ones(1, 1, dtype=torch.bool), temperature=0.2).tolist() == [0.0]


def test_contrast_draws_likes_nearer_and_others_apart() -> None:
    own = torch.tensor([[1.0, 0.2], [1.0, -0.2]], requires_grad=True)
    like = torch.tensor([[[0.5, 1.0]], [[0.5, -1.0]]])
    contrast(own, like, torch.ones(2, 1, dtype=torch.bool), temperature=0.2).sum().backward()  # type: ignore[no-untyped-call]
    assert own.grad is not None
    moved = own.detach() - 0.1 * own.grad
    before, after = (torch.cosine_similarity(one[0], one[1], dim=0) for one in (own.detach(), moved))
    assert after < before


def test_a_sketch_keeps_angles() -> None:
    draw = torch.Generator().manual_seed(0)
    slope = torch.randn(40, 5_000, generator=draw)
    slope[1:20] += slope[0]
    slope = torch.nn.functional.normalize(slope, dim=1)
    short = torch.nn.functional.normalize(sketched(slope, 2048), dim=1)
    error = (short @ short.T - slope @ slope.T)[~torch.eye(40, dtype=torch.bool)]
    assert float(error.abs().max()) < 0.1
    assert float(error.std()) == pytest.approx(1 / math.sqrt(2048), rel=0.3)
    assert abs(float(error.mean())) < 0.005
    assert torch.equal(sketched(slope, 2048), sketched(slope, 2048))
    assert not torch.equal(sketched(slope, 2048, seed=1), sketched(slope, 2048))
