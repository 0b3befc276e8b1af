"""Balancers on numbers small enough to work out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from tests.gramians import KNOWN, gramian
from torch import Tensor

from umbel.balance.balancer import Balancer
from umbel.balance.cone import unopposed
from umbel.balance.descent import Descent
from umbel.balance.named import balancer

A, B, C = 18.0, -22.0, 38.0  # the Gramian of KNOWN: [[A, B], [B, C]]
NONE = torch.zeros(0)


def first(name: str, jacobian: Tensor = KNOWN, **settings: float) -> list[float]:
    """The weights of a fresh balancer."""
    weights: list[float] = balancer(name, len(jacobian), settings)(torch.ones(len(jacobian)).double(), gramian(jacobian)).tolist()
    return weights


def told(own: Balancer, *losses: float, norms: tuple[float, ...] = (1.0, 1.0)) -> list[float]:
    """The weights that follow from losses, and from gradients at right angles of these lengths."""
    weights: list[float] = own(torch.tensor(losses).double(), gramian(torch.diag(torch.tensor(norms).double()))).tolist()
    return weights


# The known table, as directions `J'w`. CAGrad is divided by 1 + c here; Nash-MTL is scaled to length 1 there.


@pytest.mark.parametrize(("name", "settings", "factor", "direction"), [
    ("mgda", {}, 1.0, [0.0, 1.0, 1.0]),
    ("pcgrad", {}, 1.0, [0.5848, 3.8012, 3.8012]),
    ("upgrad", {}, 1.0, [0.2929, 1.9004, 1.9004]),
    ("imtl_g", {}, 1.0, [0.0767, 1.0, 1.0]),
    ("aligned_mtl", {}, 1.0, [0.2133, 0.9673, 0.9673]),
    ("dualproj", {}, 1.0, [0.5563, 1.1109, 1.1109]),
    ("gradvac", {}, 1.0, [0.5848, 3.8012, 3.8012]),
    ("cagrad", {"c": 0.5}, 1.5, [0.1835, 1.2041, 1.2041]),
    ("cagrad", {"c": 0.4}, 1.4, [0.3468, 1.1633, 1.1633]),
])
def test_the_known_table(name: str, settings: dict[str, float], factor: float, direction: list[float]) -> None:
    found = factor * torch.tensor(first(name, KNOWN, **settings)).double() @ KNOWN
    assert found.tolist() == pytest.approx(direction, abs=1e-4)


def test_the_known_table_of_nash_mtl_and_fairgrad() -> None:
    """Their lengths follow the Gramian's unit; the directions are known, to what the ridge of 1e-4 moves them."""
    for name, settings, direction in [("nash_mtl", {}, [0.0542, 0.7061, 0.7061]), ("fairgrad", {"alpha": 2.0}, [0.0313, 0.7908, 0.7908])]:
        found = torch.tensor(first(name, KNOWN, **settings)).double() @ KNOWN
        wanted = torch.tensor(direction).double()
        assert (found / found.norm()).tolist() == pytest.approx((wanted / wanted.norm()).tolist(), abs=2e-4)


# Two tasks, in closed form.


def test_mgda_meets_the_origin_at_a_right_angle() -> None:
    assert first("mgda") == pytest.approx([(C - B) / (A + C - 2 * B), (A - B) / (A + C - 2 * B)])
    assert first("mgda", torch.tensor([[1.0, 0.0], [2.0, 0.1]]).double()) == pytest.approx([1.0, 0.0])


def test_pcgrad_removes_the_conflicting_part_once_each() -> None:
    assert first("pcgrad") == pytest.approx([1 - B / A, 1 - B / C])
    assert first("pcgrad", torch.tensor([[1.0, 0.0], [1.0, 1.0]]).double()) == [1.0, 1.0]


def test_upgrad_is_half_of_pcgrad_for_two() -> None:
    assert first("upgrad") == pytest.approx([(1 - B / A) / 2, (1 - B / C) / 2], abs=5e-4)
    assert first("upgrad", torch.tensor([[1.0, 0.0], [1.0, 1.0]]).double()) == pytest.approx([0.5, 0.5])


def test_dualproj_lifts_the_task_that_would_lose() -> None:
    assert first("dualproj") == pytest.approx([-B / (2 * A), 0.5], abs=5e-4)


def test_unopposed_leaves_what_nobody_opposes() -> None:
    kind = torch.tensor([[2.0, 1.0], [1.0, 3.0]]).double()
    assert unopposed(torch.tensor([0.2, 0.9]).double(), kind).tolist() == pytest.approx([0.2, 0.9])


def test_imtl_g_is_in_inverse_proportion_to_norms_for_two() -> None:
    one, other = 1 / math.sqrt(A), 1 / math.sqrt(C)
    assert first("imtl_g") == pytest.approx([one / (one + other), other / (one + other)])


