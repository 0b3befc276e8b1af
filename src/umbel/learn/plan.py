"""How a model is trained: numbers, and torch's own objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from umbel.errors import UserError
from umbel.learn.keep import Keep, Mean
from umbel.learn.optim import RowAdam, RowOptimizer
from umbel.learn.shards import Shards
from umbel.learn.weigh import Balance
from umbel.nn.losses import Denominator

CPU = torch.device("cpu")
MEAN = Mean()


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about a training but the model, the rows and the judge.

    `rate` is Adam's on the dense parameters, and the row optimiser's unless it names its own; `schedule` scales both after every epoch
    (`umbel.learn.schedules`, or what makes any of torch's).
    `rows` builds the row optimiser of a table: `RowAdam`, `RowAdagrad`, or a `functools.partial` of one.
    `l2` is lambda in `(lambda / 2) * ||E||^2`, over the rows a step touches; `exact` takes it over the whole table, with dense Adam
    on everything, as published results were had: a step then costs as much as the table is large.
    `decay` draws the dense parameters to 0 by `rate * decay` of themselves a step, apart from Adam's moments (https://arxiv.org/abs/1711.05101).
    `fresh` draws the table anew after every epoch and keeps the dense part: ids are seen once, and cannot be learned by heart
    (https://arxiv.org/abs/2305.19531); the row optimiser begins anew with it.
    `clip` bounds the joint norm of the dense gradients and of the table's, its L2 part included.
    `keep` is the rule that picks the epoch whose weights are kept. Training stops after `patience` epochs in a row in which nothing
    that the rule watches (the mean; the task and those guarded; every task) exceeded its best by more than 1e-6.
    `pause` yields every so many seconds within an epoch too, for a checkpoint. `precision` runs the forward pass under autocast;
    `compiled` through `torch.compile`, which pays on a GPU and needs a C++ compiler on a CPU.
    `accumulate` batches make a step: scored one after the other, and descended as their labels' mean losses (`umbel.learn.step`).
    `balance` has a balancer weigh the tasks of every batch; without one their losses are summed.
    `group` are the processes that share each batch (`umbel.learn.processes`); None is this one alone. `shards` hold the model's table
    (`umbel.learn.shards`); None where every process holds all of it.
    `seed` starts torch's generator (dropout). On a CPU one seed and one number of threads give the same bytes again;
    on a GPU only under `torch.use_deterministic_algorithms(True)`.
    """

    epochs: int = 15
    patience: int = 2
    keep: Keep = MEAN
    rate: float = 1e-3
    clip: float = 10.0
    l2: float = 1e-6
    decay: float = 0.0
    fresh: bool = False
    exact: bool = False
    rows: Callable[[Tensor], RowOptimizer] = RowAdam
    schedule: Callable[[Optimizer], LRScheduler] | None = None
    denominator: Denominator = Denominator.SEEN
    device: torch.device = CPU
    precision: torch.dtype | None = None
    compiled: bool = False
    accumulate: int = 1
    seed: int = 1
    pause: float | None = None
    balance: Balance | None = None
    group: ProcessGroup | None = None
    shards: Shards | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.patience < 1:
            raise UserError(f"fit: epochs = {self.epochs}, patience = {self.patience}", mend="both are at least 1")
        if self.accumulate < 1:
            raise UserError(f"fit: accumulate = {self.accumulate}", mend="a step is of 1 batch or more")
        if not (self.rate > 0 and self.clip > 0 and self.l2 >= 0 and self.decay >= 0):
            numbers = f"rate = {self.rate}, clip = {self.clip}, l2 = {self.l2}, decay = {self.decay}"
            raise UserError(f"fit: {numbers}", mend="rate and clip are above 0, l2 and decay are at least 0")
        if self.shards is not None and (self.exact or self.fresh):
            what = "fit.exact" if self.exact else "fit.fresh"
            raise UserError(f'fit.tables = "shards": {what} needs the whole table', mend="leave one of both out")
