"""Balancers that look at how the tasks' gradients agree: rules that read weights off the whole Gramian."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from umbel.balance.balancer import Balancer, Gramian
from umbel.balance.cone import least_squares, unopposed

FLOOR = 1e-12
ROUNDS = 100  # of Newton's method; five to ten are usual
RIDGE = 1e-4  # of the mean squared norm, added to the diagonal where a solution may not exist without
Rule = Callable[[Tensor], Tensor]  # a Gramian of mean diagonal 1, no zeros on it, to weights


@final
class OfGradients(Balancer):
    """A rule over the tasks that have a gradient in this step; the others weigh 1, which changes nothing.

    The rule is given the Gramian divided by its mean diagonal, in double precision, so that no weight depends on the losses' unit.
    Fewer than `least` tasks with a gradient weigh 1 each.
    """

    def __init__(self, rule: Rule, *, least: int = 1) -> None:
        super().__init__()
        self.rule, self.least = rule, least

    def forward(self, losses: Float[Tensor, "tasks"], gramian: Gramian) -> Float[Tensor, "tasks"]:
        """The rule's weights."""
        return solved(self.rule, gramian().double(), least=self.least).to(losses)


def solved(rule: Rule, gramian: Float[Tensor, "tasks tasks"], *, least: int = 1) -> Float[Tensor, "tasks"]:
    """A rule's weights for the tasks that have a gradient, 1 for the others."""
    live = gramian.diagonal() > FLOOR * gramian.diagonal().max()
    weights = torch.ones(len(gramian), dtype=torch.float64)
    if int(live.sum()) < least or not live.any():
        return weights
    own = gramian[live][:, live]
    weights[live] = rule(own / own.diagonal().mean()).to(weights)
    return weights


def pcgrad() -> Rule:
    """Each gradient loses its part along every other that it conflicts with, in random order: https://arxiv.org/abs/2001.06782."""
    from torchjd.aggregation import PCGradWeighting

    return PCGradWeighting()


def mgda(gramian: Float[Tensor, "tasks tasks"]) -> Float[Tensor, "tasks"]:
    """The shortest convex combination of the gradients, `min |sum_t w_t g_t|`: https://arxiv.org/abs/1810.04650.

    `w ~ argmin x'Gx / 2 - sum x` over `x >= 0`: non-negative least squares, solved exactly where the paper's Frank-Wolfe
    stops on the way. Where the shortest has length 0, a ridge of 1e-9 picks one.
    """
    root = torch.linalg.cholesky(gramian + 1e-9 * torch.eye(len(gramian), dtype=gramian.dtype))
    found = least_squares(root.T, torch.linalg.solve_triangular(root, torch.ones_like(root[:, :1]), upper=False)[:, 0])
    return found / found.sum()


def imtl_g() -> Rule:
    """The direction with equal projections on all gradients; weights sum to 1: https://openreview.net/forum?id=IMPnRXEWpvr."""
    from torchjd.aggregation import IMTLGWeighting

    return IMTLGWeighting()


def aligned_mtl() -> Rule:
    """Gradients made orthogonal and of one size, then averaged: https://arxiv.org/abs/2305.19000."""
    from torchjd.aggregation import AlignedMTLWeighting

    return AlignedMTLWeighting()


def upgrad(gramian: Float[Tensor, "tasks tasks"]) -> Float[Tensor, "tasks"]:
    """Each gradient moved to the nearest direction that no task loses by, then averaged: https://arxiv.org/abs/2406.16232."""
    return torch.stack([unopposed(one, gramian) for one in torch.eye(len(gramian), dtype=gramian.dtype)]).mean(0)


def dualproj(gramian: Float[Tensor, "tasks tasks"]) -> Float[Tensor, "tasks"]:
    """The mean gradient moved to the nearest direction that no task loses by: https://arxiv.org/abs/1706.08840, equation 11."""
    return unopposed(torch.full_like(gramian[0], 1 / len(gramian)), gramian)


def krum(gramian: Float[Tensor, "tasks tasks"]) -> Float[Tensor, "tasks"]:
    """The gradient nearest to its neighbours, alone: https://arxiv.org/abs/1703.02757, none of them taken for hostile.

    Neighbours are all but oneself and the farthest, and nearness is the sum of distances to them, as in TorchJD, which this is
    held to. The paper sums their squares: from five tasks on it may take another gradient, where the neighbours of this one are not
    equally far. Those that are equally near share, where the paper takes any one of them: of three tasks the nearest pair always
    is, and rounding would decide.
    """
    squares = gramian.diagonal()
    apart = (squares[:, None] + squares - gramian - gramian.T).clamp(min=0).sqrt()
    far = apart.sort(dim=1).values[:, :-1].sum(1)
    nearest = (far <= far.min() + 1e-6).to(gramian)
    return nearest / nearest.sum()


