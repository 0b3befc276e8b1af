"""Running sums of an epoch's losses, kept on the device: reading them is the only moment that waits for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from umbel.nn.losses import Denominator

NEVER = torch.iinfo(torch.int64).max


@final
class Tally:
    """Per task: the sum of losses, the rows behind them, and the first step whose loss was not a finite number."""

    def __init__(self, tasks: int, device: torch.device) -> None:
        self.sums = torch.zeros(tasks, dtype=torch.float64, device=device)
        self.counts = torch.zeros(tasks, dtype=torch.float64, device=device)
        self.broken = torch.full((tasks,), NEVER, device=device)

    def add(self, losses: Float[Tensor, "tasks"], counts: Int[Tensor, "tasks"], *, step: int) -> None:
        """Count one step's mean losses, each by the number of rows it is the mean of."""
        self.sums.addcmul_(losses.double(), counts.double())
        self.counts.add_(counts)
        self.broken.clamp_(max=torch.where(losses.isfinite(), NEVER, step))

    def means(self) -> tuple[float, ...]:
        """Mean loss of each task over the rows so far."""
        return tuple((self.sums / self.counts.clamp(min=1.0)).tolist())

    def broke(self) -> tuple[int, int] | None:
        """The first step whose loss was no finite number and the first task of it, both counted from 0; None while all were."""
        broken = self.broken.tolist()
        step = min(broken)
        return None if step == NEVER else (step, broken.index(step))

    def state(self) -> dict[str, Tensor]:
        """The live sums, by name."""
        return {"sums": self.sums, "counts": self.counts, "broken": self.broken}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def counted(paid: Bool[Tensor, "rows tasks"], denominator: Denominator) -> Int[Tensor, "tasks"]:
    """How many rows each task's mean loss is the mean of, where it is paid for these."""
    if denominator is Denominator.SEEN:
        return paid.sum(dim=0)
    return torch.full(paid.shape[1:], len(paid), device=paid.device)
