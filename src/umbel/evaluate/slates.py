"""Ordered lists of many decisions under one scoring: the exact chance of each step of a Plackett-Luce draw, and means over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float, Int

NOBODY = -1  # no candidate at this position: the list ended


class Steps(NamedTuple):
    """The chance of what was shown at each position given what stands above, and the mean of some value over what might have been."""

    chance: Float[np.ndarray, "decisions positions"]
    expected: Float[np.ndarray, "decisions positions"]


@final
@dataclass(frozen=True, slots=True)
class Slates:
    """What was shown among which candidates: those of all decisions one after another, decision n's from `start[n]`; each has some.

    `shown` are places among all candidates, -1 where the list has ended. `allowed` says which candidates a position chose among, beside
    that what stands above is left out; None where all.

    Position k of logits s is drawn with chance `exp(s_k) / sum exp(s_i)` over what is left and allowed there (Plackett and Luce); the
    product over positions is the chance of the list.

    Example
    -------
    >>> slates = Slates(np.array([0]), np.array([[2, 0]]), candidates=3)
    >>> slates.steps(np.log([1.0, 2.0, 3.0])).chance.round(3).tolist()
    [[0.5, 0.333]]
    """

    start: Int[np.ndarray, "decisions"]
    shown: Int[np.ndarray, "decisions positions"]
    candidates: int
    allowed: Bool[np.ndarray, "positions candidates"] | None = None

    def steps(self, logits: Float[np.ndarray, "candidates"], values: Float[np.ndarray, "candidates"] | None = None) -> Steps:
        """The chances under these logits, and the mean over each step of `values` (0 without); 1 and 0 where the list has ended."""
        worth = np.zeros(self.candidates) if values is None else values
        return self._from_below(logits, worth) if self.allowed is None else self._masked(logits, worth, self.allowed)

    def owner(self) -> Int[np.ndarray, "candidates"]:
        """The decision of each candidate."""
        return np.repeat(np.arange(len(self.start)), np.diff(np.append(self.start, self.candidates)))

    def _from_below(self, logits: Float[np.ndarray, "candidates"], values: Float[np.ndarray, "candidates"]) -> Steps:
        """One pass over the candidates that were not shown; then position by position from the last, each adds itself to what is left.

        With chance p of what was shown, and the mean m over what is left below it, the mean is `p v + (1 - p) m`.
        """
        there = self.shown != NOBODY
        left = np.ones(self.candidates, dtype=bool)
        left[self.shown[there]] = False
        total, mean = self._over(logits, values, left)
        chance, expected = np.ones(self.shown.shape), np.zeros(self.shown.shape)
        for position in reversed(range(self.shown.shape[1])):
            here, at = there[:, position], self.shown[there[:, position], position]
            total[here] = np.logaddexp(total[here], logits[at])
            drawn = np.exp(logits[at] - total[here])
            mean[here] = drawn * values[at] + (1 - drawn) * mean[here]
            chance[here, position], expected[here, position] = drawn, mean[here]
        return Steps(chance, expected)

    def _masked(
        self, logits: Float[np.ndarray, "candidates"], values: Float[np.ndarray, "candidates"],
        allowed: Bool[np.ndarray, "positions candidates"],
    ) -> Steps:
        left = np.ones(self.candidates, dtype=bool)
        chance, expected = np.ones(self.shown.shape), np.zeros(self.shown.shape)
        for position in range(self.shown.shape[1]):
            here = self.shown[:, position] != NOBODY
            at = self.shown[here, position]
            among = left & allowed[position]
            total, mean = self._over(logits, values, among)
            chance[here, position] = np.where(among[at], np.exp(logits[at] - total[here]), 0.0)
            expected[here, position] = mean[here]
            left[at] = False
        return Steps(chance, expected)

    def _over(
        self, logits: Float[np.ndarray, "candidates"], values: Float[np.ndarray, "candidates"], among: Bool[np.ndarray, "candidates"],
    ) -> tuple[Float[np.ndarray, "decisions"], Float[np.ndarray, "decisions"]]:
        """Of each decision's candidates among those: the logarithm of their sum of `exp(s)`, the values' mean by it; of none -inf, 0."""
        held = np.where(among, logits, -np.inf)
        top = np.maximum.reduceat(held, self.start)
        top = np.where(np.isfinite(top), top, 0.0)
        mass = np.exp(held - np.repeat(top, np.diff(np.append(self.start, self.candidates))))
        total = np.add.reduceat(mass, self.start)
        mean = np.divide(np.add.reduceat(mass * values, self.start), total, out=np.zeros(len(total)), where=total > 0)
        with np.errstate(divide="ignore"):
            return np.log(total) + top, mean
