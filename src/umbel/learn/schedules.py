"""Learning-rate schedules that a run file names: each makes one of torch's own, which is stepped after every epoch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, LRScheduler, ReduceLROnPlateau

from umbel.errors import UserError
from umbel.learn.history import IMPROVEMENT


class Schedule(ABC):
    """What makes torch's own schedule for an optimiser."""

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, optimizer: Optimizer) -> LRScheduler:
        """The schedule, not stepped yet."""


@final
@dataclass(frozen=True, slots=True)
class Plateau(Schedule):
    """The rate is multiplied by `factor` after more than `patience` epochs in a row without an improvement of the plan's score.

    By default a tenth after every epoch without one: the schedule behind STEM's published results.
    """

    name: ClassVar[str] = "plateau"
    factor: float = 0.1
    patience: int = 0

    def __post_init__(self) -> None:
        _check_factor(self.factor)
        if self.patience < 0:
            raise UserError(f"patience = {self.patience}", mend="it is at least 0 epochs")

    def __call__(self, optimizer: Optimizer) -> LRScheduler:
        """Improvements are those that training itself stops by."""
        return ReduceLROnPlateau(
            optimizer, mode="max", factor=self.factor, patience=self.patience, threshold=IMPROVEMENT, threshold_mode="abs",
        )


@final
@dataclass(frozen=True, slots=True)
class Exponential(Schedule):
    """The rate is multiplied by `factor` after every epoch."""

    name: ClassVar[str] = "exponential"
    factor: float

    def __post_init__(self) -> None:
        _check_factor(self.factor)

    def __call__(self, optimizer: Optimizer) -> LRScheduler:
        """See above."""
        return ExponentialLR(optimizer, self.factor)


@final
@dataclass(frozen=True, slots=True)
class Cosine(Schedule):
    """Half a cosine from the rate down to `least` of it, over so many epochs, and `least` from there on.

    Example
    -------
    >>> [round(Cosine(epochs=4, least=0.1).share(epoch), 3) for epoch in range(6)]
    [1.0, 0.868, 0.55, 0.232, 0.1, 0.1]
    """

    name: ClassVar[str] = "cosine"
    epochs: int
    least: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 <= self.least <= 1:
            raise UserError(f"epochs = {self.epochs}, least = {self.least:g}", mend="at least 1 epoch, and a share between 0 and 1")

    def share(self, epoch: int) -> float:
        """Of the rate, in that epoch, counted from 0."""
        return self.least + (1 - self.least) * (1 + math.cos(math.pi * min(epoch / self.epochs, 1))) / 2

    def __call__(self, optimizer: Optimizer) -> LRScheduler:
        """See above."""
        return LambdaLR(optimizer, self.share)


SCHEDULES: Mapping[str, type[Schedule]] = {one.name: one for one in (Plateau, Exponential, Cosine)}


def _check_factor(factor: float) -> None:
    if not 0 < factor < 1:
        raise UserError(f"factor = {factor:g}", mend="it is between 0 and 1")
