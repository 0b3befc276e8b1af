"""What a label can be: each kind of task, its static parameters, the labels it allows, its outputs and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, final

import numpy as np
from jaxtyping import Bool, Float

from umbel.errors import UserError


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels that a kind allows: from `low` (left out if `above`) to `high`, whole numbers only if `whole`.

    Example
    -------
    >>> str(Labels(0, 1, whole=True)), str(Labels(0, above=True)), str(Labels(0, whole=True))
    ('whole and in [0, 1]', 'above 0', 'whole and at least 0')
    """

    low: float = -np.inf
    high: float = np.inf
    whole: bool = False
    above: bool = False

    def outside(self, values: Float[np.ndarray, "rows"]) -> Bool[np.ndarray, "rows"]:
        """Which values are no such label; NaN, a missing one, is not among them."""
        wrong: Bool[np.ndarray, "rows"] = (values < self.low) | (values > self.high)
        if self.above:
            wrong |= values == self.low
        if self.whole:
            wrong |= (values != np.floor(values)) & ~np.isnan(values)
        return wrong

    @property
    def amount(self) -> bool:
        """Whether they are how much or how often, and 0 is nothing."""
        return self.low == 0 and not self.above and self.high == np.inf

    @property
    def any(self) -> bool:
        """Whether any number is one."""
        return not np.isfinite([self.low, self.high]).any()

    @property
    def some(self) -> float:
        """One of them, to stand where a label was not seen."""
        if self.above:
            return self.low + 1.0
        return float(self.low) if np.isfinite(self.low) else 0.0

    def __str__(self) -> str:
        whole = "whole and " if self.whole else ""
        if self.any:
            return f"{whole}finite, at most {np.finfo(np.float32).max:.2g} in size"
        if np.isfinite(self.low) and not np.isfinite(self.high):
            return f"{whole}{'above' if self.above else 'at least'} {self.low:g}"
        return f"{whole}in [{self.low:g}, {self.high:g}]"


@dataclass(frozen=True, slots=True)
class Form:
    """The static side of a kind: `outputs` that a task of it owns, labels it allows, names of its answers.

    `density` says that its loss is minus the logarithm of a density, which the label's unit can take below 0.
    An answer's name stands behind the task's: `watch` and `q50` make `watch_q50`; the empty name is the task's own.
    """

    outputs: int
    labels: Labels
    answers: tuple[str, ...] = ("",)
    density: bool = False


@dataclass(frozen=True, slots=True)
class TaskKind(ABC):
    """What a label is; its fields are the parameters that a run file may give.

    To add one: its class and its line in `TASK_KINDS` here, its loss and link in `umbel.nn.kinds`, its metrics and its
    calibration in `umbel.evaluate.kinds`, and a row in the tests, whose laws find it by itself.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def form(self) -> Form:
        """Outputs, labels, answers."""

    @property
    def outputs(self) -> int:
        """How many outputs a task of this kind owns."""
        return self.form.outputs

    @property
    def labels(self) -> Labels:
        """The labels it allows."""
        return self.form.labels

    @property
    def answers(self) -> tuple[str, ...]:
        """The names of its answers."""
        return self.form.answers


@final
@dataclass(frozen=True, slots=True)
class Binary(TaskKind):
    """An event: its chance, from one logit."""

    name: ClassVar[str] = "binary"

    @property
    def form(self) -> Form:
        """One logit, labels 0 and 1."""
        return Form(1, Labels(0, 1, whole=True))


@final
@dataclass(frozen=True, slots=True)
class Regression(TaskKind):
    """A number of any sign: its mean."""

    name: ClassVar[str] = "regression"

    @property
    def form(self) -> Form:
        """One output, the mean."""
        return Form(1, Labels())


@final
@dataclass(frozen=True, slots=True)
class LogNormal(TaskKind):
    """A duration or another number above 0: its expectation, from the mean and the spread of its logarithm."""

    name: ClassVar[str] = "lognormal"

    @property
    def form(self) -> Form:
        """Mean and spread."""
        return Form(2, Labels(0, above=True), density=True)


@final
@dataclass(frozen=True, slots=True)
class ZeroInflated(TaskKind):
    """A lifetime value: 0 for most, log-normal for the rest; its expectation, from a logit, a mean and a spread."""

    name: ClassVar[str] = "zero_inflated"

    @property
    def form(self) -> Form:
        """The logit of being above 0, then mean and spread of the logarithm there."""
        return Form(3, Labels(0), density=True)


@final
@dataclass(frozen=True, slots=True)
class Poisson(TaskKind):
    """A count: its mean, from the mean's logarithm."""

    name: ClassVar[str] = "poisson"

    @property
    def form(self) -> Form:
        """One output, the logarithm of the mean."""
        return Form(1, Labels(0, whole=True))


