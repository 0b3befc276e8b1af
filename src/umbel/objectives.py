"""What a task's training descends: its kind's own likelihood, or another loss chosen by name; no torch here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, log
from typing import ClassVar, final

from umbel.errors import UserError
from umbel.kinds import Binary, Regression, TaskKind


@dataclass(frozen=True, slots=True)
class Objective(ABC):
    """A loss by name; its fields are the parameters that a run file may give, `kind` the only kind of task it is for (None: any).

    `together` says whether what a row pays depends on the rows beside it, so that a batch cannot be parted; `proper`, whether what fits
    it best, less `raised`, is the truth.
    To add one: its class and its line in `OBJECTIVES` here, its formula in `umbel.nn.objectives`, and a row in the tests.
    """

    name: ClassVar[str]
    kind: ClassVar[type[TaskKind] | None] = None
    together: ClassVar[bool] = False
    proper: ClassVar[bool] = True

    @property
    @abstractmethod
    def raised(self) -> float:
        """By how much it raises the logit of a model that fits its rows exactly, against the true log-odds."""


@final
@dataclass(frozen=True, slots=True)
class Likelihood(Objective):
    """The negative log-likelihood (or the proper score) of the task's kind."""

    name: ClassVar[str] = "likelihood"

    @property
    def raised(self) -> float:
        """Nothing."""
        return 0.0


@final
@dataclass(frozen=True, slots=True)
class CrossEntropy(Objective):
    """Cross entropy in which a row with the event counts `positive` times.

    The odds that it teaches are `positive` times the true ones, so that predictions come down by `log(positive)` again.
    """

    name: ClassVar[str] = "cross_entropy"
    kind: ClassVar[type[TaskKind] | None] = Binary
    positive: float = 1.0

    def __post_init__(self) -> None:
        _above_zero(self, "positive", self.positive)

    @property
    def raised(self) -> float:
        """`log(positive)`: the weighted odds are that many times the true ones."""
        return log(self.positive)


@final
@dataclass(frozen=True, slots=True)
class Focal(Objective):
    """Cross entropy in which rows that are predicted well count less (Lin et al., ICCV 2017, https://arxiv.org/abs/1708.02002).

    Not proper: chances are drawn towards one half, by an amount that depends on the chance, so that calibration alone mends them.
    """

    name: ClassVar[str] = "focal"
    kind: ClassVar[type[TaskKind] | None] = Binary
    proper: ClassVar[bool] = False
    gamma: float = 2.0
    positive: float = 1.0

    def __post_init__(self) -> None:
        _above_zero(self, "positive", self.positive)
        if not self.gamma >= 0:
            raise UserError(f"{self.name}: gamma = {self.gamma:g}", mend="give 0 or more")

    @property
    def raised(self) -> float:
        """Nothing that one number could take back."""
        return 0.0


@final
@dataclass(frozen=True, slots=True)
class Pairwise(Objective):
    """`share` of cross entropy, the rest the ranking of every row with the event above every row without, within the batch.

    For sparse feedback: cross entropy alone hardly moves rows without the event (Lin et al., KDD 2024, https://arxiv.org/abs/2403.14144).
    Both terms are least at the true log-odds.
    """

    name: ClassVar[str] = "pairwise"
    kind: ClassVar[type[TaskKind] | None] = Binary
    together: ClassVar[bool] = True
    share: float = 0.5

    def __post_init__(self) -> None:
        _share(self, self.share)

    @property
    def raised(self) -> float:
        """Nothing."""
        return 0.0


@final
@dataclass(frozen=True, slots=True)
class Listwise(Objective):
    """`share` of cross entropy, the rest the softmax over the rows of each group of the batch (Cao et al., ICML 2007).

    A group is a request, or a user where requests are not known; its rows are kept together in a batch.
    """

    name: ClassVar[str] = "listwise"
    kind: ClassVar[type[TaskKind] | None] = Binary
    together: ClassVar[bool] = True
    proper: ClassVar[bool] = False
    share: float = 0.5

    def __post_init__(self) -> None:
        _share(self, self.share)

    @property
    def raised(self) -> float:
        """Nothing that one number could take back."""
        return 0.0


@final
@dataclass(frozen=True, slots=True)
class Huber(Objective):
    """Squared error up to `delta`, in proportion to the error beyond: few large errors weigh less (Huber, 1964)."""

    name: ClassVar[str] = "huber"
    kind: ClassVar[type[TaskKind] | None] = Regression
    proper: ClassVar[bool] = False
    delta: float = 1.0

    def __post_init__(self) -> None:
        _above_zero(self, "delta", self.delta)

    @property
    def raised(self) -> float:
        """Nothing: there is no logit."""
        return 0.0


LIKELIHOOD = Likelihood()
OBJECTIVES: Mapping[str, type[Objective]] = {
    one.name: one for one in (Likelihood, CrossEntropy, Focal, Pairwise, Listwise, Huber)
}


def check_objective(where: str, objective: Objective, kind: TaskKind) -> None:
    """:raises UserError: if the loss is for another kind of task."""
    if objective.kind is not None and not isinstance(kind, objective.kind):
        fit = [name for name, one in OBJECTIVES.items() if one.kind is None or isinstance(kind, one.kind)]
        what = f"{where}: loss {objective.name!r} is for a {objective.kind.name} task, this one is {kind.name}"
        raise UserError(what, mend=f"choose among {', '.join(fit)}")


def _share(objective: Objective, share: float) -> None:
    if not 0 < share <= 1:
        raise UserError(f"{objective.name}: share = {share:g}", mend="give a share of cross entropy above 0, at most 1")


def _above_zero(objective: Objective, parameter: str, value: float) -> None:
    if not 0 < value < inf:
        raise UserError(f"{objective.name}: {parameter} = {value:g}", mend="give a number above 0")