def test_nash_mtl_solves_the_bargain() -> None:
    """`a w1^2 + b w1 w2 = 1 = c w2^2 + b w1 w2`, so `w1 / w2 = sqrt(c / a)`."""
    one, other = first("nash_mtl")
    assert one / other == pytest.approx(math.sqrt(C / A), abs=1e-3)
    mean = (A + C) / 2
    assert one == pytest.approx(1 / math.sqrt((A + B * math.sqrt(A / C)) / mean), rel=2e-3)


def test_fairgrad_of_gradients_at_right_angles() -> None:
    """`|g|^2 w = w^(-1/alpha)` gives `w = |g|^(-2 alpha / (1 + alpha))`, in units of the mean square."""
    mean = (1.0 + 16.0) / 2
    wanted = [(square / mean) ** (-2.0 / 3.0) for square in (1.0, 16.0)]
    assert first("fairgrad", torch.diag(torch.tensor([1.0, 4.0]).double()), alpha=2.0) == pytest.approx(wanted, rel=1e-3)


def test_aligned_mtl_takes_the_root_of_the_gramian() -> None:
    """`sqrt(least eigenvalue) G^(-1/2) (1/2, 1/2)`; of two by two, `G^(-1/2) = t (G + s)^(-1)`, `s^2 = det`, `t^2 = trace + 2 s`."""
    s = math.sqrt(A * C - B * B)
    t = math.sqrt(A + C + 2 * s)
    least = (A + C - math.sqrt((A - C) ** 2 + 4 * B * B)) / 2
    root = t * torch.linalg.inv(torch.tensor([[A + s, B], [B, C + s]]).double())
    assert first("aligned_mtl") == pytest.approx((math.sqrt(least) * root.sum(1) / 2).tolist())


def test_cagrad_between_the_mean_and_the_worst_task() -> None:
    equal = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double()
    assert first("cagrad", equal) == pytest.approx([0.5, 0.5], abs=1e-5)
    assert first("cagrad", c=0.0) == pytest.approx([0.5, 0.5])
    # One gradient inside the other: all that c allows goes to the shorter.
    nested = torch.tensor([[1.0, 0.0], [3.0, 0.0]]).double()
    one, other = first("cagrad", nested, c=0.5)
    assert (1.5 * one - 0.5, 1.5 * other - 0.5) == pytest.approx((0.5 * 2.0 / 1.0, 0.0), abs=1e-4)


def test_krum_takes_the_nearest_pair_of_three() -> None:
    assert first("krum", torch.tensor([[0.0, 1.0], [0.1, 1.0], [9.0, 1.0]]).double()) == [0.5, 0.5, 0.0]


def test_krum_takes_the_one_in_the_middle_of_four() -> None:
    """Distances to the two nearest: .1 + .3, .1 + .2, .2 + .3, and far."""
    assert first("krum", torch.tensor([[0.0, 1.0], [0.1, 1.0], [0.3, 1.0], [9.0, 1.0]]).double()) == [0.0, 1.0, 0.0, 0.0]


def test_krum_sums_distances_and_not_their_squares() -> None:
    """The fourth lies .5, 3 and 3 from its neighbours, the first two 2, 2 and 3: 6.5 against 7; squared, 18.25 against 17."""
    points = torch.tensor([[0.0, 1.0], [0.0, -1.0], [-(3**0.5), 0.0], [8**0.5, 0.0], [8**0.5 + 0.5, 0.0]]).double()
    near = torch.cdist(points, points).sort(1).values[:, 1:4]
    assert near[[0, 3]].tolist() == [pytest.approx([2.0, 2.0, 3.0]), pytest.approx([0.5, 3.0, 3.0])]
    assert near.square().sum(1).argmin() != 3, "whom the paper takes"
    assert first("krum", points) == [0.0, 0.0, 0.0, 1.0, 0.0]


def test_gradvac_remembers_how_close_pairs_are() -> None:
    own = balancer("gradvac", 2, {"decay": 0.5})
    torch.manual_seed(0)
    own(torch.ones(2), gramian(KNOWN))
    cosine = B / math.sqrt(A * C)
    cosines = own.state_dict()["cosines"]
    assert cosines[0, 1].item() == pytest.approx(cosine / 2)
    # The second time less is asked for, cos = phi, and the gain is the equation's.
    phi = cosine / 2
    gain = math.sqrt(A / C) * (phi * math.sqrt(1 - cosine**2) - cosine * math.sqrt(1 - phi**2)) / math.sqrt(1 - phi**2)
    assert own(torch.ones(2).double(), gramian(KNOWN))[1].item() == pytest.approx(1 + gain)


# Norms.


def test_metabalance_draws_norms_to_the_target() -> None:
    own = balancer("metabalance", 2, {"relax": 0.5, "decay": 0.5})
    assert told(own, 1.0, 1.0, norms=(2.0, 8.0)) == pytest.approx([1.0, 0.5 * 0.25 + 0.5])
    # Averages with bias correction: (1/4 * 2 + 1/2 * 6) / (3/4) and (1/4 * 8 + 1/2 * 2) / (3/4).
    assert told(own, 1.0, 1.0, norms=(6.0, 2.0)) == pytest.approx([1.0, 0.5 * (3.5 / 3.0) + 0.5])