@final
@dataclass(frozen=True, slots=True)
class Tweedie(TaskKind):
    """An amount that is often exactly 0: its mean, whose variance grows as the mean to the `power`, between 1 and 2.

    :raises UserError: for another power (1 is `poisson`).
    """

    name: ClassVar[str] = "tweedie"
    power: float = 1.5

    def __post_init__(self) -> None:
        if not 1 < self.power < 2:
            raise UserError(f"tweedie: power = {self.power:g}", mend="give one between 1 and 2")

    @property
    def form(self) -> Form:
        """One output, the logarithm of the mean."""
        return Form(1, Labels(0))


@final
@dataclass(frozen=True, slots=True)
class Quantile(TaskKind):
    """A number with its uncertainty: the value that it stays under with each of some chances, the `levels`.

    :raises UserError: unless levels rise and lie between 0 and 1.
    """

    name: ClassVar[str] = "quantile"
    levels: tuple[float, ...] = (0.1, 0.5, 0.9)

    def __post_init__(self) -> None:
        given = f"quantile: levels = {list(self.levels)}"
        if not self.levels or not all(0 < level < 1 for level in self.levels):
            raise UserError(given, mend="each lies between 0 and 1, without them")
        if any(low >= high for low, high in pairwise(self.levels)):
            raise UserError(given, mend="write them in rising order, each once")

    @property
    def form(self) -> Form:
        """The lowest quantile, then what each next one is above the one before."""
        return Form(len(self.levels), Labels(), tuple(f"q{100 * level:g}" for level in self.levels))


@final
@dataclass(frozen=True, slots=True)
class Ordinal(TaskKind):
    """A grade, such as 0 to 4 stars: the chance of each of the `grades`, which have an order."""

    name: ClassVar[str] = "ordinal"
    grades: int

    def __post_init__(self) -> None:
        _several(self.name, "grades", self.grades)

    @property
    def form(self) -> Form:
        """The logit of being above grade 0, then the steps down to that of being above each next one."""
        return Form(self.grades - 1, Labels(0, self.grades - 1, whole=True), tuple(map(str, range(self.grades))))


@final
@dataclass(frozen=True, slots=True)
class MultiClass(TaskKind):
    """One of several `classes` without order: the chance of each."""

    name: ClassVar[str] = "multiclass"
    classes: int

    def __post_init__(self) -> None:
        _several(self.name, "classes", self.classes)

    @property
    def form(self) -> Form:
        """A logit a class."""
        return Form(self.classes, Labels(0, self.classes - 1, whole=True), tuple(map(str, range(self.classes))))


BINARY = Binary()
REGRESSION = Regression()
TASK_KINDS: Mapping[str, type[TaskKind]] = {
    kind.name: kind for kind in (Binary, Regression, LogNormal, ZeroInflated, Poisson, Tweedie, Quantile, Ordinal, MultiClass)
}


def _several(kind: str, parameter: str, count: int) -> None:
    if count < 2:
        raise UserError(f"{kind}: {parameter} = {count}", mend="give 2 or more")
