"""Where a training stands: every number and tensor that its continuation needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from umbel.learn.history import Scores
from umbel.learn.keep import stale
from umbel.learn.plan import Plan

PART = 1 << 20  # numbers looked at in one go


@dataclass(frozen=True, slots=True)
class Progress:
    """Counters of a training; what else it decides by (patience, the schedule) follows from `scores`.

    `epoch` epochs are finished and judged; of the running one, `step` batches and `rows` rows are done, in `seconds` of training.
    `compiling` are the seconds before that in which the model was compiled, in each process that trained a part of the epoch.
    `best` is the epoch that the plan's rule keeps so far, counted from 0; None before the first judgement.
    """

    epoch: int = 0
    step: int = 0
    rows: int = 0
    seconds: float = 0.0
    compiling: float = 0.0
    scores: tuple[Scores, ...] = ()
    best: int | None = None

    def over(self, plan: Plan) -> bool:
        """Whether the epochs, or the patience, are used up."""
        return self.epoch >= plan.epochs or (bool(self.scores) and stale(plan.keep, self.scores) >= plan.patience)


@dataclass(frozen=True, slots=True)
class State:
    """A training at one moment; `umbel.learn.checkpoint` writes and reads it.

    `kept` holds the weights of the epochs that may yet be chosen, as `EPOCH/NAME`; `best` are those of the one chosen so far.
    All tensors are the live ones, and the next epoch may write into any of them: save a state before it is asked for.
    """

    progress: Progress
    weights: Mapping[str, Tensor]  # of the model
    kept: Mapping[str, Tensor]     # of the model, after the epochs that may yet be chosen
    dense: Mapping[str, Tensor]    # of the dense optimiser
    table: Mapping[str, Tensor]    # of the row optimiser
    tally: Mapping[str, Tensor]    # of the running epoch
    random: Mapping[str, Tensor]   # torch's generators
    balance: Mapping[str, Tensor] = field(default_factory=dict)  # of the balancer, where there is one

    @property
    def best(self) -> dict[str, Tensor]:
        """The weights of the epoch kept so far (empty before the first judgement), for `model.load_state_dict`."""
        return {} if self.progress.best is None else self.after(self.progress.best)

    def after(self, epoch: int) -> dict[str, Tensor]:
        """The weights after an epoch, counted from 0, that may yet be chosen; empty for any other."""
        prefix = f"{epoch}/"
        return {name.removeprefix(prefix): tensor for name, tensor in self.kept.items() if name.startswith(prefix)}


def finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every number is one; a part is looked at at a time, since looking makes copies, and a table may fill the memory."""
    return all(bool(part.isfinite().all()) for tensor in tensors for part in torch.split(tensor.reshape(-1), PART))


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
