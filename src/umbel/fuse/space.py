"""The policies around one: every number of it that may move, by a factor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float

from umbel.fusion import Fusion
from umbel.fusion.shapes import Shape

REACH = 6.0  # a factor is between e^-6 and e^6


@final
@dataclass(frozen=True, slots=True)
class Space:
    """Policies that have a start's tasks, directions and family; a point is the logarithm of each factor.

    Where only the order matters, it stays when all weights grow alike: with `anchored` the first number does not move.

    Example
    -------
    >>> from umbel.fusion import Term
    >>> from umbel.fusion.shapes import Log
    >>> space = Space(Fusion((Term("click", Log(1.0, 0.5)), Term("hate", Log(3.0), -1))), anchored=True)
    >>> space.size, [term.shape for term in space.policy(np.log([2.0, 4.0, 1.0])).terms]
    (3, [Log(weight=1.0, scale=1.0), Log(weight=12.0, scale=1.0)])
    """

    start: Fusion
    anchored: bool

    @property
    def size(self) -> int:
        """How many numbers move."""
        return sum(len(_numbers(term.shape)) for term in self.start.terms) - self.anchored

    def policy(self, point: Float[np.ndarray, "numbers"]) -> Fusion:
        """The policy at a point; beyond the reach of factors, that at its edge."""
        factors = np.exp(np.clip(point, -REACH, REACH)).tolist()
        left = iter([1.0, *factors] if self.anchored else factors)
        terms = [replace(term, shape=_moved(term.shape, [next(left) for _ in _numbers(term.shape)])) for term in self.start.terms]
        return replace(self.start, terms=tuple(terms))


def _numbers(shape: Shape) -> list[float]:
    """The numbers of a shape that may move, field by field."""
    values = [getattr(shape, name) for name in shape.moved]
    return [one for value in values for one in (value if isinstance(value, tuple) else (value,))]


def _moved(shape: Shape, factors: list[float]) -> Shape:
    left = iter(factors)
    changes = {}
    for name in shape.moved:
        value = getattr(shape, name)
        changes[name] = tuple(one * next(left) for one in value) if isinstance(value, tuple) else value * next(left)
    moved: Shape = replace(shape, **changes)  # type: ignore[type-var]
    return moved
