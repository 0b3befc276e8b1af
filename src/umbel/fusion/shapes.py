"""The families of fusion: what one task's prediction is worth, never less as it rises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import ClassVar, Literal, final

import numpy as np
from jaxtyping import Float

from umbel.errors import UserError

FLOOR = 1e-9  # what a power of 0 is taken of: calibrated chances are no lower
Direction = Literal[-1, 1]


class Shape(ABC):
    """What one task's prediction is worth: a gain that never falls as the prediction rises; its fields are what the file gives.

    In all families but `product` the fused score is the sum of the tasks' gains, each with its direction. `moved` names the fields whose
    numbers a search may multiply by any factor above 0.
    """

    name: ClassVar[str]
    product: ClassVar[bool]
    moved: ClassVar[tuple[str, ...]] = ("weight",)

    @abstractmethod
    def gain(self, predictions: Float[np.ndarray, "rows"], direction: Direction) -> Float[np.ndarray, "rows"]:
        """The gain of each prediction, before its direction."""

    @staticmethod
    @abstractmethod
    def start(predictions: Float[np.ndarray, "rows"], share: float) -> Shape:
        """The shape whose gains are `share` in size on the average over these predictions."""


@final
@dataclass(frozen=True, slots=True)
class Linear(Shape):
    """`weight p / scale`."""

    name: ClassVar[str] = "linear"
    product: ClassVar[bool] = False
    weight: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_weighted(self.weight, self.scale)

    def gain(self, predictions: Float[np.ndarray, "rows"], direction: Direction) -> Float[np.ndarray, "rows"]:
        """In proportion to the prediction."""
        return self.weight * predictions / self.scale

    @staticmethod
    def start(predictions: Float[np.ndarray, "rows"], share: float) -> Linear:
        """Scaled by the mean size of a prediction."""
        return Linear(share, _size(predictions))


@final
@dataclass(frozen=True, slots=True)
class Log(Shape):
    """`weight log(1 + p / scale)`, a prediction under 0 taken as 0: what is rare counts for more the rarer it is.

    It ranks as the usual `weight log(p + scale)`, from which it differs by a constant, and is 0 at p = 0.
    """

    name: ClassVar[str] = "log"
    product: ClassVar[bool] = False
    moved: ClassVar[tuple[str, ...]] = ("weight", "scale")
    weight: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_weighted(self.weight, self.scale)

    def gain(self, predictions: Float[np.ndarray, "rows"], direction: Direction) -> Float[np.ndarray, "rows"]:
        """In proportion far below the scale, by orders of magnitude far above it."""
        gains: Float[np.ndarray, "rows"] = self.weight * np.log1p(np.maximum(predictions, 0.0) / self.scale)
        return gains

    @staticmethod
    def start(predictions: Float[np.ndarray, "rows"], share: float) -> Log:
        """Scaled by the mean size of a prediction."""
        unit = Log(1.0, _size(predictions))
        return Log(share / _size(unit.gain(predictions, 1)), unit.scale)


@final
@dataclass(frozen=True, slots=True)
class Power(Shape):
    """One factor of a product: `(p / scale)^weight`, its gain the factor's logarithm; a prediction under 1e-9 is taken as that.

    The fused score is the product less 1. Ranks stay when all predictions of a task are multiplied by one number.
    """

    name: ClassVar[str] = "power"
    product: ClassVar[bool] = True
    weight: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_weighted(self.weight, self.scale)

    def gain(self, predictions: Float[np.ndarray, "rows"], direction: Direction) -> Float[np.ndarray, "rows"]:
        """The logarithm of the factor."""
        gains: Float[np.ndarray, "rows"] = self.weight * np.log(np.maximum(predictions, FLOOR) / self.scale)
        return gains

    @staticmethod
    def start(predictions: Float[np.ndarray, "rows"], share: float) -> Power:
        """Scaled by the geometric mean, so that a product of ordinary predictions is about 1."""
        unit = Power(1.0, float(np.exp(np.log(np.maximum(predictions, FLOOR)).mean())))
        return Power(share / _size(unit.gain(predictions, 1)), unit.scale)


@final
@dataclass(frozen=True, slots=True)
class Constrained(Shape):
    """Linear, less a `penalty` where the prediction breaks its `guard`: a floor for what is wanted, a ceiling for what is not.

    With a penalty above what the weights can gain, rows that keep every guard come before all others.
    """

    name: ClassVar[str] = "constrained"
    product: ClassVar[bool] = False
    weight: float = 1.0
    scale: float = 1.0
    guard: float | None = None
    penalty: float = 1000.0

    def __post_init__(self) -> None:
        _check_weighted(self.weight, self.scale)
        _check_number("penalty", self.penalty, least=0.0)
        if self.guard is not None:
            _check_number("guard", self.guard)

    def gain(self, predictions: Float[np.ndarray, "rows"], direction: Direction) -> Float[np.ndarray, "rows"]:
        """In proportion, with a step down (a wanted task) or up (an unwanted one) where the guard is broken."""
        gains = self.weight * predictions / self.scale
        if self.guard is None:
            return gains
        broken = predictions < self.guard if direction > 0 else predictions > self.guard
        return gains - direction * self.penalty * broken

    @staticmethod
    def start(predictions: Float[np.ndarray, "rows"], share: float) -> Constrained:
        """Without a guard."""
        return Constrained(share, _size(predictions))


@final
@dataclass(frozen=True, slots=True)
class AdditiveMonotone(Shape):
    """A broken line through 0 at the first of the `knots`, which rises by an increment to each next one; the outer pieces go on.

    Increments are at least 0, so that it never falls. Families linear and log are met as closely as there are knots.

    Example
    -------
    >>> AdditiveMonotone((0.0, 1.0, 2.0), (3.0, 0.5)).gain(np.array([-1.0, 0.5, 1.0, 3.0]), 1).tolist()
    [-3.0, 1.5, 3.0, 4.0]
    """

    name: ClassVar[str] = "additive_monotone"
    product: ClassVar[bool] = False
    moved: ClassVar[tuple[str, ...]] = ("increments",)
    knots: tuple[float, ...]
    increments: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.knots) < 2 or any(low >= high for low, high in pairwise(self.knots)) or not all(map(isfinite, self.knots)):
            raise UserError(f"knots = {list(self.knots)}", mend="give two or more, in rising order")
        if len(self.increments) != len(self.knots) - 1:
            raise UserError(f"{len(self.increments)} increments for {len(self.knots)} knots", mend="give one for each knot but the first")
        for increment in self.increments:
            _check_number("increments", increment, least=0.0)

    def gain(self, predictions: Float[np.ndarray, "rows"], direction: Direction) -> Float[np.ndarray, "rows"]:
        """How far up the line each prediction stands."""
        widths = np.diff(self.knots)
        low, high = np.zeros(len(widths)), widths.copy()
        low[0], high[-1] = -np.inf, np.inf
        gains: Float[np.ndarray, "rows"] = np.clip(predictions[:, None] - np.array(self.knots[:-1]), low, high) @ (self.increments / widths)
        return gains

    @staticmethod
    def start(predictions: Float[np.ndarray, "rows"], share: float) -> AdditiveMonotone:
        """A straight line from 0 (from the least prediction where it is less), with a knot at each fifth of the predictions."""
        knots = np.unique([min(0.0, predictions.min()), *np.quantile(predictions, (0.2, 0.4, 0.6, 0.8, 1.0))])
        knots = knots if len(knots) > 1 else np.append(knots, knots[0] + 1.0)
        unit = AdditiveMonotone(tuple(knots.tolist()), tuple(np.diff(knots).tolist()))
        factor = share / _size(unit.gain(predictions, 1))
        return AdditiveMonotone(unit.knots, tuple(factor * one for one in unit.increments))


SHAPES: Mapping[str, type[Shape]] = {shape.name: shape for shape in (Linear, Log, Power, Constrained, AdditiveMonotone)}


def _size(values: Float[np.ndarray, "rows"]) -> float:
    """The mean size of some numbers; 1 where there is none but 0."""
    return float(np.abs(values).mean()) or 1.0


def _check_weighted(weight: float, scale: float) -> None:
    _check_number("weight", weight, least=0.0)
    _check_number("scale", scale)
    if scale <= 0:
        raise UserError(f"scale = {scale:g}", mend="give a number above 0, such as the mean prediction")


def _check_number(name: str, value: float, *, least: float = -np.inf) -> None:
    if not (isfinite(value) and value >= least):
        raise UserError(f"{name} = {value:g}", mend="give a finite number" + (f", at least {least:g}" if isfinite(least) else ""))
