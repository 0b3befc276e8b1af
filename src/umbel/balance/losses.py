"""Balancers that look at the losses alone: no more than the plain sum's one backward pass."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from umbel.balance.balancer import Balancer, Gramian
from umbel.balance.descent import Descent
from umbel.errors import UserError

FLOOR = 1e-12  # losses below it count as this: a task nobody saw has loss 0


@final
class Static(Balancer):
    """Weights that stay: `w_t = weights_t`, 1 each by default. Tuned on validation, the yardstick of every other balancer.

    Source: https://arxiv.org/abs/2201.04122, on how seldom anything beats it.

    :raises UserError: unless there is one positive weight a task.
    """

    weights: Tensor

    def __init__(self, tasks: int, *, weights: tuple[float, ...] = ()) -> None:
        super().__init__()
        given = weights or (1.0,) * tasks
        if len(given) != tasks or not all(0 < one < float("inf") for one in given):
            raise UserError(f"balance.weights: {list(given)} for {tasks} tasks", mend="give one number above 0 a task, in their order")
        self.register_buffer("weights", torch.tensor(given))

    def forward(self, losses: Float[Tensor, "tasks"], gramian: Gramian) -> Float[Tensor, "tasks"]:
        """The weights."""
        return self.weights.to(losses)


@final
class Normalised(Balancer):
    """Every task's loss counts alike: `w_t = 1 / m_t`, scaled to sum to the number of tasks, m_t a moving average of |L_t|.

    `m <- decay m + (1 - decay) L`, with bias correction; a step that saw no label of a task leaves its average.
    """

    signed: ClassVar[bool] = False
    means: Tensor
    counts: Tensor

    def __init__(self, tasks: int, *, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("means", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(tasks, dtype=torch.float64))

    def forward(self, losses: Float[Tensor, "tasks"], gramian: Gramian) -> Float[Tensor, "tasks"]:
        """Weights in inverse proportion to the average losses; 1 each before any task had one."""
        now = losses.double().abs()
        self.means = torch.where(now != 0, self.decay * self.means + (1 - self.decay) * now, self.means)
        self.counts = self.counts + (now != 0)
        known = self.counts > 0
        means = self.means / (1 - self.decay**self.counts).clamp(min=FLOOR)
        shares = torch.where(known, 1 / means.clamp(min=FLOOR), 0.0)
        if not known.any():
            return torch.ones_like(losses)
        # A task that never had a loss weighs 1; the others share the rest.
        return torch.where(known, known.sum() * shares / shares.sum(), 1.0).to(losses)


@final
class Uncertainty(Balancer):
    """Homoscedastic uncertainty: `w_t ~ e^(-s_t)`, s descending `sum_t e^(-s_t) L_t + s_t` beside the model.

    Source: Kendall, Gal and Cipolla 2018 (https://arxiv.org/abs/1705.07115), equation 10 with `s = log sigma^2` and one
    constant for all kinds of loss. Where we differ: s has an Adam of its own at `rate`, so that it needs no place in the
    model's optimiser; and weights are scaled to sum to the number of tasks, so that they move attention between tasks and
    never the size of the step. A step that saw no label of a task leaves its s.
    """

    signed: ClassVar[bool] = False

    def __init__(self, tasks: int, *, rate: float = 0.01) -> None:
        super().__init__()
        self.log_variance = Descent(torch.zeros(tasks, dtype=torch.float64), rate=rate)

    def forward(self, losses: Float[Tensor, "tasks"], gramian: Gramian) -> Float[Tensor, "tasks"]:
        """Weights from s as it was, then one step of s."""
        s = self.log_variance.value
        weights = len(losses) * (-s).softmax(0)
        self.log_variance.step(torch.where(losses != 0, 1 - (-s).exp() * losses.double(), 0.0))
        return weights.to(losses)


@final
class DWA(Balancer):
    """Dynamic weight average: `w_t = T softmax(r_t / temperature)`, `r_t = L_t(last epoch) / L_t(the one before)`.

    A task whose loss falls slowly gets more. Source: Liu, Johns and Davison 2019 (https://arxiv.org/abs/1803.10704), section 3.3:
    epochs' mean losses, weights 1 in the first two epochs. A task that nobody saw in an epoch keeps its mean.
    """

    signed: ClassVar[bool] = False
    sums: Tensor
    means: Tensor
    done: Tensor

    def __init__(self, tasks: int, *, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer("sums", torch.zeros(2, tasks, dtype=torch.float64))  # of losses, and how many
        self.register_buffer("means", torch.ones(2, tasks, dtype=torch.float64))  # of the epoch before the last, and of the last
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))

    def forward(self, losses: Float[Tensor, "tasks"], gramian: Gramian) -> Float[Tensor, "tasks"]:
        """The running epoch's weights."""
        self.sums = self.sums + torch.stack([losses.double(), (losses != 0).double()])
        if int(self.done) < 2:
            return torch.ones_like(losses)
        rates = self.means[1] / self.means[0]
        return len(losses) * (rates / self.temperature).softmax(0).to(losses)

    def turn(self) -> None:
        """Take down the epoch's mean losses."""
        means = (self.sums[0] / self.sums[1].clamp(min=1)).clamp(min=FLOOR)
        self.means = torch.stack([self.means[1], torch.where(self.sums[1] > 0, means, self.means[1])])
        self.sums = torch.zeros_like(self.sums)
        self.done = self.done + 1


@final
class Geometric(Balancer):
    """The geometric mean descends in the sum's place: `w_t = (L_1 .. L_T)^(1/T) / (T L_t)`, its gradient.

    Source: Chennupati et al. 2019 (https://arxiv.org/abs/1904.08492). Tasks nobody saw are left out of the mean.
    """

    signed: ClassVar[bool] = False

    def __init__(self, tasks: int) -> None:
        super().__init__()

    def forward(self, losses: Float[Tensor, "tasks"], gramian: Gramian) -> Float[Tensor, "tasks"]:
        """The gradient of the mean; 1 for a task without a loss."""
        logs, seen = losses.double().clamp(min=FLOOR).log(), losses != 0
        count = seen.sum().clamp(min=1)
        mean = torch.where(seen, logs, 0.0).sum() / count
        return torch.where(seen, (mean - logs).exp() / count, 1.0).to(losses)


@final
class STCH(Balancer):
    """Smooth Tchebycheff: descends `mu log sum_t exp(L_t / (T mu))`, a smooth `max_t L_t / T`: `w_t = softmax(L / (T mu))_t`.

    Source: Lin et al. 2024 (https://arxiv.org/abs/2402.19078), with equal preferences, 0 as the ideal point, and weights
    scaled by the number of tasks, so that they sum to 1. The smaller `mu`, the more the worst task counts alone.
    """

    def __init__(self, tasks: int, *, mu: float = 0.1) -> None:
        super().__init__()
        self.mu = mu

    def forward(self, losses: Float[Tensor, "tasks"], gramian: Gramian) -> Float[Tensor, "tasks"]:
        """The gradient, times the number of tasks."""
        return (losses.double() / (len(losses) * self.mu)).softmax(0).to(losses)


@final
class RandomWeights(Balancer):
    """Random loss weighting: `w = softmax(n)`, n normal and new in every step, from torch's own generator.

    Source: Lin et al. 2022 (https://arxiv.org/abs/2111.10603): what a balancer should be able to beat.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__()

    def forward(self, losses: Float[Tensor, "tasks"], gramian: Gramian) -> Float[Tensor, "tasks"]:
        """New weights."""
        return torch.randn(len(losses), dtype=torch.float64).softmax(0).to(losses)
