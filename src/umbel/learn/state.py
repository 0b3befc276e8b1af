"""Where a training stands: every number and tensor that its continuation needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from umbel.learn.plan import IMPROVEMENT, Plan


@dataclass(frozen=True, slots=True)
class Progress:
    """Counters of a training; what else it decides by (the best epoch, patience, the schedule) follows from `scores`.

    `epoch` epochs are finished and judged; of the running one, `step` batches and `rows` rows are done, in `seconds` of training.
    """

    epoch: int = 0
    step: int = 0
    rows: int = 0
    seconds: float = 0.0
    scores: tuple[float, ...] = ()

    @property
    def best(self) -> int | None:
        """The first epoch that exceeded every best before it by more than 1e-6, counted from 0; None before the first judgement.

        Example
        -------
        >>> Progress(scores=(0.7, 0.8, 0.8000005)).best
        1
        """
        best = None
        for number, score in enumerate(self.scores):
            if best is None or score > self.scores[best] + IMPROVEMENT:
                best = number
        return best

    def over(self, plan: Plan) -> bool:
        """Whether the epochs, or the patience, are used up."""
        stale = 0 if self.best is None else len(self.scores) - 1 - self.best
        return self.epoch >= plan.epochs or stale >= plan.patience


@dataclass(frozen=True, slots=True)
class State:
    """A training at one moment; `umbel.learn.checkpoint` writes and reads it.

    `best` holds the weights of the best epoch so far (empty before the first judgement), for `model.load_state_dict`.
    The other tensors are the live ones: save a state before the next epoch is asked for.
    """

    progress: Progress
    weights: Mapping[str, Tensor]  # of the model
    best: Mapping[str, Tensor]
    dense: Mapping[str, Tensor]    # of the dense optimiser
    table: Mapping[str, Tensor]    # of the row optimiser
    tally: Mapping[str, Tensor]    # of the running epoch
    random: Mapping[str, Tensor]   # torch's generators
    balance: Mapping[str, Tensor] = field(default_factory=dict)  # of the balancer, where there is one


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of torch's generator, and of the device's own where it has one."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Put torch's generators back where `random_state` found them."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