def fair(*, alpha: float) -> Rule:
    """FairGrad, alpha-fair progress of all tasks, `G w = w^(-1/alpha)`: https://arxiv.org/abs/2402.15638.

    With `alpha` 1 it is the bargaining solution of Nash-MTL, `G w = 1 / w` (https://arxiv.org/abs/2202.01017), whose own code
    approximates it by convex programs and bounds `|sum_t w_t g_t|`; here the Gramian's unit does.
    Solved by Newton's method in `log w`: w minimises a strictly convex function. A ridge of 1e-4 keeps it finite where gradients
    oppose each other.
    """
    power = 1 - 1 / alpha

    def weigh(gramian: Float[Tensor, "tasks tasks"]) -> Float[Tensor, "tasks"]:
        ridged = gramian + RIDGE * torch.eye(len(gramian), dtype=gramian.dtype)
        logs = torch.zeros(len(gramian), dtype=gramian.dtype)
        for _ in range(ROUNDS):
            weights = logs.exp()
            pull, wish = weights * (ridged @ weights), (power * logs).exp()
            bend = (pull - power * wish).clamp(min=FLOOR)
            move = torch.linalg.solve(ridged * torch.outer(weights, weights) + torch.diag(bend), wish - pull).clamp(-1.0, 1.0)
            logs = logs + move
            if float(move.abs().max()) < FLOOR:
                break
        return logs.exp()

    return weigh


def cagrad(*, c: float) -> Rule:
    """Conflict-averse: the direction within `c |g_0|` of the mean gradient g_0 that helps the worst task most.

    `d = g_0 + c |g_0| g_u / |g_u|`, where u on the simplex minimises `<g_u, g_0> + c |g_0| |g_u|`, and d is divided by `1 + c`,
    so that one task alone weighs 1. Source: https://arxiv.org/abs/2110.14048, algorithm 1 and its code's second rescaling.
    """
    from scipy.optimize import minimize

    def weigh(gramian: Float[Tensor, "tasks tasks"]) -> Float[Tensor, "tasks"]:
        products, count = gramian.numpy(), len(gramian)
        mean = np.full(count, 1 / count)
        radius = c * np.sqrt(max(mean @ products @ mean, 0.0))

        def length(u: np.ndarray) -> float:
            return float(np.sqrt(max(u @ products @ u, 0.0) + FLOOR))

        best = minimize(
            lambda u: u @ products @ mean + radius * length(u), mean,
            jac=lambda u: products @ mean + radius * products @ u / length(u),
            bounds=[(0.0, 1.0)] * count, constraints={"type": "eq", "fun": lambda u: u.sum() - 1}, options={"ftol": 1e-14, "maxiter": 200},
        ).x
        return torch.from_numpy((mean + radius / length(best) * best) / (1 + c))

    return weigh


@final
class GradVac(Balancer):
    """Gradient vaccine: pairs are pulled together until their cosine is what it has been of late.

    As PCGrad, with the moving average `phi_st` of each pair's cosine in the place of 0: where cosine falls below it, g_s gains
    `|g_s| (phi sqrt(1 - cos^2) - cos sqrt(1 - phi^2)) / (|g_t| sqrt(1 - phi^2))` of g_t. Source: https://arxiv.org/abs/2010.05874,
    equation 2; the others are visited in random order, and `phi <- (1 - decay) phi + decay cos` after each visit.
    A pair without gradients in this step keeps its average.
    """

    cosines: Tensor

    def __init__(self, tasks: int, *, decay: float = 0.01) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("cosines", torch.zeros(tasks, tasks, dtype=torch.float64))

    def forward(self, losses: Float[Tensor, "tasks"], gramian: Gramian) -> Float[Tensor, "tasks"]:
        """How much of each gradient the vaccinated ones hold, in sum."""
        products = gramian().double()
        live = (products.diagonal() > FLOOR * products.diagonal().max()).nonzero().flatten().tolist()
        self.cosines = self.cosines.clone()
        mixes = torch.eye(len(products), dtype=torch.float64)
        for one in live:
            others = [other for other in live if other != one]
            for place in torch.randperm(len(others)).tolist():
                other = others[place]
                mixes[one, other] += self._gain(products, mixes[one], pair=(one, other))
        return mixes.sum(0).to(losses)

    def _gain(self, products: Tensor, mix: Tensor, *, pair: tuple[int, int]) -> Tensor:
        """How much of the other's gradient the mix takes on; the pair's average moves on."""
        length, norm = (mix @ products @ mix).clamp(min=0).sqrt(), products[pair[1], pair[1]].sqrt()
        cosine = (products[pair[1]] @ mix / (length * norm).clamp(min=FLOOR**2)).clamp(-1, 1)
        aim = self.cosines[pair].clone()
        self.cosines[pair] = (1 - self.decay) * aim + self.decay * cosine
        if cosine >= aim:
            return torch.zeros_like(norm)
        across, down = (1 - aim.square()).sqrt(), (1 - cosine.square()).sqrt()
        return length * (aim * down - cosine * across) / (norm * across).clamp(min=FLOOR**2)