def test_metabalance_without_a_gradient_of_the_target_waits() -> None:
    own = balancer("metabalance", 2, {"target": 1})
    assert told(own, 1.0, 0.0, norms=(2.0, 0.0)) == [1.0, 1.0]
    assert told(own, 1.0, 1.0, norms=(2.0, 1.0)) == pytest.approx([0.7 * 0.5 + 0.3, 1.0])


def test_multibalance_of_gradients_at_right_angles() -> None:
    """Brought to one size, right-angled gradients share alike: weights in inverse proportion to norms."""
    assert told(balancer("multibalance", 2), 1.0, 1.0, norms=(1.0, 3.0)) == pytest.approx([0.75, 0.25])


def test_gradnorm_draws_down_the_larger_gradient() -> None:
    own = balancer("gradnorm", 2, {"rate": 0.1})
    assert told(own, 1.0, 1.0, norms=(1.0, 4.0)) == [1.0, 1.0]
    up, down = math.exp(0.1), math.exp(-0.1)
    assert told(own, 1.0, 1.0, norms=(1.0, 4.0)) == pytest.approx([2 * up / (up + down), 2 * down / (up + down)])


def test_gradnorm_lifts_the_task_that_learns_slowly() -> None:
    own = balancer("gradnorm", 2)
    told(own, 1.0, 1.0)
    for _ in range(3):
        slow, fast = told(own, 0.9, 0.3)
    assert slow > 1 > fast


# Losses.


def test_static_weights_stay() -> None:
    assert told(balancer("static", 2, {"weights": (0.5, 2.0)}), 7.0, 1.0) == [0.5, 2.0]


def test_normalised_losses_count_alike() -> None:
    own = balancer("normalised", 2, {"decay": 0.5})
    assert told(own, 1.0, 3.0) == pytest.approx([1.5, 0.5])
    # (1/4 * 1 + 1/2 * 4) / (3/4) = 3, and task 1 was not seen.
    assert told(own, 4.0, 0.0) == pytest.approx([1.0, 1.0])


def test_uncertainty_descends_beside_the_model() -> None:
    own = balancer("uncertainty", 2, {"rate": 0.1})
    assert told(own, 0.5, 2.0) == [1.0, 1.0]
    up, down = math.exp(0.1), math.exp(-0.1)  # s = -.1, .1: Adam's first step is its rate
    assert told(own, 0.5, 2.0) == pytest.approx([2 * up / (up + down), 2 * down / (up + down)])


def test_uncertainty_ends_where_weights_are_inverse_to_losses() -> None:
    own = balancer("uncertainty", 2, {"rate": 0.05})
    for _ in range(400):
        weights = told(own, 0.5, 2.0)
    assert weights == pytest.approx([1.6, 0.4], rel=1e-2)


def test_dwa_reads_the_last_two_epochs() -> None:
    own = balancer("dwa", 2, {"temperature": 1.0})
    for epoch in ([(2.0, 1.0), (4.0, 3.0)], [(1.0, 2.0), (2.0, 2.0)]):
        assert [told(own, *losses) for losses in epoch] == [[1.0, 1.0], [1.0, 1.0]]
        own.turn()
    up, down = math.exp(1.5 / 3.0), math.exp(2.0 / 2.0)
    assert told(own, 9.0, 9.0) == pytest.approx([2 * up / (up + down), 2 * down / (up + down)])


def test_geometric_mean_has_this_gradient() -> None:
    assert told(balancer("geometric", 2), 1.0, 4.0) == pytest.approx([1.0, 0.25])
    assert told(balancer("geometric", 2), 3.0, 0.0) == pytest.approx([1.0, 1.0])


def test_stch_looks_at_the_worst() -> None:
    assert told(balancer("stch", 2, {"mu": 0.5}), 1.0, 0.0) == pytest.approx([math.e / (1 + math.e), 1 / (1 + math.e)])


def test_random_weights_sum_to_one_and_change() -> None:
    own = balancer("random", 2)
    one, other = told(own, 1.0, 1.0), told(own, 1.0, 1.0)
    assert sum(one) == pytest.approx(1.0)
    assert one != other


def test_descent_is_adam() -> None:
    value = torch.tensor([1.0, -2.0]).double()
    own, theirs = Descent(value, rate=0.05), value.clone().requires_grad_()
    adam = torch.optim.Adam([theirs], lr=0.05)
    for step in range(5):
        grad = torch.tensor([0.3 * step - 1, 2.0]).double()
        own.step(grad)
        theirs.grad = grad
        adam.step()
    torch.testing.assert_close(own.value, theirs.detach())
