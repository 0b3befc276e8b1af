"""Balancers that look at how large each task's gradient is: the Gramian's diagonal."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from umbel.balance.balancer import Balancer, Gramian
from umbel.balance.descent import Descent
from umbel.balance.gradients import FLOOR, mgda, solved
from umbel.errors import UserError


@final
class Averages(nn.Module):
    """Moving averages of the tasks' gradient norms, `m <- decay m + (1 - decay) |g|`, with bias correction.

    A task without a gradient in this step keeps its average, and one that never had any stands at 0.
    """

    means: Tensor
    counts: Tensor

    def __init__(self, tasks: int, *, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("means", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(tasks, dtype=torch.float64))

    def forward(self, norms: Float[Tensor, "tasks"]) -> Float[Tensor, "tasks"]:
        """The averages after this step."""
        live = norms > 0
        self.means = torch.where(live, self.decay * self.means + (1 - self.decay) * norms, self.means)
        self.counts = self.counts + live
        return self.means / (1 - self.decay**self.counts).clamp(min=FLOOR)


@final
class GradNorm(Balancer):
    """Trains weights until gradients are alike in size, larger for tasks that learn slowly.

    `w` descends `sum_t | w_t |g_t| - c_t |` with `c_t = mean_s(w_s |g_s|) r_t^alpha` held fixed; `r_t` is `L_t / L_t(first step)`
    divided by its mean over tasks. After every step w is scaled to sum to the number of tasks.
    Source: Chen et al. 2018 (https://arxiv.org/abs/1711.02257), equations 1-2. Where we differ: w has an Adam of its own at `rate`,
    works on `log w`, so that it stays above 0, and measures gradients where the Gramian is taken.
    """

    signed: ClassVar[bool] = False
    first: Tensor

    def __init__(self, tasks: int, *, alpha: float = 1.5, rate: float = 0.025) -> None:
        super().__init__()
        self.alpha = alpha
        self.logs = Descent(torch.zeros(tasks, dtype=torch.float64), rate=rate)
        self.register_buffer("first", torch.zeros(tasks, dtype=torch.float64))  # losses of the first step that had one

    def forward(self, losses: Float[Tensor, "tasks"], gramian: Gramian) -> Float[Tensor, "tasks"]:
        """Weights as they were, then one step of them."""
        weights = len(losses) * self.logs.value.softmax(0)
        self.logs.step(self._slope(weights, losses.double(), _norms(gramian())))
        return weights.to(losses)

    def _slope(self, weights: Tensor, losses: Tensor, norms: Tensor) -> Float[Tensor, "tasks"]:
        """The objective's gradient at `log w`; 0 for tasks without a loss or a gradient in this step."""
        self.first = torch.where(self.first == 0, losses, self.first)
        live = (losses != 0) & (norms > 0)
        if not live.any():
            return torch.zeros_like(weights)
        sizes = (weights * norms)[live]
        rates = (losses / self.first)[live].abs()
        excess = sizes - sizes.mean() * (rates / rates.mean()) ** self.alpha
        return torch.zeros_like(weights).masked_scatter(live, sizes * excess.sign() / sizes.mean())


@final
class MetaBalance(Balancer):
    """Auxiliary tasks' gradients drawn to the size of the target's: `w_t = relax m_target / m_t + 1 - relax`, `w_target = 1`.

    m are moving averages of gradient norms. Source: He et al. 2022 (https://arxiv.org/abs/2203.06801), algorithm 1, larger
    and smaller gradients both scaled. Where we differ: one weight a task, measured where the Gramian is taken, and not one
    a layer. `target` is the number of the task that the others are there for.

    :raises UserError: if there is no such task.
    """

    def __init__(self, tasks: int, *, target: int = 0, relax: float = 0.7, decay: float = 0.9) -> None:
        super().__init__()
        if not 0 <= target < tasks:
            raise UserError(f"balance.target: task {target} of {tasks}", mend="tasks are counted from 0")
        self.target, self.relax = target, relax
        self.averages = Averages(tasks, decay=decay)

    def forward(self, losses: Float[Tensor, "tasks"], gramian: Gramian) -> Float[Tensor, "tasks"]:
        """The scales; 1 while the target or the task itself never had a gradient."""
        means: Tensor = self.averages(_norms(gramian()))
        known = (means > 0) & (means[self.target] > 0)
        scales = self.relax * means[self.target] / means.clamp(min=FLOOR) + 1 - self.relax
        return torch.where(known, scales, 1.0).to(losses)


@final
class MultiBalance(Balancer):
    """The shortest convex combination of gradients brought to one size: `w_t ~ a_t / m_t`, a of MGDA over `g_t / m_t`.

    m are moving averages of gradient norms, at the shared representation. After He et al. 2024 (https://arxiv.org/abs/2411.11871),
    which has no public code; from what is public (per-task gradients at the shared representation, balanced
    against negative transfer, magnitudes averaged over steps as in MetaBalance) this is our reading. Weights sum to 1, as MGDA's.
    """

    def __init__(self, tasks: int, *, decay: float = 0.9) -> None:
        super().__init__()
        self.averages = Averages(tasks, decay=decay)

    def forward(self, losses: Float[Tensor, "tasks"], gramian: Gramian) -> Float[Tensor, "tasks"]:
        """Weights; 1 for a task without a gradient in this step."""
        products = gramian().double()
        live = products.diagonal() > 0
        means: Tensor = self.averages(_norms(products))
        scales = torch.where(live, 1 / means.clamp(min=FLOOR), 0.0)
        weights = solved(mgda, products * torch.outer(scales, scales)) * torch.where(live, scales, 1.0)
        return _shared(weights, live).to(losses)


def _norms(gramian: Float[Tensor, "tasks tasks"]) -> Float[Tensor, "tasks"]:
    return gramian.double().diagonal().clamp(min=0).sqrt()


def _shared(weights: Float[Tensor, "tasks"], live: Bool[Tensor, "tasks"]) -> Float[Tensor, "tasks"]:
    """Scaled to sum to 1 over the tasks that have a gradient."""
    total = weights[live].sum()
    return torch.where(live, weights / total, 1.0) if live.any() else torch.ones_like(weights)
